//! Pure: the connections that there are, counted by what may skew them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::judge::{self, LEVEL};
use super::{Cause, Inputs, Kind};

/// More clients are not told apart.
const CLIENTS: usize = 65_536;
/// Of more different fields than these a part is looked at, half of them, a quarter, and so on.
const INPUTS: usize = 131_072;
/// A cause has at least so much of the surplus.
const PART: f64 = 0.25;
const CAUSES: usize = 3;

/// Counts of uplinks by id.
pub type Counts = BTreeMap<u32, u64>;

/// One connection of the LAN that has an uplink.
#[derive(Clone, Copy, Debug)]
pub struct Live {
    /// Who began.
    pub client: IpAddr,
    /// Whom it talks to.
    pub server: IpAddr,
    /// Its uplink.
    pub uplink: u32,
    /// Position of the rule that decided it.
    pub rule: Option<usize>,
    /// Its hash; connections with equal fields have the same.
    pub hash: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Sample {
    /// By family: IPv4, IPv6.
    pub families: [u64; 2],
    /// Those that began outside.
    pub inbound: u64,
    /// Those that main sends.
    pub unmarked: u64,
    rules: BTreeMap<usize, [Counts; 2]>,
    ruleless: [Counts; 2],
    clients: HashMap<IpAddr, [Counts; 2]>,
    inputs: HashMap<(usize, u32), Input>,
    /// Inputs are looked at if these bits of the hash are 0; the lowest ones choose the bucket.
    skipped: u32,
}

#[derive(Debug)]
struct Input {
    client: IpAddr,
    server: IpAddr,
    uplink: u32,
    count: u64,
}

impl Sample {
    /// One more.
    pub fn take(&mut self, live: Live) {
        let family = usize::from(live.server.is_ipv6());
        self.families[family] += 1;
        let add = |counts: &mut [Counts; 2]| *counts[family].entry(live.uplink).or_default() += 1;
        if let Some(rule) = live.rule {
            return add(self.rules.entry(rule).or_default());
        }
        add(&mut self.ruleless);
        if self.clients.len() < CLIENTS || self.clients.contains_key(&live.client) {
            add(self.clients.entry(live.client).or_default());
        }
        if live.hash & self.skipped == 0 {
            let Live { client, server, uplink, .. } = live;
            self.inputs.entry((family, live.hash)).or_insert(Input { client, server, uplink, count: 0 }).count += 1;
            if self.inputs.len() > INPUTS {
                // The ten lowest bits are those of the bucket.
                self.skipped = self.skipped << 1 | 1 << 10;
                let skipped = self.skipped;
                self.inputs.retain(|(_, hash), _| hash & skipped == 0);
            }
        }
    }

    /// All connections that are counted.
    pub fn total(&self) -> u64 {
        self.families.iter().sum()
    }

    /// How the fields are spread that no rule decides, if `shares` are wanted.
    pub fn inputs(&self, hash: &str, shares: &super::ledger::Shares) -> Inputs {
        let mut cells: BTreeMap<u32, (u64, f64)> = BTreeMap::new();
        for ((family, _), input) in &self.inputs {
            cells.entry(input.uplink).or_default().0 += 1;
            for (id, share) in &shares[*family] {
                cells.entry(*id).or_default().1 += share;
            }
        }
        let cells: Vec<_> = cells.into_values().collect();
        Inputs {
            hash: hash.to_owned(),
            connections: self.ruleless.iter().flat_map(BTreeMap::values).sum(),
            distinct: self.inputs.len() as u64,
            probability: judge::judge(&cells).probability,
        }
    }

    /// Why uplink `id` has more than its part, the strongest reason first.
    pub fn causes(&self, id: u32, shares: &super::ledger::Shares, names: &Names<'_>, inputs: &Inputs) -> Vec<Cause> {
        // What of `counts` is on the uplink beyond its share.
        let surplus = |counts: &[Counts; 2]| -> f64 {
            let of = |(counts, shares): (&Counts, &BTreeMap<u32, f64>)| {
                let count: u64 = counts.values().sum();
                let expected = count as f64 * shares.get(&id).copied().unwrap_or(0.0);
                counts.get(&id).copied().unwrap_or(0) as f64 - expected
            };
            counts.iter().zip(shares).map(of).sum()
        };
        let whole = self.rules.values().map(surplus).sum::<f64>() + surplus(&self.ruleless);
        let total = self.total();
        let uplink = (names.uplink)(id);
        if whole < judge::TOLERANCE * total as f64 || total == 0 {
            let text =
                format!("of connections that are over: of the {total} live ones {uplink} has no more than its part");
            return vec![Cause { kind: Kind::Over, name: String::new(), text }];
        }
        let mut causes: Vec<(f64, Cause)> = Vec::new();
        for (rule, counts) in &self.rules {
            let (name, sticky) = (names.rule)(*rule);
            let on: u64 = counts.iter().filter_map(|counts| counts.get(&id)).sum();
            let keep = if sticky { ", and makes them keep to it (`sticky`)" } else { "" };
            let text = format!("rule `{name}` gives {uplink} {on} of the {total} live connections{keep}");
            causes.push((surplus(counts), Cause { kind: Kind::Rule, name, text }));
        }
        for (client, counts) in &self.clients {
            let surplus = surplus(counts);
            if surplus >= PART * whole {
                causes.push((surplus, self.client(*client, counts, id, names, inputs)));
            }
        }
        causes.retain(|(surplus, _)| *surplus >= PART * whole);
        causes.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        let mut causes: Vec<Cause> = causes.into_iter().map(|(_, cause)| cause).take(CAUSES).collect();
        if causes.is_empty() {
            causes.push(Self::hash(inputs));
        }
        causes
    }

