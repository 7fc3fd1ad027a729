//! Pure: a connection of conntrack, what its shortcuts counted and what the flow cache knows, as one.

use pcc_ebpf::abi::Flow as Cached;
use pcc_ebpf::packet::protocol;

use super::Flow;
use super::scene::{Ends, Marks, Scene};
use crate::dataplane::Taken;
use crate::host::connections::Connection;

/// `enum tcp_conntrack`, from its first state.
const TCP_STATES: [&str; 10] = [
    "none",
    "syn_sent",
    "syn_recv",
    "established",
    "fin_wait",
    "close_wait",
    "last_ack",
    "time_wait",
    "close",
    "syn_sent2",
];
/// What is behind FIN or RST: the shortcuts are gone.
const CLOSING: std::ops::RangeInclusive<u8> = 4..=8;
const OTHER_STATES: [&str; 3] = ["unreplied", "replied", "assured"];

/// The words of [`Flow::state`].
pub fn states() -> Vec<&'static str> {
    TCP_STATES.iter().chain(&OTHER_STATES).copied().collect()
}

/// One connection with what its shortcuts counted, out and in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// What conntrack has.
    pub connection: Connection,
    /// Who talks to whom.
    pub ends: Ends,
    /// Of packets away from the LAN.
    pub shortcut_out: Option<Taken>,
    /// Of packets towards it.
    pub shortcut_in: Option<Taken>,
}

impl Joined {
    /// Bytes out and in, as far as they are known.
    pub fn bytes(&self) -> [u64; 2] {
        self.sums().map(|[bytes, _]| bytes)
    }

    /// Packets out and in, likewise.
    pub fn packets(&self) -> [u64; 2] {
        self.sums().map(|[_, packets]| packets)
    }

    fn sums(&self) -> [[u64; 2]; 2] {
        let [original, reply] = self.connection.counters.unwrap_or_default();
        let (out, back) = if self.ends.inbound { (reply, original) } else { (original, reply) };
        [(out, self.shortcut_out), (back, self.shortcut_in)].map(|(stack, shortcut)| {
            let Taken { packets, bytes, .. } = shortcut.unwrap_or_default();
            [stack.bytes.saturating_add(bytes), stack.packets.saturating_add(packets.into())]
        })
    }

    /// [`Flow::state`].
    pub fn state(&self) -> Option<&'static str> {
        let Connection { protocol, tcp_state, answered, assured, .. } = self.connection;
        if protocol == protocol::TCP {
            return TCP_STATES.get(usize::from(tcp_state?)).copied();
        }
        Some(OTHER_STATES[if assured { 2 } else { usize::from(answered) }])
    }

    /// All of it, as people are shown it. `shortcuts`: there are any. `now`: the clock of the flow cache.
    pub fn flow(&self, scene: &Scene, cached: Option<Cached>, shortcuts: bool, now: u32) -> Flow {
        let Self { connection, ends, shortcut_out, shortcut_in } = self;
        let counted = connection.counters.is_some();
        let [out, back] = self.sums().map(|sums| sums.map(|sum| counted.then_some(sum)));
        let closing = connection.tcp_state.is_some_and(|state| CLOSING.contains(&state));
        let mut flow = Flow {
            protocol: protocol_name(connection.protocol),
            source: connection.original.0,
            destination: connection.original.1,
            translated_source: connection.reply.1,
            translated_destination: connection.reply.0,
            client: ends.client.ip(),
            inbound: ends.inbound,
            uplink: None,
            connection_mark: None,
            routing_mark: None,
            state: self.state().map(str::to_owned),
            timeout: connection.timeout.into(),
            bytes_out: out[0],
            bytes_in: back[0],
            packets_out: out[1],
            packets_in: back[1],
            at_least: counted && shortcuts && closing,
            cached: cached.is_some(),
            cache_used: cached.map(|cached| now.wrapping_sub(cached.last_seen).into()),
            shortcut: [shortcut_out, shortcut_in].into_iter().flatten().any(|taken| taken.holds),
            shortcut_bytes_out: shortcut_out.map_or(0, |taken| taken.bytes),
            shortcut_bytes_in: shortcut_in.map_or(0, |taken| taken.bytes),
        };
        match &scene.marks {
            Marks::Uplinks(layout) => {
                let id = layout.uplink(connection.mark);
                flow.uplink = id.map(|id| {
                    scene.uplinks.get(&id).map_or_else(|| format!("{id}, which is gone"), |uplink| uplink.name.clone())
                });
            }
            Marks::Mirror { ours, connection: mark, routing, names } if connection.mark & ours != 0 => {
                flow.connection_mark = names.connection.name(mark.get(connection.mark)).map(str::to_owned);
                flow.routing_mark = names.routing.name(routing.get(connection.mark)).map(str::to_owned);
            }
            Marks::Mirror { .. } => {}
        }
        flow
    }
}

