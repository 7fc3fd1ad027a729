//! Kernel and reference side by side.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use crate::bench::{Answer, Bench, Loaded};
use crate::generate::{Case, Sent};
use crate::reference::{Connection, Mark, Marks, Memory, Packet, Walk, walk};
use crate::rules::{ACTIONS, Action, CHANCES, MATCHERS};
use crate::world::CONNECTION_MARKS;

/// How often each matcher and action was come to, and with which result.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// By property or action with its variant: not matching, matching.
    counts: BTreeMap<(&'static str, &'static str), [u64; 2]>,
    /// Packets.
    pub packets: u64,
    /// How often they came in.
    pub walks: u64,
}

/// What the cache has for a flow: the mark, and whether it is conntrack's.
type Cached = Option<(Mark, bool)>;

/// Every packet of the case, as the first ones of a connection and as later ones of a connection that is known. The error
/// tells the first disagreement.
pub fn compare(bench: &mut Bench, loaded: &Loaded, case: &Case, coverage: &mut Coverage) -> Result<(), String> {
    bench.publish(loaded, case.seed);
    let mut trial = Trial { bench, loaded, case, coverage, memory: Memory::default() };
    for (at, sent) in case.packets.iter().enumerate() {
        trial.coverage.packets += 1;
        let complain = |reason| format!("packet {at}, {sent:?}\n{reason}");
        trial.bench.forget();
        trial.follow(sent, None).map_err(|reason| complain(format!("as the first ones: {reason}")))?;
        let Some(key) = sent.packet.key() else { continue };
        if sent.packet.source.is_multicast() {
            trial.bench.know(loaded, key, sent.mark);
        } else {
            let answer = sent.packet.answer();
            trial.bench.leave(loaded, answer.interface, &answer.frame(sent.extended), sent.mark);
        }
        let cached = Some((sent.mark, true));
        trial.follow(sent, cached).map_err(|reason| complain(format!("known as {:?}: {reason}", sent.mark)))?;
    }
    Ok(())
}

struct Trial<'a> {
    bench: &'a mut Bench,
    loaded: &'a Loaded,
    case: &'a Case,
    coverage: &'a mut Coverage,
    memory: Memory,
}

