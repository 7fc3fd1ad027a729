//! Fail-over: each way to fail, many times.

use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::lab::outage::{self, Outage};
use tests::lab::{Defaults, Lab, PATIENCE, Pcc, Settings};

#[derive(Args)]
pub struct Options {
    /// Runs of each way to fail.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Only the ways whose names contain TEXT.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// One way to fail.
struct Way {
    name: &'static str,
    goal: Duration,
    /// Keys of each uplink.
    keys: &'static str,
    /// Makes an uplink fail, or ends that.
    set: fn(&Lab, u32, bool),
    until: Until,
}

/// What ends the time that is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// The begin of the first connection after the last that did not succeed on its first SYN; connections are begun all
    /// the time.
    Connections,
    /// The same, but nobody opens any until the log says that the uplink is down.
    Down,
    /// The log says that it is degraded, or down.
    Noticed,
}

/// Addresses beyond the gateway: it lives while they do not.
const BEYOND: &str = r#"check = { target = ["203.0.113.201", "203.0.113.202", "2001:db8:9::201", "2001:db8:9::202"] }"#;

const WAYS: [Way; 5] = [
    Way {
        name: "carrier lost",
        goal: Duration::from_millis(100),
        keys: "",
        set: |lab, number, fails| lab.carrier(number, !fails),
        until: Until::Connections,
    },
    Way {
        name: "gateway silent",
        goal: Duration::from_secs(1),
        keys: "",
        set: Lab::silence,
        until: Until::Connections,
    },
    Way {
        name: "black hole behind the gateway, with traffic",
        goal: Duration::from_secs(1),
        keys: BEYOND,
        set: Lab::black_hole,
        until: Until::Connections,
    },
    Way {
        name: "black hole behind the gateway, without traffic",
        goal: Duration::from_secs(2),
        keys: BEYOND,
        set: Lab::black_hole,
        until: Until::Down,
    },
    Way {
        name: "30 % loss noticed",
        goal: Duration::from_secs(10),
        keys: "",
        set: |lab, number, fails| lab.loss(number, if fails { 30 } else { 0 }),
        until: Until::Noticed,
    },
];

/// So many times its goal a way may take before the run is given up.
const GIVE_UP: u32 = 5;
/// Between two new connections.
const EVERY: Duration = Duration::from_millis(5);
/// Connections after a silent failure was found.
const AFTERWARDS: Duration = Duration::from_millis(500);

/// What the runs of a way took, in IPv4 and IPv6; `None` for one that was given up.
struct Result {
    way: &'static Way,
    took: [Vec<Option<Duration>>; 2],
}

pub fn run(options: &Options) -> bool {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let wanted = |way: &&Way| options.only.as_ref().is_none_or(|text| way.name.contains(text.as_str()));
    let results: Vec<_> = WAYS.iter().filter(wanted).map(|way| Result::measure(&lab, way, options.runs)).collect();
    if options.json {
        println!("{:#}", Value::Array(results.iter().map(Result::json).collect()));
    } else {
        println!("| what | goal | IPv4 median | worst | IPv6 median | worst |\n| --- | --- | --- | --- | --- | --- |");
        for result in &results {
            println!("{}", result.row());
        }
    }
    results.iter().all(Result::is_within_goal)
}

impl Result {
    fn measure(lab: &Lab, way: &'static Way, runs: u32) -> Self {
        let settings = Settings::new(&[(1, way.keys), (2, way.keys)]);
        let mut took = [Vec::new(), Vec::new()];
        for run in 0..runs {
            // A controller that knows nothing of the last run; both uplinks in turn.
            let mut pcc = settings.run(lab, &[1, 2]);
            let outcome = way.measure(lab, &pcc, run % 2 + 1, 2_000 + (run % 40 * 1_500) as u16);
            eprintln!("{}, run {}: {}, {}", way.name, run + 1, show(outcome[0]), show(outcome[1]));
            pcc.signal(Signal::TERM);
            pcc.wait(PATIENCE);
            for (all, one) in took.iter_mut().zip(outcome) {
                all.push(one);
            }
        }
        for times in &mut took {
            times.sort_by_key(|time| time.unwrap_or(Duration::MAX));
        }
        Self { way, took }
    }

