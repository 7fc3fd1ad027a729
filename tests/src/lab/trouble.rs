//! What can happen to a lab: loss, outages of many kinds, devices that go and come, addresses that change.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::address::{self, Link};
use super::builder::Defaults;
use super::wire::Kind;
use super::{Isp, Lab, ends, wire};

impl Lab {
    /// Loses `percent` of the packets that the router sends by uplink `number`, ARP and neighbour discovery included:
    /// of questions with one packet and one answer as many stay unanswered. 0 ends it.
    pub fn loss(&self, number: u32, percent: u32) {
        let isp = self.isp(number).namespace();
        let mut script = String::from("add table netdev loss\ndelete table netdev loss\n");
        if percent > 0 {
            let _ = writeln!(
                script,
                "table netdev loss {{ chain in {{ type filter hook ingress device eth0 priority -400
                  numgen random mod 100 < {percent} drop\n}}\n}}"
            );
        }
        isp.nft(&script);
    }

    /// Lets the gateway of ISP `number` live, pings, ARP and neighbour discovery, but loses all that goes to or comes
    /// from beyond it; or ends that.
    pub fn black_hole(&self, number: u32, on: bool) {
        let servers = format!("{}/24", address::server4(0));
        let servers6 = format!("{}/64", address::server6(0));
        let rules = format!(
            "chain in {{ type filter hook prerouting priority -310
              ip daddr {servers} drop\nip6 daddr {servers6} drop\n}}
             chain out {{ type filter hook output priority -310
              ip saddr {servers} drop\nip6 saddr {servers6} drop\n}}"
        );
        self.isp(number).outage("hole", on.then_some(&rules));
    }

    /// Loses every TCP segment at ISP `number`; pings, UDP and the gateway live. Or ends that.
    pub fn without_tcp(&self, number: u32, on: bool) {
        let rules = "chain in { type filter hook prerouting priority -310
              meta l4proto tcp drop\n}
             chain out { type filter hook output priority -310
              meta l4proto tcp drop\n}";
        self.isp(number).outage("tcpless", on.then_some(rules));
    }

    /// Removes all nftables tables of the router, as `/etc/nftables.conf` of Debian begins.
    pub fn flush_ruleset(&self) {
        self.router().nft("flush ruleset");
    }

    /// Removes the device of uplink `number`, with addresses and routes: a stick that is pulled.
    ///
    /// # Panics
    /// Where it is neither a veth nor a VLAN, or has gone already.
    pub fn unplug(&self, number: u32) {
        self.assert_cable(number);
        self.router().ip(&format!("link del wan{number}"));
        if self.builder.kind(number) == Kind::Vlan {
            self.isp(number).namespace().ip("link del eth0");
        }
    }

    /// Makes the device of uplink `number` anew after [`Self::unplug`], with the addresses and routes that it had.
    ///
    /// # Panics
    /// Where it is there.
    pub fn plug(&self, number: u32) {
        let isp = self.isp(number);
        match self.builder.kind(number) {
            Kind::Vlan => wire::add_vlan(number, self.router(), isp.namespace()),
            _ => self.router().ip_batch(&self.builder.cable(number, isp.namespace())),
        }
        isp.namespace().ip_batch(&self.builder.isp_end(number, &isp.link));
        self.builder.finish_frames(isp.namespace());
        self.router().ip_batch(&self.builder.router_end(number, &isp.link));
    }

    /// [`Self::unplug`] and [`Self::plug`] at once, as a PPP redial or a hot-plug event does; a PPPoE session is really
    /// dialled anew.
    pub fn remake(&self, number: u32) {
        if self.builder.kind(number) == Kind::Pppoe {
            self.carrier(number, false);
            return self.carrier(number, true);
        }
        self.unplug(number);
        self.plug(number);
    }

    /// Gives uplink `number` another network, own address and gateway in both families, as a DHCP server and router
    /// advertisements may; the old addresses, and main's default routes by the old gateway, go.
    ///
    /// # Panics
    /// Where it is neither a veth nor a VLAN.
    pub fn readdress(&mut self, number: u32) {
        self.assert_cable(number);
        let old = self.isp(number).link;
        let defaults = match self.builder.defaults {
            Defaults::All => true,
            Defaults::First => number == 1,
            Defaults::None => false,
        };
        let Some(isp) = self.isps.iter_mut().find(|isp| isp.number == number) else { return };
        isp.readdressed = isp.readdressed % 15 + 1;
        isp.link = Link::after_changes(number, isp.readdressed);
        let new = isp.link;

        let ipv6 = self.builder.ipv6;
        let device = format!("wan{number}");
        let mut near = changed(&device, (old.router4.into(), new.router4.into()));
        let mut far = changed("eth0", (old.gateway4.into(), new.gateway4.into()));
        if ipv6 {
            near += &changed(&device, (old.router6.into(), new.router6.into()));
            far += &changed("eth0", (old.gateway6.into(), new.gateway6.into()));
        }
        self.isp(number).namespace().ip_batch(&far);
        if defaults {
            let metric = number * 100;
            let _ =
                writeln!(near, "route replace 0.0.0.0/0 via {} dev {device} metric {metric} proto dhcp", new.gateway4);
            if ipv6 {
                let at = format!("dev {device} metric {metric} proto ra");
                let _ = writeln!(near, "route replace ::/0 via {} {at}", new.gateway6);
            }
        }
        self.router().ip_batch(&near);
    }

    /// Removes the device `lan`.
    pub fn unplug_lan(&self) {
        self.router().ip("link del lan");
    }

    /// Makes the device `lan` anew after [`Self::unplug_lan`].
    pub fn plug_lan(&self) {
        let client = self.client().namespace();
        self.router().ip_batch(&ends::cable("lan", ends::LAN, "eth0", client));
        self.builder.set_up_lan(self.router());
        self.builder.set_up_client(client);
        self.builder.finish_frames(client);
        self.builder.wait_until_ready(client);
    }

    fn assert_cable(&self, number: u32) {
        let kind = self.builder.kind(number);
        assert!(matches!(kind, Kind::Veth | Kind::Vlan), "uplink {number} is {kind:?}");
    }
}

impl Isp {
    /// Puts the chains `rules` in force under the name `table`, or takes them out of force.
    fn outage(&self, table: &str, rules: Option<&str>) {
        let mut script = format!("add table inet {table}\ndelete table inet {table}\n");
        if let Some(rules) = rules {
            let _ = writeln!(script, "table inet {table} {{\n{rules}\n}}");
        }
        self.namespace().nft(&script);
    }
}

/// Lines of `ip -batch` that replace an address of a device; the new one comes first, as with a lease that changes.
fn changed(device: &str, (old, new): (IpAddr, IpAddr)) -> String {
    let (length, flags) = if new.is_ipv4() { (24, "") } else { (64, " nodad") };
    format!("addr add {new}/{length} dev {device}{flags}\naddr del {old}/{length} dev {device}\n")
}