/// The usual name of an IP protocol, or its number.
fn protocol_name(number: u8) -> String {
    let name = match number {
        protocol::TCP => "tcp",
        protocol::UDP => "udp",
        protocol::ICMP => "icmp",
        protocol::ICMPV6 => "icmpv6",
        protocol::UDP_LITE => "udplite",
        protocol::SCTP => "sctp",
        protocol::DCCP => "dccp",
        47 => "gre",
        other => return other.to_string(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::connections::Count;

    fn joined(inbound: bool, state: u8) -> Joined {
        let (client, server) = ("10.0.0.9:4000".parse().unwrap(), "203.0.113.9:443".parse().unwrap());
        let count = |packets, bytes| Count { packets, bytes };
        let connection = Connection {
            protocol: 6,
            original: (client, server),
            reply: (server, "192.0.2.1:4001".parse().unwrap()),
            mark: 0xff81,
            answered: true,
            assured: true,
            translated_destination: false,
            tcp_state: Some(state),
            timeout: 100,
            counters: Some([count(3, 300), count(2, 20_000)]),
        };
        Joined {
            connection,
            ends: Ends { client, server, inbound },
            shortcut_out: Some(Taken { packets: 10, bytes: 1000, holds: true }),
            shortcut_in: None,
        }
    }

    #[test]
    fn both_sources_add_up_and_inbound_turns_the_directions() {
        assert_eq!((joined(false, 3).bytes(), joined(false, 3).packets()), ([1300, 20_000], [13, 2]));
        assert_eq!((joined(true, 3).bytes(), joined(true, 3).packets()), ([21_000, 300], [12, 3]));
    }

    #[test]
    fn unknown_is_not_zero() {
        let mut joined = joined(false, 3);
        joined.connection.counters = None;
        let flow = joined.flow(&Scene::default(), None, true, 0);
        assert_eq!((flow.bytes_out, flow.packets_in, flow.shortcut_bytes_out), (None, None, 1000));
        assert!(flow.shortcut && !flow.cached && !flow.at_least);
    }

    #[test]
    fn what_closes_has_lost_its_shortcuts() {
        assert!(!joined(false, 3).flow(&Scene::default(), None, true, 0).at_least);
        for state in 4..=8 {
            assert!(joined(false, state).flow(&Scene::default(), None, true, 0).at_least);
            assert!(!joined(false, state).flow(&Scene::default(), None, false, 0).at_least);
        }
    }

    #[test]
    fn states_have_names() {
        assert_eq!(joined(false, 7).state(), Some("time_wait"));
        assert_eq!(joined(false, 200).state(), None);
        let mut udp = joined(false, 3);
        udp.connection.protocol = 17;
        assert_eq!(udp.state(), Some("assured"));
        (udp.connection.assured, udp.connection.answered) = (false, false);
        assert_eq!(udp.state(), Some("unreplied"));
    }
}