    fn client(&self, client: IpAddr, counts: &[Counts; 2], id: u32, names: &Names<'_>, inputs: &Inputs) -> Cause {
        let (total, uplink, hash) = (self.total(), (names.uplink)(id), &inputs.hash);
        let count: u64 = counts.iter().flat_map(BTreeMap::values).sum();
        let own = self.inputs.values().filter(|input| input.client == client && input.uplink == id);
        let largest = own.max_by_key(|input| input.count).filter(|input| input.count > 1 && 2 * input.count >= count);
        let text = match largest {
            Some(Input { server, count: same, .. }) => format!(
                "client {client} has {count} of the {total} live connections, {same} of them to {server}: hash `{hash}` keeps \
                 these on {uplink}"
            ),
            None => format!("client {client} has {count} of the {total} live connections, most of them on {uplink}"),
        };
        Cause { kind: Kind::Client, name: client.to_string(), text }
    }

    fn hash(inputs: &Inputs) -> Cause {
        let Inputs { hash, connections, distinct, probability } = inputs;
        let (kind, text) = if distinct * 2 <= *connections && probability.is_none_or(|p| p >= LEVEL) {
            let text = format!(
                "few different fields are hashed, {distinct} of {connections} live connections: hash \
                 `both-addresses-and-ports` instead of `{hash}` spreads each of them"
            );
            (Kind::Hash, text)
        } else {
            (Kind::Unknown, "of nothing that is known here: no rule and no client has much of it".to_owned())
        };
        Cause { kind, name: String::new(), text }
    }
}

/// What things are called.
pub struct Names<'a> {
    /// An uplink by its id.
    pub uplink: &'a dyn Fn(u32) -> String,
    /// A rule by its position, and whether it is sticky.
    pub rule: &'a dyn Fn(usize) -> (String, bool),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares() -> super::super::ledger::Shares {
        let half = BTreeMap::from([(1, 0.5), (2, 0.5)]);
        [half.clone(), half]
    }

    fn live(client: u8, server: u8, uplink: u32, rule: Option<usize>, hash: u32) -> Live {
        Live { client: [10, 0, 0, client].into(), server: [192, 0, 2, server].into(), uplink, rule, hash }
    }

    fn causes(sample: &Sample, id: u32) -> Vec<Cause> {
        let inputs = sample.inputs("both-addresses", &shares());
        let (uplink, rule) = (|id: u32| format!("wan{id}"), |rule: usize| (format!("rule{rule}"), rule == 1));
        sample.causes(id, &shares(), &Names { uplink: &uplink, rule: &rule }, &inputs)
    }

    /// 100 pairs of addresses, half on each uplink, with one connection each.
    fn even() -> Sample {
        let mut sample = Sample::default();
        for n in 0..100 {
            sample.take(live(n, n, u32::from(n % 2) + 1, None, u32::from(n) * 7919));
        }
        sample
    }

    #[test]
    fn a_client_that_hammers_a_server_is_named() {
        let mut sample = even();
        (0..300).for_each(|_| sample.take(live(7, 9, 2, None, 77)));
        let causes = causes(&sample, 2);
        assert_eq!((causes.len(), causes[0].kind, causes[0].name.as_str()), (1, Kind::Client, "10.0.0.7"));
        assert_eq!(
            causes[0].text,
            "client 10.0.0.7 has 301 of the 400 live connections, 300 of them to 192.0.2.9: hash `both-addresses` keeps these on wan2"
        );
    }

    #[test]
    fn a_rule_that_gives_more_is_named_and_a_fair_one_is_not() {
        let mut sample = even();
        for n in 0..200 {
            sample.take(live(n, 9, 1, Some(1), 5));
            sample.take(live(n, 9, u32::from(n % 2) + 1, Some(0), 5));
        }
        let causes = causes(&sample, 1);
        assert_eq!((causes.len(), causes[0].kind, causes[0].name.as_str()), (1, Kind::Rule, "rule1"));
        assert_eq!(
            causes[0].text,
            "rule `rule1` gives wan1 200 of the 500 live connections, and makes them keep to it (`sticky`)"
        );
    }

    #[test]
    fn few_fields_are_named_when_nobody_else_is() {
        let mut sample = Sample::default();
        for pair in 0..20_u8 {
            let uplink = if pair < 13 { 1 } else { 2 };
            (0..40).for_each(|_| sample.take(live(pair, pair, uplink, None, pair.into())));
        }
        assert_eq!(causes(&sample, 1)[0].kind, Kind::Hash);
        assert_eq!(causes(&even(), 1)[0].kind, Kind::Over);
        assert_eq!(causes(&Sample::default(), 1)[0].kind, Kind::Over);
    }

    #[test]
    fn of_very_many_fields_a_part_is_looked_at_and_it_is_spread_alike() {
        let mut sample = Sample::default();
        for n in 0..600_000_u32 {
            let hash = n.wrapping_mul(0x9e37_79b1);
            sample.take(live(1, 1, (hash & 1) + 1, None, hash));
        }
        assert!(sample.inputs.len() <= INPUTS && sample.inputs.len() > INPUTS / 3, "{}", sample.inputs.len());
        let inputs = sample.inputs("both-addresses-and-ports", &shares());
        assert_eq!(inputs.connections, 600_000);
        assert!(inputs.probability.unwrap() > LEVEL, "{inputs:?}");
    }
}
