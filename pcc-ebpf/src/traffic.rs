//! What the bench's own programs and the bench agree on: which frames are made, and where they end.
//!
//! Not part of pcc: the object `pcc-traffic` is loaded by the bench alone.

/// Names of programs.
pub mod program {
    /// Writes one frame for each run and sends it by a device.
    pub const GENERATE: &str = "generate";
    /// Rewrites link-layer addresses and redirects: the least that a router can do.
    pub const BARE: &str = "bare";
    /// Where traffic ends: at the ISPs, at the client, or at the router's LAN device already. In the order of
    /// [`super::Place`].
    pub const SINKS: [&str; 4] = ["isp1", "isp2", "client", "lan"];
}

/// Names of maps.
pub mod map {
    /// One [`super::Order`].
    pub const ORDER: &str = "order";
    /// One [`super::Turn`].
    pub const TURN: &str = "turn";
    /// Frames that arrived, by [`super::Place`].
    pub const ARRIVED: &str = "arrived";
}

/// Where frames may arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// ISP 1.
    Isp1,
    /// ISP 2.
    Isp2,
    /// The client, with answers.
    Client,
    /// The router's LAN device, where the generator is measured alone.
    Lan,
}

/// The port of the servers; whatever has it on either side is traffic of the bench.
pub const PORT: u16 = 9;
/// Bytes of headers that the generator writes anew into every frame; frames are not shorter.
pub const HEADERS: usize = 64;
/// Flows have numbers below this.
pub const FLOWS: u32 = 1 << 21;

/// What the generator sends and what the other programs do.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// First bytes of the frame of a flow whose addresses end in 0 and whose source port is 0.
    pub headers: [u64; HEADERS / 8],
    /// Sum of the IPv4 header of that frame, without its checksum.
    pub header_sum: u32,
    /// Sum of pseudo header and datagram of that frame, without the checksum.
    pub datagram_sum: u32,
    /// 1: IPv6.
    pub six: u32,
    /// First flow.
    pub first: u32,
    /// The flow behind the last.
    pub end: u32,
    /// The device that frames are sent by.
    pub device: u32,
    /// 1: frames that arrive are answered.
    pub echo: u32,
    /// The devices that [`program::BARE`] redirects to, which clients share as they share uplinks.
    pub out: [u32; 2],
    /// Destination and source of the link layer that it writes for each.
    pub link: [[u16; 6]; 2],
    /// 0.
    pub spare: u32,
}

/// How far the generator is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Frames sent.
    pub sent: u64,
    /// The next flow.
    pub flow: u32,
    /// 0.
    pub spare: u32,
}

/// What tells a flow from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Last byte of the client's address, 2 to 65.
    pub client: u8,
    /// Last byte of the server's address, 1 to 64.
    pub server: u8,
    /// The client's port.
    pub port: u16,
}

impl Tuple {
    /// That of a flow. No two flows have server and port in common, so that masquerading keeps their ports.
    #[inline(always)]
    pub const fn of(flow: u32) -> Self {
        Self {
            client: 2 + (flow & 63) as u8,
            server: 1 + ((flow >> 6).wrapping_add(flow >> 15) & 63) as u8,
            port: 16_384 + (flow & 0x7fff) as u16,
        }
    }

    /// The checksums of the IPv4 header and of the datagram, host order.
    #[inline(always)]
    pub const fn checksums(self, order: &Order) -> (u16, u16) {
        let hosts = self.client as u32 + self.server as u32;
        let header = !fold(order.header_sum + hosts);
        let datagram = !fold(order.datagram_sum + hosts + self.port as u32);
        // 0 says that there is none.
        (header, if datagram == 0 { 0xffff } else { datagram })
    }
}

/// Folds a sum of 16-bit words.
#[inline(always)]
const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, made of integers only, without padding.
    unsafe impl aya::Pod for super::Order {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Turn {}
}

const _: () = {
    assert!(size_of::<Order>() == HEADERS + 7 * 4 + 2 * (4 + 12) + 4);
    assert!(size_of::<Turn>() == 16);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_flows_share_server_and_port() {
        let mut seen = vec![false; 1 << 22];
        for flow in 0..FLOWS {
            let Tuple { client, server, port } = Tuple::of(flow);
            assert!((2..=65).contains(&client) && (1..=64).contains(&server) && port >= 16_384);
            let slot = usize::from(server - 1) << 15 | usize::from(port - 16_384);
            assert!(!core::mem::replace(&mut seen[slot], true), "flow {flow}");
        }
    }

    #[test]
    fn a_thousand_flows_have_many_pairs_of_addresses() {
        let pairs: std::collections::BTreeSet<_> =
            (0..1000).map(Tuple::of).map(|tuple| (tuple.client, tuple.server)).collect();
        assert_eq!(pairs.len(), 1000);
    }
}
