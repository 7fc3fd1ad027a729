//! Changes as the commands that an administrator would type.

use std::fmt::{Display, Formatter, Result};
use std::net::IpAddr;

use super::{Change, Family, NextHop, Route, RouteKind, Rule, RuleAction, TABLE_MAIN};

impl Display for Change {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        match self {
            Self::Sysctl { key, value } => write!(out, "sysctl -w {}={value}", dotted(key)),
            Self::AddAddress { device, address } => {
                write!(out, "ip {} address add {address} dev {device}", Family::of(address.addr()).flag())
            }
            Self::RemoveAddress { device, address } => {
                write!(out, "ip {} address del {address} dev {device}", Family::of(address.addr()).flag())
            }
            Self::AddRoute(route) => write!(out, "ip {} route append {route}", route.family().flag()),
            Self::ReplaceRoute(route) => write!(out, "ip {} route replace {route}", route.family().flag()),
            Self::RemoveRoute(route) => write!(out, "ip {} route del {route}", route.family().flag()),
            Self::AddRule(rule) => write!(out, "ip {} rule add {rule}", rule.family.flag()),
            Self::RemoveRule(rule) => write!(out, "ip {} rule del {rule}", rule.family.flag()),
            Self::Nft { summary, .. } => write!(out, "nft -f - # {summary}"),
            Self::DeleteConnections { family, mark, mask } => {
                let family = match family {
                    None => "",
                    Some(Family::V4) => "-f ipv4 ",
                    Some(Family::V6) => "-f ipv6 ",
                };
                write!(out, "conntrack -D {family}--mark {mark:#x}/{mask:#x}")
            }
            Self::EndConnections { family, mark, mask, .. } => {
                let family = if *family == Family::V4 { "ipv4" } else { "ipv6" };
                write!(out, "conntrack -D -f {family} --mark {mark:#x}/{mask:#x} # clients of answered TCP are told")
            }
            Self::SweepUntranslated { .. } => {
                write!(out, "conntrack -D # what leaves by an uplink without source translation")
            }
            Self::ReleaseConnections { ours, mask } => {
                write!(out, "conntrack -D --src-nat --mark {ours:#x}/{ours:#x} # the others lose the bits {mask:#x}")
            }
        }
    }
}

/// What follows `ip route append`.
impl Display for Route {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        match self.kind {
            RouteKind::Unicast => {}
            RouteKind::Blackhole => out.write_str("blackhole ")?,
            RouteKind::Unreachable => out.write_str("unreachable ")?,
            RouteKind::Prohibit => out.write_str("prohibit ")?,
            RouteKind::Other(kind) => write!(out, "{} ", kind_name(kind).unwrap_or("type-unknown"))?,
        }
        if self.destination.prefix_len() == 0 {
            out.write_str("default")?;
        } else {
            write!(out, "{}", self.destination)?;
        }
        if let [hop] = self.next_hops.as_slice() {
            self.write_hop(hop, out)?;
        }
        write!(out, " table {} proto {}", table(self.table), self.protocol)?;
        // Without a gateway `ip` would choose scope link by itself, with one or for a blackhole global.
        if self.family() == Family::V4 {
            let chosen = if self.kind == RouteKind::Unicast && self.is_connected() { 253 } else { 0 };
            if self.scope != chosen {
                write!(out, " scope {}", self.scope)?;
            }
        }
        if let Some(metric) = self.metric {
            write!(out, " metric {metric}")?;
        }
        if let Some(source) = self.preferred_source {
            write!(out, " src {source}")?;
        }
        if let [_, _, ..] = self.next_hops.as_slice() {
            for hop in &self.next_hops {
                out.write_str(" nexthop")?;
                self.write_hop(hop, out)?;
                write!(out, " weight {}", hop.weight)?;
            }
        }
        Ok(())
    }
}

impl Route {
    /// The family of its destination.
    pub fn family(&self) -> Family {
        Family::of(self.destination.addr())
    }

    /// It leads to no gateway.
    fn is_connected(&self) -> bool {
        self.next_hops.iter().all(|hop| hop.gateway.is_none())
    }

    fn write_hop(&self, hop: &NextHop, out: &mut Formatter<'_>) -> Result {
        match hop.gateway {
            Some(gateway @ IpAddr::V6(_)) if self.family() == Family::V4 => write!(out, " via inet6 {gateway}")?,
            Some(gateway) => write!(out, " via {gateway}")?,
            None => {}
        }
        match hop.device.as_str() {
            // `ip` understands this as an index.
            "" => write!(out, " dev if{}", hop.ifindex)?,
            device => write!(out, " dev {device}")?,
        }
        out.write_str(if hop.onlink { " onlink" } else { "" })
    }
}

impl Family {
    /// The option of `ip` that selects it.
    pub(super) fn flag(self) -> &'static str {
        match self {
            Self::V4 => "-4",
            Self::V6 => "-6",
        }
    }
}

