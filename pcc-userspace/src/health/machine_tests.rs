use proptest::prelude::*;

use super::*;

const TIMING: Timing =
    Timing { interval: Duration::from_millis(400), timeout: Duration::from_millis(400), losses: 3, answers: 3 };

/// A machine with a clock of its own.
struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    fn new(pings: bool, carrier: bool) -> Self {
        let now = Instant::now();
        Self { machine: Machine::new(TIMING, pings, carrier, now), now }
    }

    fn handle(&mut self, event: Event) -> Option<State> {
        self.machine.handle(event, self.now).map(|transition| transition.to)
    }

    /// Sleeps as a driver does until something changes or `limit` has passed; answers every probe after 10 ms if `answers`.
    fn run(&mut self, limit: Duration, answers: bool) -> Option<State> {
        let end = self.now + limit;
        loop {
            let next = self.machine.next_deadline().filter(|next| *next <= end)?;
            self.now = self.now.max(next);
            if let Some(to) = self.handle(Event::Tick) {
                return Some(to);
            }
            if let Some(sequence) = self.machine.next_probe(self.now) {
                self.handle(Event::Sent(sequence));
                if answers {
                    self.now += Duration::from_millis(10);
                    if let Some(to) = self.handle(Event::Answered(sequence)) {
                        return Some(to);
                    }
                }
            }
        }
    }
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_silent_gateway_is_down_within_two_seconds_and_returns() {
    let mut bench = Bench::new(true, true);
    assert!(bench.machine.state().is_usable());
    assert_eq!(bench.run(LONG, true), Some(State::Up));
    let last_answer = bench.now;
    assert_eq!(bench.run(LONG, false), Some(State::Down(Reason::Silent)));
    assert!(bench.now - last_answer <= Duration::from_millis(1600));
    assert_eq!(bench.run(LONG, false), None);
    assert_eq!(bench.run(LONG, true), Some(State::Up));
}

#[test]
fn a_gateway_that_never_answered_is_a_reason_of_its_own() {
    let mut bench = Bench::new(true, true);
    let start = bench.now;
    assert_eq!(bench.run(LONG, false), Some(State::Down(Reason::NeverAnswered)));
    assert_eq!(bench.now - start, Duration::from_millis(1200));
    assert!(bench.machine.state().to_string().starts_with("down: no ping was ever answered"));
}

#[test]
fn carrier_loss_counts_at_once_and_its_return_is_probed_at_once() {
    let mut bench = Bench::new(true, true);
    bench.run(LONG, true);
    assert_eq!(bench.handle(Event::Carrier(false)), Some(State::Down(Reason::NoCarrier)));
    assert_eq!((bench.machine.next_deadline(), bench.machine.next_probe(bench.now)), (None, None));
    assert_eq!(bench.handle(Event::Carrier(false)), None);
    assert_eq!(bench.handle(Event::Carrier(true)), Some(State::Down(Reason::Returning)));
    let back = bench.now;
    assert_eq!(bench.machine.next_deadline(), Some(back));
    assert_eq!(bench.run(LONG, true), Some(State::Up));
    assert!(bench.now - back < Duration::from_millis(900));
}

#[test]
fn an_answer_to_a_probe_from_before_the_flap_does_not_count() {
    let mut bench = Bench::new(true, true);
    let sequence = bench.machine.next_probe(bench.now).unwrap();
    bench.handle(Event::Sent(sequence));
    bench.handle(Event::Carrier(false));
    bench.handle(Event::Carrier(true));
    assert_ne!(bench.machine.next_probe(bench.now), Some(sequence));
    bench.handle(Event::Answered(sequence));
    assert!(matches!(bench.machine.run, Run::Answers(0)));
}

#[test]
fn with_nothing_to_ping_the_carrier_decides() {
    let mut bench = Bench::new(false, true);
    assert_eq!((bench.machine.state(), bench.machine.next_deadline()), (State::Up, None));
    assert_eq!(bench.handle(Event::Carrier(false)), Some(State::Down(Reason::NoCarrier)));
    assert_eq!(bench.handle(Event::Carrier(true)), Some(State::Up));
    assert_eq!(Bench::new(false, false).machine.state(), State::Down(Reason::NoCarrier));
}

