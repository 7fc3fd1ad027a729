//! Which uplink a new flow takes: the one that it must keep to, or the one that PCC's hash selects.

use crate::abi::{
    Counter, Flow, IPV4, POLICY_DEFAULT, POLICY_MAIN, Policy, Settings, Sticky, StickyKey, Uplink, bucket_index,
    policy_index,
};
use crate::classify::{Tables, hash_bits};
use crate::flow::{age, has_ports};
use crate::packet::{Headers, protocol};

/// What was chosen for a packet of a flow that the cache does not know. A few words, because the kernel's stack is small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Our bits of the mark; with the *missed* flag where the connection may be an old one. 0: main decides.
    pub mark: u32,
    /// The uplink.
    pub uplink: u32,
    /// [`Uplink::generation`].
    pub generation: u32,
    /// What to count.
    pub counter: Counter,
    /// Later connections with the same [`sticky_key`] must keep to it: to be noted.
    pub is_news: bool,
    /// Since when they do.
    pub first_seen: u32,
    /// The time of the choice.
    pub now: u32,
}

impl Choice {
    /// Main decides, for this reason.
    #[inline(always)]
    pub const fn main(reason: Counter) -> Self {
        Self { mark: 0, uplink: 0, generation: 0, counter: reason, is_news: false, first_seen: 0, now: 0 }
    }

    /// What to remember, if the flow key tells the connection ([`Headers::cacheable`]), in the place of what is remembered, or as
    /// [`is_remembered_at_once`] says.
    #[inline(always)]
    pub const fn flow(&self, settings: &Settings) -> Flow {
        let mark = self.mark & !settings.mark_missed;
        Flow { mark, uplink: self.uplink, generation: self.generation, confirmed: 0, last_seen: self.now }
    }

    /// What to note if it is news.
    #[inline(always)]
    pub const fn sticky(&self) -> Sticky {
        Sticky { uplink: self.uplink, generation: self.generation, first_seen: self.first_seen, last_seen: self.now }
    }
}

/// Chooses by policy number `number`.
#[inline(always)]
pub fn choose<T: Tables>(tables: &T, settings: &Settings, headers: &Headers, number: u32, now: u32) -> Choice {
    let kept = keep(tables, settings, headers, number, now);
    if kept.mark != 0 { kept } else { select(tables, settings, headers, number, now) }
}

/// The choice of the connection that this one must keep to, if there is one; else its mark is 0.
#[inline(always)]
pub fn keep<T: Tables>(tables: &T, settings: &Settings, headers: &Headers, number: u32, now: u32) -> Choice {
    if let Some(policy) = ruled(tables, settings, number)
        && policy.sticky_fields != 0
        && headers.cacheable
        && let Some(sticky) = tables.sticky(&sticky_key(&policy, headers))
        && let Some(uplink) = holds(tables, headers, &policy, &sticky, now)
    {
        let is_news = begins(headers) && age(now, sticky.last_seen) != 0;
        let choice = choice(settings, headers, sticky.uplink, &uplink, Counter::Sticky, now);
        return Choice { is_news, first_seen: sticky.first_seen, ..choice };
    }
    Choice::main(Counter::CacheMiss)
}

/// The choice by the hash.
#[inline(always)]
pub fn select<T: Tables>(tables: &T, settings: &Settings, headers: &Headers, number: u32, now: u32) -> Choice {
    if number == POLICY_MAIN {
        return Choice::main(Counter::NotBalanced);
    }
    let mut counter = Counter::CacheMiss;
    let mut is_news = false;
    let mut id = 0;
    if let Some(policy) = ruled(tables, settings, number) {
        is_news = policy.sticky_fields != 0 && headers.cacheable && begins(headers);
        id = bucket(tables, settings, headers, number, policy.hash_fields);
        if id == 0 {
            // What falls back goes home as soon as it can.
            is_news = false;
            counter = Counter::FellBack;
        }
    }
    if id == 0 {
        id = bucket(tables, settings, headers, POLICY_DEFAULT, settings.hash_fields);
    }
    match usable(tables, id) {
        Some(uplink) => Choice { is_news, ..choice(settings, headers, id, &uplink, counter, now) },
        None => Choice::main(Counter::NoUplink),
    }
}

