//! Pure: which lines are one too many.
//!
//! Within a minute a place in the code gets so many lines, and so many of them with the same text. What is not written is
//! counted, and the count is written when the minute is over.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use tracing::Level;
use tracing::callsite::Identifier;

const WINDOW: Duration = Duration::from_secs(60);
/// Lines with the same text from the same place.
const SAME: u32 = 20;
/// Lines from the same place.
const PLACE: usize = 200;

/// What was written of late, by place.
#[derive(Debug, Default)]
pub struct Throttle {
    places: HashMap<Identifier, Place>,
    over: Vec<Suppressed>,
}

#[derive(Debug)]
struct Place {
    since: Instant,
    /// How often each text was written.
    texts: HashMap<String, u32>,
    written: usize,
    suppressed: Option<Suppressed>,
}

/// What was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppressed {
    /// How important it was.
    pub level: Level,
    count: u64,
    /// The first of them.
    text: String,
}

impl fmt::Display for Suppressed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} more like this suppressed: {}", self.count, self.text)
    }
}

impl Throttle {
    /// Whether `text` is to be written at `now`.
    pub fn admits(&mut self, place: Identifier, level: Level, text: String, now: Instant) -> bool {
        let fresh = || Place { since: now, texts: HashMap::new(), written: 0, suppressed: None };
        let place = self.places.entry(place).or_insert_with(fresh);
        if now >= place.since + WINDOW {
            self.over.extend(std::mem::replace(place, fresh()).suppressed);
        }
        if place.written < PLACE && place.texts.get(&text).is_none_or(|times| *times < SAME) {
            place.written += 1;
            *place.texts.entry(text).or_default() += 1;
            return true;
        }
        place.suppressed.get_or_insert(Suppressed { level, count: 0, text }).count += 1;
        false
    }

    /// What was suppressed in minutes that are over at `now`, each once. Places that are quiet are forgotten.
    pub fn over(&mut self, now: Instant) -> Vec<Suppressed> {
        let (places, over) = (&mut self.places, &mut self.over);
        places.retain(|_, place| {
            let is_over = now >= place.since + WINDOW;
            if is_over {
                over.extend(place.suppressed.take());
            }
            !is_over
        });
        std::mem::take(over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Callsite as _;
    use tracing::callsite::DefaultCallsite;

    fn place() -> Identifier {
        static HERE: DefaultCallsite = {
            static META: tracing::Metadata<'static> = tracing::metadata! {
                name: "here", target: "test", level: Level::WARN, fields: &[], callsite: &HERE,
                kind: tracing::metadata::Kind::EVENT
            };
            DefaultCallsite::new(&META)
        };
        HERE.metadata().callsite()
    }

    #[test]
    fn the_same_text_comes_so_often_and_its_rest_is_counted() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let mut admits = |text: &str, now| throttle.admits(place(), Level::WARN, text.to_owned(), now);
        let written = (0..100).filter(|_| admits("a down", now)).count();
        assert_eq!(written, SAME as usize);
        assert!(admits("b down", now), "another one is another one");
        assert!(!admits("a down", now + WINDOW - Duration::from_millis(1)));
        assert!(admits("a down", now + WINDOW), "a new minute");
        let texts: Vec<_> = throttle.over(now + WINDOW).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["81 more like this suppressed: a down"]);
        assert_eq!(throttle.over(now + 3 * WINDOW), []);
    }

    #[test]
    fn different_texts_of_one_place_are_no_flood_either() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let written = (0..10_000).filter(|n| throttle.admits(place(), Level::WARN, n.to_string(), now)).count();
        assert_eq!(written, PLACE);
        assert_eq!(throttle.over(now), [], "not over yet");
        let over = throttle.over(now + WINDOW);
        assert_eq!(over, [Suppressed { level: Level::WARN, count: 10_000 - PLACE as u64, text: PLACE.to_string() }]);
        assert!(throttle.places.is_empty());
    }
}
