//! Passive health of one uplink in one family, judged by the connections that pass. Pure: no clock, no maps.
//!
//! The data path counts questions to addresses that used to answer, each address once, and first answers
//! ([`pcc_ebpf::peer`]). Several of them silent at the same time, and nobody else answering either, make an uplink
//! *suspect*: a reason to ask its targets at once, never to declare it down. TCP is judged apart from the rest, so that
//! answers of a name server do not hide that no connection comes up.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pcc_ebpf::abi::{Beat, Pulse};

/// Addresses that must be silent at the same time.
pub const SILENT_PEERS: u64 = 3;
/// The shortest time that they have for an answer.
pub const PATIENCE: Duration = Duration::from_millis(300);
/// Among how many round trips; the longer of both holds.
const ROUND_TRIPS: u32 = 3;
/// How far apart their questions may be.
pub const SPREAD: Duration = Duration::from_millis(700);

/// Watches the pulse of one uplink in one family.
#[derive(Clone, Debug)]
pub struct Watch {
    patience: Duration,
    before: Option<Pulse>,
    tcp: Window,
    other: Window,
}

impl Watch {
    /// Nothing has been asked yet.
    pub fn new() -> Self {
        Self { patience: PATIENCE, before: None, tcp: Window::default(), other: Window::default() }
    }

