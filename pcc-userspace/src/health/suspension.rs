//! New connections are withheld from an uplink that passive health suspects. Pure.

use std::time::{Duration, Instant};

/// Withholds new connections for [`Self::FIRST`]; twice as long each time that the suspicion returns before as much time as the
/// last suspension took, a minute at least, has passed; at most [`Self::LONGEST`].
///
/// It only ends by time, and by [`Self::end`] when a carrier or a person says that this is another line now: answers to probes
/// do not end it, because a suspicion arises just where probes are answered and connections are not.
#[derive(Clone, Debug, Default)]
pub struct Suspension {
    until: Option<Instant>,
    length: Duration,
}

impl Suspension {
    /// The first suspension.
    pub const FIRST: Duration = Duration::from_secs(10);
    /// The longest one.
    pub const LONGEST: Duration = Duration::from_secs(300);
    const MEMORY: Duration = Duration::from_secs(60);

    /// There is a suspicion. While a suspension lasts it changes nothing: there are no new connections that could arouse another.
    pub fn suspect(&mut self, now: Instant) {
        if self.is_active(now) {
            return;
        }
        let again = self.until.is_some_and(|until| now < until + self.length.max(Self::MEMORY));
        self.length = if again { (self.length * 2).min(Self::LONGEST) } else { Self::FIRST };
        self.until = Some(now + self.length);
    }

    /// New connections are withheld at `now`.
    pub fn is_active(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// When it ends, if it lasts at `now`.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }

    /// Forgets every suspicion.
    pub fn end(&mut self) {
        *self = Self::default();
    }
}
