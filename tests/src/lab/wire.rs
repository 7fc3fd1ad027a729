//! What an uplink is made of.

use super::namespace::Namespace;
use super::pppoe::Session;
use super::tun::Tun;

/// What the builder was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Veth,
    Vlan,
    Pppoe,
    Tun,
}

impl Kind {
    /// No Ethernet header: routes need no gateway, addresses name the peer.
    pub(super) fn is_point_to_point(self) -> bool {
        matches!(self, Self::Pppoe | Self::Tun)
    }
}

/// The cable of an uplink. The ISP's device is `eth0` whatever it is.
#[derive(Debug)]
pub(super) enum Wire {
    Veth,
    /// On a veth of its own whose ISP end is [`PORT`].
    Vlan,
    Pppoe(Box<Session>),
    Tun(Tun),
}

/// The ISP's end of the veth below a VLAN device or a PPPoE session; the router's has the uplink's number behind it.
pub(super) const PORT: &str = "port";

impl Wire {
    pub(super) fn is_point_to_point(&self) -> bool {
        matches!(self, Self::Pppoe(_) | Self::Tun(_))
    }

    /// Gives carrier or takes it; a PPPoE session is dialled or hung up instead.
    pub(super) fn carrier(&self, isp: &Namespace, on: bool) {
        let state = if on { "up" } else { "down" };
        match self {
            Self::Veth => drop(isp.ip(&format!("link set eth0 {state}"))),
            Self::Vlan => drop(isp.ip(&format!("link set {PORT} {state}"))),
            Self::Pppoe(session) if on => session.dial(),
            Self::Pppoe(session) => session.hang_up(),
            Self::Tun(tun) => tun.carrier(on),
        }
    }

    /// Loses every packet with carrier up, or stops to.
    pub(super) fn silence(&self, isp: &Namespace, on: bool) {
        const DROP: &str = "table netdev silence {
            chain in { type filter hook ingress device eth0 priority -500; policy drop; }
            chain out { type filter hook egress device eth0 priority -500; policy drop; }
        }";
        const LIVE: &str = "add table netdev silence\ndelete table netdev silence";
        match self {
            Self::Tun(tun) => tun.silence(on),
            _ => isp.nft(if on { DROP } else { LIVE }),
        }
    }
}

/// Makes both ends of a VLAN on `port<number>` and [`PORT`].
///
/// # Panics
/// Where the kernel has no VLAN devices.
pub(super) fn add_vlan(number: u32, router: &Namespace, isp: &Namespace) {
    for (namespace, port, device) in
        [(router, &*format!("{PORT}{number}"), &*format!("wan{number}")), (isp, PORT, "eth0")]
    {
        let add = format!("link add link {port} name {device} type vlan id 7");
        let added = namespace.command("ip", add.split(' ')).output();
        let added = added.unwrap_or_else(|error| panic!("`ip {add}`: {error}"));
        assert!(
            added.status.success(),
            "a VLAN uplink needs a kernel with VLAN devices; `cargo xtask vm` boots one\n{}",
            String::from_utf8_lossy(&added.stderr)
        );
        namespace.ip(&format!("link set {port} up"));
    }
}