/// The history of an uplink, from which the state is computed anew each time.
struct Model {
    pings: bool,
    carrier: bool,
    /// There was a time without carrier.
    flapped: bool,
    /// Deadline and fate of each probe since the last change of carrier.
    probes: Vec<(u16, Instant)>,
    /// In the order in which they became known, since the last change of carrier: answered or not.
    outcomes: Vec<bool>,
    ever_answered: bool,
}

impl Model {
    fn state(&self, count: usize) -> State {
        if !self.carrier {
            return State::Down(Reason::NoCarrier);
        }
        if !self.pings {
            return State::Up;
        }
        let mut state = if self.flapped { State::Down(Reason::Returning) } else { State::Unknown };
        let mut ever_answered = self.ever_answered;
        for end in 1..=self.outcomes.len() {
            ever_answered |= self.outcomes[end - 1];
            match end.checked_sub(count).map(|start| &self.outcomes[start..end]) {
                Some(last) if last.iter().all(|answered| *answered) => state = State::Up,
                Some(last) if last.iter().all(|answered| !answered) => {
                    state = State::Down(if ever_answered { Reason::Silent } else { Reason::NeverAnswered });
                }
                _ => {}
            }
        }
        state
    }

    fn expire(&mut self, now: Instant) {
        let before = self.probes.len();
        self.probes.retain(|(_, deadline)| *deadline > now);
        self.outcomes.extend(std::iter::repeat_n(false, before - self.probes.len()));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Probe,
    Answer(prop::sample::Index),
    Fail(prop::sample::Index),
    Stray(u16),
    Carrier(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u64..500).prop_map(Step::Wait),
        6 => Just(Step::Probe),
        6 => any::<prop::sample::Index>().prop_map(Step::Answer),
        2 => any::<prop::sample::Index>().prop_map(Step::Fail),
        1 => any::<u16>().prop_map(Step::Stray),
        1 => any::<bool>().prop_map(Step::Carrier),
    ]
}

proptest! {
    #[test]
    fn it_agrees_with_its_history(
        pings in prop::bool::weighted(0.9),
        carrier in prop::bool::weighted(0.9),
        count in 1_u32..5,
        timeout in 10_u64..1500,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let timing = Timing { timeout: Duration::from_millis(timeout), losses: count, answers: count, ..TIMING };
        let mut now = Instant::now();
        let mut machine = Machine::new(timing, pings, carrier, now);
        let mut model = Model { pings, carrier, flapped: !carrier, probes: vec![], outcomes: vec![], ever_answered: false };
        for step in steps {
            let before = machine.state();
            let event = match step {
                Step::Wait(milliseconds) => {
                    now += Duration::from_millis(milliseconds);
                    Event::Tick
                }
                Step::Probe => match machine.next_probe(now) {
                    Some(sequence) => Event::Sent(sequence),
                    None => Event::Tick,
                },
                Step::Answer(index) if !model.probes.is_empty() => Event::Answered(index.get(&model.probes).0),
                Step::Fail(index) if !model.probes.is_empty() => Event::Failed(index.get(&model.probes).0),
                Step::Answer(_) | Step::Fail(_) => Event::Tick,
                Step::Stray(sequence) => Event::Answered(sequence),
                Step::Carrier(carrier) => Event::Carrier(carrier),
            };
            model.expire(now);
            match event {
                Event::Sent(sequence) => model.probes.push((sequence, now + timing.timeout)),
                Event::Answered(sequence) | Event::Failed(sequence) => {
                    if let Some(index) = model.probes.iter().position(|(waiting, _)| *waiting == sequence) {
                        model.probes.remove(index);
                        model.outcomes.push(matches!(event, Event::Answered(_)));
                    }
                }
                Event::Carrier(carrier) if carrier != model.carrier => {
                    model.ever_answered |= model.outcomes.contains(&true);
                    model.flapped |= !carrier;
                    model.carrier = carrier;
                    model.probes.clear();
                    model.outcomes.clear();
                }
                Event::Carrier(_) | Event::Tick => {}
            }
            let transition = machine.handle(event, now);
            prop_assert_eq!(machine.state(), model.state(count as usize));
            let expected = (before != machine.state()).then_some(Transition { from: before, to: machine.state() });
            prop_assert_eq!(transition, expected);
            prop_assert_eq!(machine.next_deadline().is_some(), model.carrier && model.pings);
            prop_assert!(machine.waiting.iter().all(|probe| probe.deadline > now));
        }
    }
}
