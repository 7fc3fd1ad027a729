//! Passive health: do addresses that used to answer still do?
//!
//! The first packet of a connection that leaves by an uplink is a *question* to its remote address, the first packet that
//! comes back to the LAN is an *answer*. Only questions to addresses that answered before count, one for each address
//! until it answers again: a client that scans dead hosts counts nothing, nor does a connection attempt that is repeated.
//! Established connections never come here.

use crate::abi::{Peer, PeerKey};
use crate::flow::{age, has_ports};
use crate::packet::{Headers, protocol};

/// Seconds after which an address no longer counts as one that used to answer.
pub const MEMORY_SECONDS: u32 = 600;

/// What is known about addresses. In the kernel a map; in tests, what the test says.
pub trait Peers {
    /// The entry of an address.
    fn peer(&self, key: &PeerKey) -> Option<Peer>;
    /// Replaces it.
    fn set_peer(&mut self, key: &PeerKey, peer: Peer);
}

/// Notes a question, the first packet of a connection by `uplink`. True if it counts.
///
/// Two first questions to one address at the same moment may both count: the kernel has no exchange of values that all
/// versions and compilers offer, and the judge asks for several addresses anyway.
#[inline(always)]
pub fn ask<P: Peers>(peers: &mut P, headers: &Headers, uplink: u32, now: u32) -> bool {
    if !can_be_answered(headers) || is_tcp(headers) && !headers.opens {
        return false;
    }
    let key = key(headers, uplink, &headers.key.destination);
    let Some(peer) = peers.peer(&key) else { return false };
    if peer.asked != 0 || age(now, peer.answered) > MEMORY_SECONDS {
        return false;
    }
    // 0 means none.
    peers.set_peer(&key, Peer { asked: if now == 0 { 1 } else { now }, ..peer });
    true
}

/// Notes an answer, the first packet of a connection by `uplink` that goes back to the LAN. True if it counts: what begins
/// a connection is no answer.
#[inline(always)]
pub fn answer<P: Peers>(peers: &mut P, headers: &Headers, uplink: u32, now: u32) -> bool {
    if !can_be_answered(headers) || headers.opens {
        return false;
    }
    peers.set_peer(&key(headers, uplink, &headers.key.source), Peer { answered: now, asked: 0 });
    true
}

/// TCP, as the two kinds of [`crate::abi::Pulse`] are kept apart.
#[inline(always)]
pub const fn is_tcp(headers: &Headers) -> bool {
    headers.key.protocol == protocol::TCP as u32
}

/// Its flow tells an answer from everything else.
#[inline(always)]
const fn can_be_answered(headers: &Headers) -> bool {
    headers.cacheable
        && (has_ports(headers.key.protocol)
            || headers.key.protocol == protocol::ICMP as u32
            || headers.key.protocol == protocol::ICMPV6 as u32)
}

