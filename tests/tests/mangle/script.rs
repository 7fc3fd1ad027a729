//! Rules as the text of a RouterOS script.

use std::fmt::{self, Write as _};

use crate::rules::{Action, Kind, Matcher, Router, Rule, Test};
use crate::world::{CONNECTION_MARKS, LISTS, PACKET_MARKS, ROUTING_MARKS};

/// Written as the script that makes them, without the parts that all scripts share.
impl fmt::Display for Router {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ipv6 in [false, true] {
            let tree = if ipv6 { "ipv6" } else { "ip" };
            for (at, entry) in self.entries.iter().filter(|entry| entry.ipv6 == ipv6).enumerate() {
                if at == 0 {
                    writeln!(out, "/{tree} firewall address-list")?;
                }
                write!(out, "add list={} address={}", word(entry.list), entry.net[usize::from(ipv6)])?;
                writeln!(out, "{}", if entry.disabled { " disabled=yes" } else { "" })?;
            }
            for (at, rule) in self.rules.iter().filter(|rule| rule.ipv6 == ipv6).enumerate() {
                if at == 0 {
                    writeln!(out, "/{tree} firewall mangle")?;
                }
                writeln!(out, "{rule}")?;
            }
        }
        Ok(())
    }
}

/// The whole script.
pub fn script(router: &Router) -> String {
    let mut text = String::from("/interface bridge add name=bridge1\n/interface list\n");
    for list in &LISTS {
        let _ = write!(text, "add name={}", word(list.name));
        for (property, lists) in [("include", list.include), ("exclude", list.exclude)] {
            if !lists.is_empty() {
                let _ = write!(text, " {property}={}", lists.join(","));
            }
        }
        text.push('\n');
    }
    text.push_str("/interface list member\n");
    for list in &LISTS {
        for member in list.members {
            let _ = writeln!(text, "add list={} interface={member}", word(list.name));
        }
    }
    text.push_str("/routing table\n");
    for mark in ROUTING_MARKS {
        let _ = writeln!(text, "add name={} fib", word(mark));
    }
    // Every mark has a number, whichever the rules name.
    text.push_str("/ip firewall nat\n");
    for mark in CONNECTION_MARKS {
        let _ = writeln!(text, "add chain=srcnat action=accept connection-mark={}", word(mark));
    }
    for mark in PACKET_MARKS {
        let _ = writeln!(text, "add chain=srcnat action=accept packet-mark={}", word(mark));
    }
    text + &router.to_string()
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "add chain={}", word(self.chain))?;
        for matcher in &self.matchers {
            write!(out, " {}", self.matcher(matcher))?;
        }
        write!(out, " action={}", self.action.name())?;
        match &self.action {
            Action::Jump(target) => write!(out, " jump-target={}", word(target))?,
            Action::Mark(Kind::Connection, mark) => write!(out, " new-connection-mark={}", word(mark))?,
            Action::Mark(Kind::Packet, mark) => write!(out, " new-packet-mark={}", word(mark))?,
            Action::Mark(Kind::Routing, mark) => write!(out, " new-routing-mark={}", word(mark))?,
            Action::Accept | Action::Return | Action::Passthrough | Action::Log => {}
        }
        if matches!(self.action, Action::Mark(..)) && !self.passthrough {
            write!(out, " passthrough=no")?;
        }
        if self.disabled {
            write!(out, " disabled=yes")?;
        }
        Ok(())
    }
}

impl Rule {
    fn matcher(&self, Matcher { negated, test }: &Matcher) -> String {
        let own = |pair: &[&'static str; 2]| pair[usize::from(self.ipv6)];
        let value = match test {
            Test::InInterface(name) | Test::InInterfaceList(name) | Test::AddressList(_, name) => (*name).to_owned(),
            Test::Address(_, net) => own(net).to_owned(),
            Test::AddressType(_, words) | Test::State(words) => words.join(","),
            Test::Mark(_, mark) => mark.unwrap_or("no-mark").to_owned(),
            Test::Protocol(name) => own(name).to_owned(),
            Test::Port(_, ranges) => {
                ranges.iter().map(|range| span(range.0.into(), range.1.into())).collect::<Vec<_>>().join(",")
            }
            Test::TcpFlags(flags) => {
                let flag = |(name, set): &(&str, bool)| format!("{}{name}", if *set { "" } else { "!" });
                flags.iter().map(flag).collect::<Vec<_>>().join(",")
            }
            Test::PacketSize(first, last) => span(*first, *last),
            Test::Icmp(options) => own(options).to_owned(),
            Test::Pcc { fields, denominator, remainder } => format!("{fields}:{denominator}/{remainder}"),
            Test::Nth { every, packet } => format!("{every},{packet}"),
            Test::Random(percent) => percent.to_string(),
            Test::Dscp(dscp) => dscp.to_string(),
            Test::Ttl(relation, ttl) => format!("{relation}:{ttl}"),
        };
        let property = match test.property() {
            "ttl" if self.ipv6 => "hop-limit",
            property => property,
        };
        format!("{property}={}{}", if *negated { "!" } else { "" }, word(&value))
    }
}

fn span(first: u32, last: u32) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// A value, in quotes where it needs them.
fn word(text: &str) -> String {
    if text.contains([' ', '"']) { format!("\"{}\"", text.replace('"', "\\\"")) } else { text.to_owned() }
}