    /// What a round trip by this uplink takes, as its targets tell.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.patience = PATIENCE.max(round_trip.saturating_mul(ROUND_TRIPS));
    }

    /// Takes the counters as they are now, ten times a second or so, and says whether the uplink is suspect: at least
    /// [`SILENT_PEERS`] questions, asked within [`SPREAD`], are older than the patience, and there was no answer since
    /// the first of them. `now` does not go back.
    pub fn sample(&mut self, pulse: Pulse, now: Instant) -> bool {
        let Some(before) = self.before.replace(pulse) else { return false };
        let (patience, keep) = (self.patience, self.patience + SPREAD);
        let tcp = self.tcp.sample(before.tcp, pulse.tcp, patience, keep, now);
        let other = self.other.sample(before.other, pulse.other, patience, keep, now);
        tcp || other
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

/// The questions of one kind since the last answer, oldest first: when they were seen, and how many.
#[derive(Clone, Debug, Default)]
struct Window(VecDeque<(Instant, u64)>);

impl Window {
    fn sample(&mut self, before: Beat, beat: Beat, patience: Duration, keep: Duration, now: Instant) -> bool {
        // Counters that went back are those of other programs.
        let Some(asked) = beat.asked.checked_sub(before.asked).filter(|_| beat.answered == before.answered) else {
            self.0.clear();
            return false;
        };
        if asked > 0 {
            self.0.push_back((now, asked));
        }
        let age = |at: &Instant| now.saturating_duration_since(*at);
        while self.0.front().is_some_and(|(at, _)| age(at) > keep) {
            self.0.pop_front();
        }
        let silent = self.0.iter().filter(|(at, _)| age(at) >= patience).map(|(_, asked)| asked);
        silent.sum::<u64>() >= SILENT_PEERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STEP: Duration = Duration::from_millis(100);

    /// Feeds questions and answers of TCP, one pair for each tenth of a second, and returns the steps that are suspect.
    fn suspects(watch: &mut Watch, steps: &[(u64, u64)]) -> Vec<usize> {
        let begin = Instant::now();
        let mut pulse = Pulse::default();
        watch.sample(pulse, begin);
        let mut found = Vec::new();
        for (step, (asked, answered)) in steps.iter().enumerate() {
            pulse.tcp.asked += asked;
            pulse.tcp.answered += answered;
            if watch.sample(pulse, begin + STEP * (step as u32 + 1)) {
                found.push(step);
            }
        }
        found
    }

    #[test]
    fn a_black_hole_with_ten_connections_a_second_is_suspect_within_a_second() {
        let steps = [(1, 0); 20];
        assert_eq!(suspects(&mut Watch::new(), &steps).first(), Some(&5), "600 ms after the first question");
        let burst = [(10, 0), (0, 0), (0, 0), (0, 0), (0, 0)];
        assert_eq!(suspects(&mut Watch::new(), &burst), [3, 4]);
    }

    #[test]
    fn an_answer_ends_the_suspicion() {
        let steps = [(3, 0), (0, 0), (0, 0), (0, 0), (0, 1), (0, 0), (0, 0), (0, 0), (2, 0), (0, 0), (0, 0), (0, 0)];
        assert_eq!(suspects(&mut Watch::new(), &steps), [3]);
    }

    #[test]
    fn few_questions_or_rare_ones_are_no_reason() {
        assert!(suspects(&mut Watch::new(), &[(2, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0)]).is_empty());
        let rare: Vec<_> = (0..100).map(|step| (u64::from(step % 6 == 0), 0)).collect();
        assert!(suspects(&mut Watch::new(), &rare).is_empty(), "one in 600 ms");
    }

    #[test]
    fn far_away_networks_get_more_time() {
        let mut watch = Watch::new();
        watch.set_round_trip(Duration::from_millis(600));
        let mut steps = vec![(3, 0)];
        steps.extend([(0, 0); 30]);
        assert_eq!(suspects(&mut watch, &steps).first(), Some(&18));
        watch.set_round_trip(Duration::from_millis(1));
        assert_eq!(suspects(&mut watch, &steps).first(), Some(&3));
    }

    #[test]
    fn what_was_counted_before_and_other_programs_are_no_questions() {
        let now = Instant::now();
        let of = |asked, answered| Pulse { tcp: Beat { asked, answered }, ..Pulse::default() };
        let mut watch = Watch::new();
        assert!(!watch.sample(of(1000, 7), now));
        assert!(!watch.sample(of(1000, 7), now + STEP * 4));
        assert!(!watch.sample(of(3, 0), now + STEP * 5));
        assert!(!watch.sample(of(3, 0), now + STEP * 9));
        assert!(!watch.sample(of(6, 0), now + STEP * 10));
        assert!(watch.sample(of(6, 0), now + STEP * 13));
    }

    #[test]
    fn answers_of_another_kind_hide_nothing() {
        let begin = Instant::now();
        let (mut watch, mut pulse) = (Watch::new(), Pulse::default());
        watch.sample(pulse, begin);
        let found: Vec<bool> = (1..8)
            .map(|step| {
                pulse.tcp.asked += 1;
                pulse.other.answered += 1;
                watch.sample(pulse, begin + STEP * step)
            })
            .collect();
        assert!(found.contains(&true));
        pulse.tcp.answered += 1;
        assert!(!watch.sample(pulse, begin + STEP * 8));
    }

    fn steps() -> impl Strategy<Value = Vec<(u64, u64)>> {
        let answered = prop_oneof![3 => Just(0), 1 => 1_u64..5];
        prop::collection::vec((0_u64..4, answered), 1..60)
    }

    proptest! {
        /// Suspect means exactly: three questions at once too old, not too far apart, and nothing came back since.
        #[test]
        fn the_judgement_is_as_defined(steps in steps()) {
            let found = suspects(&mut Watch::new(), &steps);
            for now in 0..steps.len() {
                let since = steps[..=now].iter().rposition(|(_, answered)| *answered > 0).map_or(0, |at| at + 1);
                let oldest = since.max(now.saturating_sub(10));
                let youngest = (now + 1).saturating_sub(3);
                let silent: u64 = steps.get(oldest..youngest).into_iter().flatten().map(|(asked, _)| asked).sum();
                prop_assert_eq!(found.contains(&now), silent >= SILENT_PEERS, "step {}", now);
            }
        }

        #[test]
        fn an_answer_in_every_window_keeps_an_uplink_above_suspicion(steps in steps(), offset in 0_usize..3) {
            let mut steps = steps;
            // More often than the patience.
            steps.iter_mut().skip(offset).step_by(3).for_each(|step| step.1 += 1);
            prop_assert!(suspects(&mut Watch::new(), &steps).is_empty());
        }

        #[test]
        fn a_black_hole_is_suspect_within_a_second(before in steps(), asked in prop::collection::vec(1_u64..5, 10)) {
            let mut steps = before;
            let begin = steps.len();
            steps.push((0, 1));
            steps.extend(asked.into_iter().map(|asked| (asked, 0)));
            let found = suspects(&mut Watch::new(), &steps);
            prop_assert!(found.iter().any(|step| (begin + 1..begin + 11).contains(step)));
        }
    }
}
