//! Both ends of cables, as lines of `ip -batch`.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address::Link;
use super::wire::{self, Kind};
use super::{Builder, Defaults, Namespace};

/// The line of `ip -batch` that makes a veth. Hardware that is plugged in again has the address that it had, and with it
/// its link-local one.
pub(super) fn cable(near: &str, number: u32, far: &str, peer: &Namespace) -> String {
    let ends = ["02:00:00:00:01", "02:00:00:00:02"].map(|end| format!("{end}:{number:02x}"));
    format!("link add {near} address {} type veth peer name {far} address {} netns {}\n", ends[0], ends[1], peer.name())
}

/// The number in the hardware addresses of `lan`.
pub(super) const LAN: u32 = 100;

impl Builder {
    /// The line of `ip -batch` that makes the cable of an uplink.
    pub(super) fn cable(&self, number: u32, isp: &Namespace) -> String {
        let (near, far) = match self.kind(number) {
            Kind::Veth => ("wan", "eth0"),
            Kind::Vlan | Kind::Pppoe => (wire::PORT, wire::PORT),
            Kind::Tun => return String::new(),
        };
        cable(&format!("{near}{number}"), number, far, isp)
    }

    /// [`Self::whole_frames`] for the `eth0` of a namespace.
    pub(super) fn finish_frames(&self, namespace: &Namespace) {
        if self.whole_frames {
            namespace.exec("ethtool", "-K eth0 tx off gro on".split(' '));
        }
    }

    pub(super) fn isp_end(&self, number: u32, link: &Link) -> String {
        self.uplink_end(number, "eth0", (link.gateway4, link.router4), (link.gateway6, link.router6))
    }

    /// With main's default routes.
    pub(super) fn router_end(&self, number: u32, link: &Link) -> String {
        let device = format!("wan{number}");
        let mut script = self.uplink_end(number, &device, (link.router4, link.gateway4), (link.router6, link.gateway6));
        let wanted = match self.defaults {
            Defaults::First => number == 1,
            Defaults::All => true,
            Defaults::None => false,
        };
        if wanted {
            let via = |gateway: IpAddr| match self.kind(number).is_point_to_point() {
                true => format!("dev {device} metric {}", number * 100),
                false => format!("via {gateway} dev {device} metric {}", number * 100),
            };
            let _ = writeln!(script, "route add 0.0.0.0/0 {} proto dhcp", via(link.gateway4.into()));
            self.v6(&mut script, &format!("route add ::/0 {} proto ra", via(link.gateway6.into())));
        }
        script
    }

    /// One end of an uplink: up, with its addresses.
    fn uplink_end(
        &self,
        number: u32,
        device: &str,
        (own4, peer4): (Ipv4Addr, Ipv4Addr),
        (own6, peer6): (Ipv6Addr, Ipv6Addr),
    ) -> String {
        let mut script = String::new();
        if let Some((_, mtu)) = self.mtus.iter().find(|(uplink, _)| *uplink == number) {
            let _ = writeln!(script, "link set {device} mtu {mtu}");
        }
        let _ = writeln!(script, "link set {device} up");
        let kind = self.kind(number);
        if !kind.is_point_to_point() {
            self.address(&mut script, device, (own4, 24), own6);
            return script;
        }
        // PPP hands the IPv4 address out itself.
        if kind != Kind::Pppoe {
            let _ = writeln!(script, "addr add {own4} peer {peer4} dev {device}");
        }
        self.v6(&mut script, &format!("addr add {own6} peer {peer6} dev {device} nodad"));
        script
    }

    pub(super) fn address(&self, script: &mut String, device: &str, (v4, length): (Ipv4Addr, u8), v6: Ipv6Addr) {
        let _ = writeln!(script, "addr add {v4}/{length} dev {device}");
        self.v6(script, &format!("addr add {v6}/64 dev {device} nodad"));
    }

    /// Adds a line to a script where the lab has IPv6.
    pub(super) fn v6(&self, script: &mut String, line: &str) {
        if self.ipv6 {
            let _ = writeln!(script, "{line}");
        }
    }
}