/// The policy with number `number`, if rules have made it.
#[inline(always)]
fn ruled<T: Tables>(tables: &T, settings: &Settings, number: u32) -> Option<Policy> {
    if number == POLICY_DEFAULT || number == POLICY_MAIN {
        return None;
    }
    tables.policy(policy_index(settings.active_table, number))
}

/// The uplink that the hash of `fields` selects under policy number `number`.
#[inline(never)]
fn bucket<T: Tables>(tables: &T, settings: &Settings, headers: &Headers, number: u32, fields: u32) -> u32 {
    let hash = hash_bits(&headers.key, fields, settings.seed);
    tables.bucket(bucket_index(settings.active_table, number, headers.family, hash))
}

/// The uplink that `sticky` names, while connections must keep to it.
#[inline(always)]
pub fn holds<T: Tables>(tables: &T, headers: &Headers, policy: &Policy, sticky: &Sticky, now: u32) -> Option<Uplink> {
    let uplink = usable(tables, sticky.uplink)?;
    let live = if headers.family == IPV4 { 1 } else { 2 };
    let is_alive = uplink.generation == sticky.generation && uplink.live & live != 0 && policy.has(sticky.uplink);
    let is_fresh = policy.lifetime == 0 || age(now, sticky.last_seen) <= policy.lifetime;
    if is_alive && is_fresh { Some(uplink) } else { None }
}

#[inline(always)]
fn usable<T: Tables>(tables: &T, id: u32) -> Option<Uplink> {
    let uplink = tables.uplink(id)?;
    if id == 0 || uplink.mark == 0 { None } else { Some(uplink) }
}

#[inline(always)]
fn choice(settings: &Settings, headers: &Headers, id: u32, uplink: &Uplink, counter: Counter, now: u32) -> Choice {
    let missed = if begins(headers) { 0 } else { settings.mark_missed };
    let Uplink { mark, generation, .. } = *uplink;
    Choice { mark: mark | missed, uplink: id, generation, counter, is_news: false, first_seen: now, now }
}

/// A choice gets an entry of its own in the cache before it is answered. Not so where it may be the first packet of its connection, and
/// the hash alone decides, which says the same of the second one: many that are asked never answer, and would take the room of
/// those that do. `ruled`: there are rules.
#[inline(always)]
pub const fn is_remembered_at_once(headers: &Headers, ruled: bool) -> bool {
    ruled || !begins(headers)
}

/// It may be the first packet of its connection. A TCP packet that is not is one whose decision was lost.
#[inline(always)]
const fn begins(headers: &Headers) -> bool {
    headers.opens || headers.key.protocol != protocol::TCP as u32
}

/// What the flow of `headers` shares with those that must keep to its uplink.
#[inline(always)]
pub const fn sticky_key(policy: &Policy, headers: &Headers) -> StickyKey {
    let key = &headers.key;
    let ports = if has_ports(key.protocol) { policy.sticky_fields } else { 0 };
    StickyKey {
        policy: policy.identity,
        family: headers.family,
        source: masked(&key.source, mask(policy.sticky_fields, 1)),
        destination: masked(&key.destination, mask(policy.sticky_fields, 2)),
        ports: key.source_port as u32 & mask(ports, 4) | (key.destination_port as u32) << 16 & mask(ports, 8),
    }
}

/// In the place of [`StickyKey::family`]: the key, which no connection has, where those that begin in the same moment agree on what
/// follows `ended`, a note that no longer holds. It is what the first of them stores there.
#[inline(always)]
pub const fn heir_family(family: u32, ended: &Sticky) -> u32 {
    family | 2 | ended.last_seen << 2
}

/// All bits, if one of `fields` is `field`.
#[inline(always)]
const fn mask(fields: u32, field: u32) -> u32 {
    if fields & field != 0 { u32::MAX } else { 0 }
}

#[inline(always)]
const fn masked(words: &[u32; 4], mask: u32) -> [u32; 4] {
    [words[0] & mask, words[1] & mask, words[2] & mask, words[3] & mask]
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