    /// The worse of both middle ones where there are two.
    fn median(&self, family: usize) -> Option<Duration> {
        self.took[family].get(self.took[family].len() / 2).copied().flatten()
    }

    fn worst(&self, family: usize) -> Option<Duration> {
        self.took[family].last().copied().flatten()
    }

    fn is_within_goal(&self) -> bool {
        [0, 1].into_iter().all(|family| self.worst(family).is_some_and(|worst| worst <= self.way.goal))
    }

    fn row(&self) -> String {
        let time = |time: Option<Duration>| {
            time.map_or_else(|| format!("> {}", show(Some(self.way.limit()))), |it| show(Some(it)))
        };
        let cells = [0, 1].map(|family| format!("{} | {}", time(self.median(family)), time(self.worst(family))));
        format!("| {} | {} | {} | {} |", self.way.name, show(Some(self.way.goal)), cells[0], cells[1])
    }

    fn json(&self) -> Value {
        let milliseconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64() * 1e3);
        let family = |family: usize| {
            let all: Vec<_> = self.took[family].iter().map(|time| milliseconds(*time)).collect();
            json!({
                "median_ms": milliseconds(self.median(family)),
                "worst_ms": milliseconds(self.worst(family)),
                "runs_ms": all,
            })
        };
        json!({
            "what": self.way.name,
            "goal_ms": milliseconds(Some(self.way.goal)),
            "ipv4": family(0),
            "ipv6": family(1),
        })
    }
}

impl Way {
    fn limit(&self) -> Duration {
        self.goal * GIVE_UP
    }

    /// One run on uplink `number`, with connections from the source port `from` up.
    fn measure(&self, lab: &Lab, pcc: &Pcc, number: u32, from: u16) -> [Option<Duration>; 2] {
        let fail = || (self.set)(lab, number, true);
        let outcome = match self.until {
            Until::Connections => {
                // The servers used to answer.
                lab.try_new(100);
                // A little more, so that what recovers within the limit can be told from what does not.
                let watch = self.limit() + Duration::from_millis(200);
                outage::measure(lab, watch, EVERY, from, fail).map(|outage| self.within(outage.gap))
            }
            Until::Down | Until::Noticed => {
                let seen = pcc.lines();
                let moment = Instant::now();
                fail();
                let said = self.wait_for_log(pcc, seen, number, moment);
                if self.until == Until::Noticed || said.contains(&None) {
                    said
                } else {
                    let later = outage::measure_since(lab, moment, AFTERWARDS, EVERY, from);
                    let longer = |(said, later): (Option<Duration>, Outage)| self.within(said?.max(later.gap));
                    let [four, six] = later;
                    [longer((said[0], four)), longer((said[1], six))]
                }
            }
        };
        (self.set)(lab, number, false);
        outcome
    }

    fn within(&self, time: Duration) -> Option<Duration> {
        (time <= self.limit()).then_some(time)
    }

    /// When the log said it, in each family.
    fn wait_for_log(&self, pcc: &Pcc, seen: usize, number: u32, moment: Instant) -> [Option<Duration>; 2] {
        let words: &[&str] = if self.until == Until::Noticed { &["degraded", "down"] } else { &["down"] };
        let mut said = [None, None];
        while moment.elapsed() < self.limit() && said.contains(&None) {
            for (said, family) in said.iter_mut().zip(["IPv4", "IPv6"]) {
                let line = |word: &&str| format!("uplink wan{number} {family}: {word}");
                if said.is_none()
                    && words.iter().any(|word| pcc.find_after(seen, &line(word), Duration::ZERO).is_some())
                {
                    *said = Some(moment.elapsed());
                }
            }
            sleep(Duration::from_millis(1));
        }
        said
    }
}

fn show(time: Option<Duration>) -> String {
    match time {
        None => "given up".to_owned(),
        Some(time) if time < Duration::from_secs(1) => format!("{} ms", time.as_millis()),
        Some(time) => format!("{:.2} s", time.as_secs_f64()),
    }
}