#[inline(always)]
const fn key(headers: &Headers, uplink: u32, address: &[u32; 4]) -> PeerKey {
    PeerKey { way: PeerKey::way_of(uplink, headers.family, is_tcp(headers)), address: *address }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::abi::{FlowKey, IPV4, IPV6};
    use crate::packet::Details;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Fake(HashMap<PeerKey, Peer>);

    impl Peers for Fake {
        fn peer(&self, key: &PeerKey) -> Option<Peer> {
            self.0.get(key).copied()
        }
        fn set_peer(&mut self, key: &PeerKey, peer: Peer) {
            self.0.insert(*key, peer);
        }
    }

    fn to(remote: &str, protocol: u8) -> Headers {
        let local = if remote.starts_with('[') { "[2001:db8::2]:1" } else { "192.0.2.2:1" };
        let key = FlowKey::new(local.parse().unwrap(), remote.parse().unwrap(), protocol);
        let family = if key.is_ipv4() { IPV4 } else { IPV6 };
        Headers { key, family, opens: protocol == protocol::TCP, cacheable: true, details: Details::default() }
    }

    fn from(remote: &str, protocol: u8) -> Headers {
        let question = to(remote, protocol);
        Headers { key: question.key.reversed(), opens: false, ..question }
    }

    const A: &str = "203.0.113.1:443";
    const A6: &str = "[2001:db8:9::1]:443";

    #[test]
    fn only_who_used_to_answer_is_asked_and_only_once() {
        for remote in [A, A6] {
            for protocol in [protocol::TCP, protocol::UDP] {
                let mut fake = Fake::default();
                assert!(!ask(&mut fake, &to(remote, protocol), 1, 100), "never answered");
                assert!(fake.0.is_empty());
                assert!(answer(&mut fake, &from(remote, protocol), 1, 100));
                assert!(ask(&mut fake, &to(remote, protocol), 1, 101));
                assert!(!ask(&mut fake, &to(remote, protocol), 1, 102), "it has a question already");
                assert!(answer(&mut fake, &from(remote, protocol), 1, 103));
                assert!(ask(&mut fake, &to(remote, protocol), 1, 104));
            }
        }
    }

    #[test]
    fn uplinks_families_and_kinds_are_apart() {
        let mut fake = Fake::default();
        answer(&mut fake, &from(A, protocol::TCP), 1, 100);
        assert!(!ask(&mut fake, &to(A, protocol::TCP), 2, 100), "another uplink");
        assert!(!ask(&mut fake, &to(A, protocol::UDP), 1, 100), "another kind");
        assert!(!ask(&mut fake, &to(A6, protocol::TCP), 1, 100), "another address");
        assert!(ask(&mut fake, &to("203.0.113.1:80", protocol::TCP), 1, 100), "another port of it");
    }

    #[test]
    fn what_answered_long_ago_is_not_expected_to_answer() {
        for (age, counts) in [(0, true), (600, true), (601, false), (1 << 30, false)] {
            let mut fake = Fake::default();
            let begin = u32::MAX - 300;
            answer(&mut fake, &from(A, protocol::TCP), 1, begin);
            assert_eq!(ask(&mut fake, &to(A, protocol::TCP), 1, begin.wrapping_add(age)), counts, "{age}");
        }
        let mut fake = Fake::default();
        answer(&mut fake, &from(A, protocol::TCP), 1, 0);
        assert!(ask(&mut fake, &to(A, protocol::TCP), 1, 0), "the first second counts");
        assert!(!ask(&mut fake, &to(A, protocol::TCP), 1, 0));
    }

    #[test]
    fn what_begins_nothing_asks_nothing_and_what_begins_something_answers_nothing() {
        let mut fake = Fake::default();
        answer(&mut fake, &from(A, protocol::TCP), 1, 1);
        let middle = Headers { opens: false, ..to(A, protocol::TCP) };
        assert!(!ask(&mut fake, &middle, 1, 1), "a packet of an old connection");
        let inbound = Headers { opens: true, ..from(A, protocol::TCP) };
        assert!(!answer(&mut fake, &inbound, 1, 1), "a connection from outside");
        for strange in [Headers { cacheable: false, ..to(A, protocol::ICMP) }, to(A, 47)] {
            assert!(!ask(&mut fake, &strange, 1, 1) && !answer(&mut fake, &strange, 1, 1), "{strange:?}");
        }
    }

    proptest! {
        /// Against a plain account of who answered when.
        #[test]
        fn counts_are_those_of_the_account(events in prop::collection::vec((any::<bool>(), 0_u8..5, 0_u32..400), 0..60)) {
            let mut fake = Fake::default();
            let mut account: HashMap<u8, (u32, bool)> = HashMap::new();
            let mut now = 1;
            for (is_answer, host, pause) in events {
                now += pause;
                let remote = format!("203.0.113.{host}:80");
                if is_answer {
                    prop_assert!(answer(&mut fake, &from(&remote, protocol::TCP), 3, now));
                    account.insert(host, (now, false));
                } else {
                    let expected = account.get(&host).is_some_and(|(at, open)| now - at <= MEMORY_SECONDS && !open);
                    prop_assert_eq!(ask(&mut fake, &to(&remote, protocol::TCP), 3, now), expected);
                    if let Some(entry) = account.get_mut(&host).filter(|_| expected) {
                        entry.1 = true;
                    }
                }
            }
        }
    }
}
