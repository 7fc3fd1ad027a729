//! Which uplink a new flow takes: the one that it must keep to, or the one that PCC's hash selects.

use crate::abi::{
    Counter, Flow, IPV4, POLICY_DEFAULT, POLICY_MAIN, Policy, Settings, Sticky, StickyKey, Uplink, bucket_index,
    policy_index,
};
use crate::classify::{Tables, hash_bits, remember};
use crate::flow::has_ports;
use crate::packet::{Headers, protocol};

/// What was chosen for a packet of a flow that the cache does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Our bits of the mark; with the *missed* flag where the connection may be an old one.
    pub mark: u32,
    /// What to remember; `None` where the flow key does not tell the connection.
    pub remember: Option<Flow>,
    /// What to count.
    pub counter: Counter,
    /// What later connections with the same [`sticky_key`] must keep to.
    pub stick: Option<Sticky>,
}

/// Chooses by policy number `number`. The error says why main decides.
#[inline(always)]
pub fn choose<T: Tables>(
    tables: &T,
    settings: &Settings,
    headers: &Headers,
    number: u32,
    now: u32,
) -> Result<Choice, Counter> {
    if number == POLICY_MAIN {
        return Err(Counter::NotBalanced);
    }
    let mut policy = Policy { hash_fields: settings.hash_fields, ..Policy::default() };
    if number != POLICY_DEFAULT {
        policy = tables.policy(policy_index(settings.active_table, number)).ok_or(Counter::NoUplink)?;
    }
    let is_sticky = policy.sticky_fields != 0 && headers.cacheable;
    if is_sticky
        && let Some(sticky) = tables.sticky(&sticky_key(&policy, headers))
        && policy.has(sticky.uplink)
        && (policy.lifetime == 0 || now.wrapping_sub(sticky.last_seen) <= policy.lifetime)
        && let Some(mut choice) = follow(tables, settings, headers, &sticky, now)
    {
        if begins(headers) && sticky.last_seen != now {
            choice.stick = Some(Sticky { last_seen: now, ..sticky });
        }
        return Ok(choice);
    }
    let bucket = |number, fields| {
        let hash = hash_bits(&headers.key, fields, settings.seed);
        tables.bucket(bucket_index(settings.active_table, number, headers.family, hash))
    };
    let mut counter = Counter::CacheMiss;
    let mut id = bucket(number, policy.hash_fields);
    if id == 0 && number != POLICY_DEFAULT {
        counter = Counter::FellBack;
        id = bucket(POLICY_DEFAULT, settings.hash_fields);
    }
    let uplink = usable(tables, id).ok_or(Counter::NoUplink)?;
    let mut choice = choice(settings, headers, id, &uplink, counter, now);
    // What fell back goes home as soon as it can.
    if is_sticky && begins(headers) && counter as u32 == Counter::CacheMiss as u32 {
        let generation = uplink.generation;
        choice.stick = Some(Sticky { uplink: id, generation, first_seen: now, last_seen: now });
    }
    Ok(choice)
}

/// The choice of those who keep to `sticky`, while its uplink takes connections.
#[inline(always)]
pub fn follow<T: Tables>(
    tables: &T,
    settings: &Settings,
    headers: &Headers,
    sticky: &Sticky,
    now: u32,
) -> Option<Choice> {
    let uplink = usable(tables, sticky.uplink)?;
    let live = if headers.family == IPV4 { 1 } else { 2 };
    if uplink.generation != sticky.generation || uplink.live & live == 0 {
        return None;
    }
    Some(choice(settings, headers, sticky.uplink, &uplink, Counter::Sticky, now))
}

#[inline(always)]
fn usable<T: Tables>(tables: &T, id: u32) -> Option<Uplink> {
    let uplink = tables.uplink(id)?;
    if id == 0 || uplink.mark == 0 { None } else { Some(uplink) }
}

#[inline(always)]
fn choice(settings: &Settings, headers: &Headers, id: u32, uplink: &Uplink, counter: Counter, now: u32) -> Choice {
    let missed = if headers.opens { 0 } else { settings.mark_missed };
    let remember = if headers.cacheable { Some(remember(id, uplink, false, now)) } else { None };
    Choice { mark: uplink.mark | missed, remember, counter, stick: None }
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
    let mut ports = 0;
    if has_ports(key.protocol) {
        if policy.sticky_fields & 4 != 0 {
            ports = key.source_port as u32;
        }
        if policy.sticky_fields & 8 != 0 {
            ports |= (key.destination_port as u32) << 16;
        }
    }
    StickyKey {
        policy: policy.identity,
        family: headers.family,
        source: if policy.sticky_fields & 1 != 0 { key.source } else { [0; 4] },
        destination: if policy.sticky_fields & 2 != 0 { key.destination } else { [0; 4] },
        ports,
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
