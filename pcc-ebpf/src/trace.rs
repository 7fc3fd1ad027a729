//! What `pcc trace` and its programs agree on: which packets are reported, and how.
//!
//! The object `pcc-trace` is loaded and attached while somebody traces, and at no other time: it costs nothing then.

use crate::abi::FlowKey;

/// Names of programs, in the order of [`Direction`].
pub const PROGRAMS: [&str; 2] = ["pcc_trace_in", "pcc_trace_out"];

/// Names of maps.
pub mod map {
    /// One [`super::Filter`].
    pub const FILTER: &str = "filter";
    /// Bytes before the IP header, by interface index.
    pub const DEVICES: &str = "devices";
    /// What is reported: [`super::Report`]s.
    pub const REPORTS: &str = "reports";
    /// How many reports had no room, by processor.
    pub const LOST: &str = "lost";
}

/// Which packets are reported. What is 0 may be anything.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of one end, as in a [`FlowKey`], under `mask`.
    pub address: [u32; 4],
    /// The bits of `address` that count.
    pub mask: [u32; 4],
    /// Of one end.
    pub port: u32,
    /// IP protocol number.
    pub protocol: u32,
}

impl Filter {
    /// It wants packets of `key`.
    #[inline(always)]
    pub fn matches(&self, key: &FlowKey) -> bool {
        let ports = [key.source_port, key.destination_port].map(u32::from);
        (self.protocol == 0 || self.protocol == key.protocol)
            && (self.port == 0 || self.port == ports[0] || self.port == ports[1])
            && (self.covers(&key.source) || self.covers(&key.destination))
    }

    #[inline(always)]
    fn covers(&self, address: &[u32; 4]) -> bool {
        let differs = |word: usize| (address[word] ^ self.address[word]) & self.mask[word];
        differs(0) | differs(1) | differs(2) | differs(3) == 0
    }
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Into the router, before anything is done to it.
    In,
    /// Out of it, when all is done.
    Out,
}

/// One packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Monotonic time in nanoseconds.
    pub time: u64,
    /// Addresses, ports and protocol.
    pub key: FlowKey,
    /// Index of the device.
    pub ifindex: u32,
    /// A [`Direction`] as number.
    pub direction: u32,
    /// The whole packet mark.
    pub mark: u32,
    /// Bytes, link-layer header included.
    pub length: u32,
    /// As in [`crate::packet::Details`].
    pub tcp_flags: u32,
    /// Not used.
    pub rest: u32,
}

const _: () = assert!(size_of::<Report>() == 72);

impl Report {
    /// Reads what a program wrote; `None` if it is something else.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; size_of::<Self>()] = bytes.try_into().ok()?;
        let (words, _) = bytes.as_chunks::<4>();
        let word = |at: usize| words.get(at).map(|word| u32::from_ne_bytes(*word));
        let address = |at: usize| Some([word(at)?, word(at + 1)?, word(at + 2)?, word(at + 3)?]);
        let (time, _) = bytes.split_first_chunk::<8>()?;
        let ports = words.get(10)?;
        Some(Self {
            time: u64::from_ne_bytes(*time),
            key: FlowKey {
                source: address(2)?,
                destination: address(6)?,
                source_port: u16::from_ne_bytes([ports[0], ports[1]]),
                destination_port: u16::from_ne_bytes([ports[2], ports[3]]),
                protocol: word(11)?,
            },
            ifindex: word(12)?,
            direction: word(13)?,
            mark: word(14)?,
            length: word(15)?,
            tcp_flags: word(16)?,
            rest: word(17)?,
        })
    }
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, made of integers without padding.
unsafe impl aya::Pod for Filter {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::mapped;

    fn key() -> FlowKey {
        let address = |last| mapped(u32::from_ne_bytes([192, 0, 2, last]));
        FlowKey {
            source: address(7),
            destination: address(200),
            source_port: 40_000,
            destination_port: 443,
            protocol: 6,
        }
    }

    #[test]
    fn a_filter_matches_either_end() {
        let (key, all) = (key(), [u32::MAX; 4]);
        let matches = |filter: Filter| (filter.matches(&key), filter.matches(&key.reversed()));
        let none = Filter::default();
        assert_eq!(matches(none), (true, true));
        assert_eq!(matches(Filter { address: key.source, mask: all, ..none }), (true, true));
        assert_eq!(matches(Filter { address: mapped(9), mask: all, ..none }), (false, false));
        assert_eq!(matches(Filter { port: 443, protocol: 6, ..none }), (true, true));
        assert_eq!(matches(Filter { port: 40_001, ..none }), (false, false));
        assert_eq!(matches(Filter { protocol: 17, ..none }), (false, false));
        let network = Filter { address: mapped(u32::from_ne_bytes([192, 0, 2, 0])), ..none };
        let mask = |bits: u32| [u32::MAX, u32::MAX, u32::MAX, bits.to_be()];
        assert_eq!(matches(Filter { mask: mask(0xffff_ff00), ..network }), (true, true));
        assert_eq!(matches(Filter { mask: mask(0xffff_ffff), ..network }), (false, false));
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let report =
            Report { time: 5, key: key(), ifindex: 3, direction: 1, mark: 0x82, length: 60, tcp_flags: 2, rest: 0 };
        let words = |address: [u32; 4]| address.map(u32::to_ne_bytes).concat();
        let rest = [report.key.protocol, 3, 1, 0x82, 60, 2, 0].map(u32::to_ne_bytes).concat();
        let ports = [40_000_u16, 443].map(u16::to_ne_bytes).concat();
        let bytes =
            [5_u64.to_ne_bytes().to_vec(), words(report.key.source), words(report.key.destination), ports, rest];
        assert_eq!(Report::read(&bytes.concat()), Some(report));
        assert_eq!(Report::read(&bytes.concat()[1..]), None);
    }
}
