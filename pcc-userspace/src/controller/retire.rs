//! Connections that end at a time: those of uplinks that are not needed any more or drained, and those that are left after
//! their clients were told. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::host::Family;

/// An uplink, by id, in a family.
type Part = (u32, Family);

/// Clients are told for so long before what is left of their connections is forgotten: a client that speaks late is met by
/// the reset too.
const TOLD: Duration = Duration::from_secs(2);

/// What ends when.
#[derive(Clone, Debug, Default)]
pub struct Retiring {
    told: BTreeMap<Part, Instant>,
    /// The time that they have, and its end; `None`: it is over.
    retired: BTreeMap<Part, (Duration, Option<Instant>)>,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Stop telling these.
    pub finish: Vec<Part>,
    /// End the connections of these.
    pub end: Vec<Part>,
}

impl Retiring {
    /// The clients of `parts` are being told since `now`.
    pub fn told(&mut self, parts: &[Part], now: Instant) {
        self.told.extend(parts.iter().map(|part| (*part, now + TOLD)));
    }

    /// The connections of exactly these are to end, each after its time from when it was first in here.
    pub fn sync(&mut self, retired: &BTreeMap<Part, Duration>, now: Instant) {
        self.retired.retain(|part, (time, _)| retired.get(part) == Some(time));
        for (part, time) in retired {
            self.retired.entry(*part).or_insert((*time, Some(now + *time)));
        }
    }

    /// What is due at `now`, once.
    pub fn due(&mut self, now: Instant) -> Due {
        let finish: Vec<Part> = self.told.iter().filter(|(_, end)| **end <= now).map(|(part, _)| *part).collect();
        self.told.retain(|part, _| !finish.contains(part));
        let mut end = Vec::new();
        for (part, (_, deadline)) in &mut self.retired {
            if deadline.is_some_and(|deadline| deadline <= now) {
                *deadline = None;
                end.push(*part);
            }
        }
        Due { finish, end }
    }

    /// When to look for what is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let retired = self.retired.values().filter_map(|(_, deadline)| *deadline);
        self.told.values().copied().chain(retired).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: Part = (2, Family::V4);

    #[test]
    fn connections_end_once_after_their_time_and_not_if_they_are_needed_again() {
        let now = Instant::now();
        let minute = Duration::from_secs(60);
        let retired: BTreeMap<Part, Duration> = [(PART, minute)].into();
        let mut retiring = Retiring::default();
        retiring.sync(&retired, now);
        retiring.sync(&retired, now + minute / 2);
        assert_eq!(retiring.next_deadline(), Some(now + minute));
        assert_eq!(retiring.due(now + minute / 2), Due::default());
        assert_eq!(retiring.due(now + minute), Due { finish: vec![], end: vec![PART] });
        assert_eq!(retiring.due(now + 2 * minute), Due::default());
        assert_eq!(retiring.next_deadline(), None);
        retiring.sync(&BTreeMap::new(), now);
        retiring.sync(&retired, now);
        retiring.sync(&BTreeMap::new(), now);
        assert_eq!(retiring.due(now + 2 * minute), Due::default(), "needed again in time");
        retiring.sync(&retired, now);
        retiring.sync(&[(PART, Duration::ZERO)].into(), now);
        assert_eq!(retiring.due(now).end, [PART], "another time counts from now");
    }

    #[test]
    fn clients_are_told_for_a_while() {
        let now = Instant::now();
        let mut retiring = Retiring::default();
        retiring.told(&[PART], now);
        assert_eq!(retiring.due(now + TOLD / 2), Due::default());
        assert_eq!(retiring.due(now + TOLD), Due { finish: vec![PART], end: vec![] });
        assert_eq!(retiring.next_deadline(), None);
    }
}