impl Trial<'_> {
    /// A packet, the same once more, another one of its flow, and the first again.
    fn follow(&mut self, sent: &Sent, mut cached: Cached) -> Result<(), String> {
        let [frame, another] = [&sent.packet, &sent.another].map(|packet| packet.frame(sent.extended));
        let (first, other) = ((&sent.packet, &frame), (&sent.another, &another));
        for (at, (packet, frame)) in [first, first, other, first].into_iter().enumerate() {
            self.coverage.walks += 1;
            let answer = self.bench.run(self.loaded, packet.interface, frame, sent.dirt)?;
            if answer.foreign != self.loaded.foreign(sent.dirt) {
                return Err(format!("bits of others: {:#x} became {:#x}", sent.dirt, answer.foreign));
            }
            // What begins a connection, or belongs to another one than its addresses say, does not look in the cache.
            let known = if packet.opens() || packet.key().is_none() { None } else { cached };
            let judged = self.judge(packet, known, answer);
            let mark = judged.map_err(|reason| format!("packet {} of 4, {reason}", at + 1))?;
            if packet.key().is_some() {
                cached = Some((mark, known.is_some_and(|(_, certain)| certain)));
            }
        }
        Ok(())
    }

    /// Whether the reference can have come to `answer`, whatever the dice said: the connection's mark afterwards.
    fn judge(&mut self, packet: &Packet, known: Cached, answer: Answer) -> Result<Mark, String> {
        let (mark, certain) = known.unwrap_or((None, false));
        let connection = Connection { mark, established: certain };
        let mut complaint = String::new();
        let (mut dice, mut throws) = (0, 0);
        while dice < 1_u32 << throws {
            let mut after = self.memory.clone();
            let walked = walk(&self.case.router, self.case.seed, &mut after, packet, connection, dice);
            throws = throws.max(walked.thrown.min(12));
            let Err(reason) = self.agrees(packet, certain, answer, &walked, dice) else {
                self.coverage.add(self.case, &walked);
                let connection = walked.marks.connection;
                self.memory = after;
                return Ok(connection);
            };
            let _ = write!(
                complaint,
                "\nthe reference: {:?}, {reason}, rules that match: {:?}",
                walked.marks, walked.matched
            );
            dice += 1;
        }
        Err(format!(
            "by {}, connection {known:?}\nthe kernel: {:?}, tentative: {}{complaint}",
            packet.interface, answer.marks, answer.tentative
        ))
    }

    fn agrees(&self, packet: &Packet, certain: bool, answer: Answer, walked: &Walk, dice: u32) -> Result<(), String> {
        // A connection mark that no rule sets is left to conntrack.
        let unwritten = !walked.written && !answer.tentative;
        let connection = if unwritten { None } else { walked.marks.connection };
        if answer.marks != (Marks { connection, ..walked.marks }) {
            return Err("which differs".into());
        }
        if answer.tentative && (certain || !walked.asked) {
            return Err("and nothing to be tentative about".into());
        }
        if answer.tentative || certain || !walked.asked {
            return Ok(());
        }
        // What is final must not depend on what is not known.
        let marks = CONNECTION_MARKS.iter().map(|mark| (Some(*mark), true)).chain([(None, true), (None, false)]);
        for (mark, established) in marks {
            let mut memory = self.memory.clone();
            let connection = Connection { mark, established };
            let other = walk(&self.case.router, self.case.seed, &mut memory, packet, connection, dice);
            let same = (other.marks.packet, other.marks.routing) == (walked.marks.packet, walked.marks.routing);
            let written = other.marks.connection == walked.marks.connection || !walked.written;
            if !same || !written || other.written != walked.written {
                return Err(format!("and final, but {:?} if the connection has {mark:?}", other.marks));
            }
        }
        Ok(())
    }
}

impl Coverage {
    fn add(&mut self, case: &Case, walked: &Walk) {
        let mut count = |name, variant, held: bool| {
            self.counts.entry((name, variant)).or_default()[usize::from(held)] += 1;
        };
        for (rule, index, held) in &walked.looked_at {
            let matcher = &case.router.rules[*rule].matchers[*index];
            count(matcher.test.property(), if matcher.negated { "negated" } else { "" }, *held);
        }
        for (rule, held) in &walked.reached {
            let rule = &case.router.rules[*rule];
            let variant = if matches!(rule.action, Action::Mark(..)) && !rule.passthrough { "ends" } else { "" };
            count(rule.action.name(), variant, *held);
        }
    }

    /// Adds what another run counted.
    pub fn merge(&mut self, other: Self) {
        self.packets += other.packets;
        self.walks += other.walks;
        for (key, counts) in other.counts {
            let sum = self.counts.entry(key).or_default();
            *sum = [sum[0] + counts[0], sum[1] + counts[1]];
        }
    }

    /// What did not occur `least` times both matching and not.
    pub fn missing(&self, least: u64) -> Vec<String> {
        let matchers = MATCHERS.iter().map(|(name, may_differ)| (*name, "negated", *may_differ));
        let actions = ACTIONS.iter().map(|(name, may_differ)| (*name, "ends", *may_differ));
        let all = matchers.chain(actions).chain(CHANCES.map(|name| (name, "", false)));
        let wanted = all.flat_map(|(name, variant, differs)| {
            [Some((name, "")), differs.then_some((name, variant))].into_iter().flatten()
        });
        let counts = |key: &(&'static str, &'static str)| self.counts.get(key).copied().unwrap_or_default();
        wanted
            .filter(|key| counts(key).iter().any(|count| *count < least))
            .map(|key| format!("{} {}: {:?}", key.0, key.1, counts(&key)))
            .collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((name, variant), [no, yes]) in &self.counts {
            writeln!(out, "{name:26} {variant:8} {no:9} no {yes:9} yes")?;
        }
        write!(out, "{} packets came in {} times", self.packets, self.walks)
    }
}
