//! Pure: packets that were traced, as they are printed.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use pcc_ebpf::abi::MarkLayout;
use pcc_ebpf::flow::{has_ports, mapped};
use pcc_ebpf::trace::{Direction, Filter, Report};
use serde::Serialize;

/// A filter for packets from and to `client`, a port, and a protocol.
pub fn filter(client: Option<IpNet>, port: Option<u16>, protocol: Option<u8>) -> Filter {
    let (address, mask) = match client {
        None => Default::default(),
        Some(IpNet::V4(network)) => {
            let [address, mask] = [network.network(), network.netmask()].map(|it| u32::from_ne_bytes(it.octets()));
            (mapped(address), [u32::MAX, u32::MAX, u32::MAX, mask])
        }
        Some(IpNet::V6(network)) => (words(network.network()), words(network.netmask())),
    };
    Filter { address, mask, port: port.unwrap_or(0).into(), protocol: protocol.unwrap_or(0).into() }
}

/// What numbers mean.
#[derive(Debug)]
pub struct Names {
    /// Devices by index.
    pub devices: BTreeMap<u32, String>,
    /// Uplinks by id.
    pub uplinks: BTreeMap<u32, String>,
    /// How a mark names an uplink; with a RouterOS configuration it does not.
    pub marks: Option<MarkLayout>,
    /// When the kernel's clock began.
    pub began: SystemTime,
}

/// One packet, in or out by one device. This is what `pcc trace --json` prints, one a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// When, in UTC by RFC 3339.
    pub time: String,
    /// By which device.
    pub device: String,
    /// `in` or `out`.
    pub direction: &'static str,
    /// By name, or by number.
    pub protocol: String,
    /// Source; port 0 where there is none.
    pub source: SocketAddr,
    /// Destination, likewise.
    pub destination: SocketAddr,
    /// Bytes with the link-layer header; of packets that were merged all.
    pub length: u32,
    /// Flags of TCP.
    pub flags: Vec<&'static str>,
    /// The whole packet mark.
    pub mark: u32,
    /// The uplink that the mark names.
    pub uplink: Option<String>,
    #[serde(skip)]
    has_ports: bool,
}

impl Names {
    /// `report` with names.
    pub fn line(&self, report: &Report) -> Line {
        let end = |address: &[u32; 4], port| {
            let address = Ipv6Addr::from_bits(u128::from_be_bytes(bytes(address)));
            SocketAddr::new(IpAddr::from(address).to_canonical(), port)
        };
        let key = &report.key;
        let uplink = self.marks.and_then(|marks| marks.uplink(report.mark));
        Line {
            time: humantime::format_rfc3339_micros(self.began + Duration::from_nanos(report.time)).to_string(),
            device: self.devices.get(&report.ifindex).cloned().unwrap_or_else(|| report.ifindex.to_string()),
            direction: if report.direction == Direction::In as u32 { "in" } else { "out" },
            protocol: protocol(key.protocol),
            source: end(&key.source, key.source_port),
            destination: end(&key.destination, key.destination_port),
            length: report.length,
            flags: flags(report.tcp_flags),
            mark: report.mark,
            uplink: uplink.map(|id| self.uplinks.get(&id).cloned().unwrap_or_else(|| id.to_string())),
            has_ports: has_ports(key.protocol),
        }
    }
}

/// As in a [`FlowKey`](pcc_ebpf::abi::FlowKey).
fn words(address: Ipv6Addr) -> [u32; 4] {
    let mut words = [0; 4];
    for (to, bytes) in words.iter_mut().zip(address.octets().as_chunks::<4>().0) {
        *to = u32::from_ne_bytes(*bytes);
    }
    words
}

fn bytes(address: &[u32; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(address) {
        *to = word.to_ne_bytes();
    }
    bytes
}

fn protocol(number: u32) -> String {
    match number {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        58 => "icmpv6".into(),
        number => number.to_string(),
    }
}

fn flags(bits: u32) -> Vec<&'static str> {
    const FLAGS: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    FLAGS.into_iter().enumerate().filter(|(bit, _)| bits >> bit & 1 != 0).map(|(_, name)| name).collect()
}

impl fmt::Display for Line {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |end: &SocketAddr| if self.has_ports { end.to_string() } else { end.ip().to_string() };
        let Self { time, device, direction, protocol, length, .. } = self;
        let (source, destination) = (end(&self.source), end(&self.destination));
        write!(out, "{time} {device:<10} {direction:<3} {protocol} {source} → {destination}, {length} bytes")?;
        if !self.flags.is_empty() {
            write!(out, ", {}", self.flags.join(" "))?;
        }
        match &self.uplink {
            Some(uplink) => write!(out, ", mark {:#x}: {uplink}", self.mark),
            None if self.mark != 0 => write!(out, ", mark {:#x}", self.mark),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcc_ebpf::abi::FlowKey;

    fn key(client: &str) -> FlowKey {
        let Filter { address, .. } = filter(Some(client.parse().unwrap()), None, None);
        FlowKey { source: address, destination: address, source_port: 40_000, destination_port: 443, protocol: 6 }
    }

    #[test]
    fn a_filter_covers_its_prefix_in_its_family() {
        let covers =
            |network: &str, client: &str| filter(Some(network.parse().unwrap()), None, None).matches(&key(client));
        assert!(covers("192.0.2.0/24", "192.0.2.7/32") && !covers("192.0.2.0/24", "192.0.3.7/32"));
        assert!(covers("2001:db8:a::/48", "2001:db8:a::7/128") && !covers("2001:db8:a::/48", "2001:db8:b::7/128"));
        assert!(!covers("::/96", "192.0.2.7/32") && covers("0.0.0.0/0", "192.0.2.7/32"));
        assert!(!covers("0.0.0.0/0", "2001:db8::1/128"));
        assert!(filter(None, Some(443), Some(6)).matches(&key("192.0.2.7/32")));
    }

    #[test]
    fn a_line_has_names() {
        let names = Names {
            devices: [(3, "eth1".to_owned())].into(),
            uplinks: [(2, "fibre".to_owned())].into(),
            marks: Some(MarkLayout::DEFAULT),
            began: SystemTime::UNIX_EPOCH,
        };
        let key = FlowKey { destination: key("203.0.113.9/32").source, ..key("192.0.2.7/32") };
        let report =
            Report { time: 1_000, key, ifindex: 3, direction: 1, mark: 0x82, length: 60, tcp_flags: 0x12, rest: 0 };
        let line = names.line(&report);
        let expected = "1970-01-01T00:00:00.000001Z eth1       out tcp 192.0.2.7:40000 → 203.0.113.9:443, 60 bytes, \
                        SYN ACK, mark 0x82: fibre";
        assert_eq!(line.to_string(), expected);
        let json = serde_json::to_value(&line).unwrap();
        assert_eq!((json["uplink"].as_str(), json["source"].as_str()), (Some("fibre"), Some("192.0.2.7:40000")));
        let ping =
            Report { key: FlowKey { protocol: 1, ..key }, mark: 0, tcp_flags: 0, direction: 0, ifindex: 9, ..report };
        assert!(names.line(&ping).to_string().ends_with(" 9          in  icmp 192.0.2.7 → 203.0.113.9, 60 bytes"));
    }
}