/// What follows `ip rule add`.
impl Display for Rule {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        write!(out, "pref {}", self.priority)?;
        if self.inverted {
            out.write_str(" not")?;
        }
        if let Some(source) = self.source {
            write!(out, " from {source}")?;
        }
        if let Some(destination) = self.destination {
            write!(out, " to {destination}")?;
        }
        if let Some(device) = &self.input {
            write!(out, " iif {device}")?;
        }
        match self.mark {
            Some((mark, u32::MAX)) => write!(out, " fwmark {mark:#x}")?,
            Some((mark, mask)) => write!(out, " fwmark {mark:#x}/{mask:#x}")?,
            None => {}
        }
        if self.table != 0 {
            write!(out, " lookup {}", table(self.table))?;
        }
        if let Some(length) = self.suppress_prefix_length {
            write!(out, " suppress_prefixlength {length}")?;
        }
        match self.action {
            RuleAction::Lookup | RuleAction::Other(_) => {}
            RuleAction::Blackhole => out.write_str(" blackhole")?,
            RuleAction::Unreachable => out.write_str(" unreachable")?,
            RuleAction::Prohibit => out.write_str(" prohibit")?,
        }
        // Most tools name none.
        if self.protocol != 0 {
            write!(out, " protocol {}", self.protocol)?;
        }
        Ok(())
    }
}

fn table(number: u32) -> String {
    if number == TABLE_MAIN { "main".to_owned() } else { number.to_string() }
}

fn kind_name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        2 => "local",
        3 => "broadcast",
        4 => "anycast",
        5 => "multicast",
        9 => "throw",
        _ => return None,
    })
}

/// `net/ipv4/conf/eth0.5/rp_filter` as `net.ipv4.conf.eth0/5.rp_filter`: sysctl swaps the two.
fn dotted(key: &str) -> String {
    key.chars()
        .map(|letter| match letter {
            '/' => '.',
            '.' => '/',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::PROTOCOL;

    fn route(destination: &str, hops: Vec<NextHop>) -> Route {
        Route {
            destination: destination.parse().unwrap(),
            next_hops: hops,
            table: 20501,
            metric: Some(1024),
            protocol: PROTOCOL,
            kind: RouteKind::Unicast,
            preferred_source: None,
            scope: 0,
        }
    }

    fn hop(gateway: Option<&str>, device: &str) -> NextHop {
        NextHop {
            gateway: gateway.map(|address| address.parse().unwrap()),
            ifindex: 7,
            device: device.to_owned(),
            onlink: false,
            weight: 1,
        }
    }

    #[test]
    fn routes_print_as_ip_commands() {
        let via = route("0.0.0.0/0", vec![hop(Some("198.18.1.1"), "wan1")]);
        assert_eq!(
            Change::AddRoute(via.clone()).to_string(),
            "ip -4 route append default via 198.18.1.1 dev wan1 table 20501 proto 205 metric 1024"
        );
        let blackhole = Route { kind: RouteKind::Blackhole, next_hops: vec![], metric: Some(u32::MAX), ..via };
        assert_eq!(
            Change::RemoveRoute(blackhole).to_string(),
            "ip -4 route del blackhole default table 20501 proto 205 metric 4294967295"
        );
        assert_eq!(
            route("2001:db8::/32", vec![hop(Some("fe80::1"), "wan1"), hop(None, "")]).to_string(),
            "2001:db8::/32 table 20501 proto 205 metric 1024 nexthop via fe80::1 dev wan1 weight 1 nexthop dev if7 weight 1"
        );
    }

    #[test]
    fn rules_print_as_ip_commands() {
        let rule = Rule { mark: Some((0x81, 0x9f)), ..Rule::lookup(Family::V6, 32600, 20501) };
        assert_eq!(
            Change::AddRule(rule.clone()).to_string(),
            "ip -6 rule add pref 32600 fwmark 0x81/0x9f lookup 20501 protocol 205"
        );
        let dropped = Rule {
            mark: None,
            source: "2001:db8:1::/64".parse().ok(),
            destination: "2001:db8:2::/64".parse().ok(),
            input: Some("lan".into()),
            action: RuleAction::Unreachable,
            table: 0,
            ..rule.clone()
        };
        assert_eq!(
            dropped.to_string(),
            "pref 32600 from 2001:db8:1::/64 to 2001:db8:2::/64 iif lan unreachable protocol 205"
        );
        let first = Rule { mark: None, table: TABLE_MAIN, suppress_prefix_length: Some(0), ..rule };
        assert_eq!(first.to_string(), "pref 32600 lookup main suppress_prefixlength 0 protocol 205");
    }

    #[test]
    fn the_rest_prints_as_commands() {
        let sysctl = |key: &str| Change::Sysctl { key: key.to_owned(), value: "1".to_owned() }.to_string();
        assert_eq!(sysctl("net/ipv4/ip_forward"), "sysctl -w net.ipv4.ip_forward=1");
        assert_eq!(sysctl("net/ipv4/conf/eth0.5/rp_filter"), "sysctl -w net.ipv4.conf.eth0/5.rp_filter=1");
        let delete = |family| Change::DeleteConnections { family, mark: 0x81, mask: 0x9f }.to_string();
        assert_eq!(delete(None), "conntrack -D --mark 0x81/0x9f");
        assert_eq!(delete(Some(Family::V6)), "conntrack -D -f ipv6 --mark 0x81/0x9f");
    }
}
