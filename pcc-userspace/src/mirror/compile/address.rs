//! Addresses, address lists, address types.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use pcc_ebpf::abi::Op;

use super::SetSource;
use super::context::Context;
use super::expression::Expression;
use super::sets::decompose;
use crate::routeros::model::Family;
use crate::routeros::model::matcher::AddressType;
use crate::routeros::model::rule::Action;
use crate::routeros::model::values::AddressRange;
use crate::routeros::{Severity, Span};

const ID: &str = "mirror-list";

impl Context<'_> {
    /// The address that `op` looks at is in `range`.
    pub fn range(&mut self, family: Family, op: Op, range: AddressRange, span: Span) -> Option<Expression> {
        if !family.holds(range.first) {
            let message = format!("an address of the other family in a rule of `/{}`", family.menu());
            self.note(Severity::Error, "mirror-matcher", span, message, "move the rule to the other menu");
            return None;
        }
        Some(self.prefixes(op, decompose(vec![range])))
    }

    /// The address that `op` looks at is in the address list `list`.
    pub fn address_list(&mut self, family: Family, op: Op, list: &str, span: Span) -> Option<Expression> {
        let model = self.model;
        let menus = [&model.mangle, &model.nat, &model.filter, &model.raw];
        let fills = |action: &Action| matches!(action, Action::AddToAddressList { list: filled, .. } if filled == list);
        let mut rules = menus.into_iter().flatten().filter(|rule| rule.active() && rule.family == family);
        if let Some(rule) = rules.find(|rule| fills(&rule.action)) {
            let line = rule.span().line;
            let message = format!("address list `{list}` is filled while the router runs (line {line})");
            self.note(Severity::Error, ID, span, message, "give the list its entries in the script");
            return None;
        }
        let entries = model.address_lists.get(list).map_or(&[][..], Vec::as_slice);
        let (mut known, mut refused) = (0_usize, false);
        for entry in entries.iter().filter(|entry| !entry.disabled && entry.family == family) {
            let message = match entry.addresses {
                Some(range) if family.holds(range.first) => {
                    known += 1;
                    continue;
                }
                Some(_) => format!("`{}` is no address of `/{}`", entry.text, family.menu()),
                None => format!("host name `{}` of address list `{list}` is not resolved", entry.text),
            };
            refused = true;
            self.note(Severity::Error, ID, entry.span, message, "write its addresses");
        }
        if refused {
            return None;
        }
        if known == 0 {
            let message = format!("address list `{list}` has no entries: no address is in it");
            self.note(Severity::Warning, ID, span, message, "add entries, or remove the rule");
            return Some(Expression::NEVER);
        }
        Some(self.set(op, SetSource::List(list.to_owned())))
    }

    /// The address that `op` (a test of a set) looks at is of one of `types`.
    pub fn address_type(&mut self, family: Family, op: Op, types: &[AddressType], span: Span) -> Option<Expression> {
        let mut tests = Vec::new();
        for kind in types {
            tests.push(match kind {
                AddressType::Local => self.set(op, SetSource::Local),
                AddressType::Broadcast => self.broadcast(family, op),
                AddressType::Multicast => multicast(family, op),
                AddressType::Unicast => {
                    let others = [self.set(op, SetSource::Local), self.broadcast(family, op), multicast(family, op)];
                    Expression::any(others).negated()
                }
                AddressType::Blackhole => {
                    let message = "the address type `blackhole` is not known where these rules run";
                    let fix = "match the addresses of the blackhole routes";
                    self.note(Severity::Error, "mirror-matcher", span, message, fix);
                    return None;
                }
            });
        }
        Some(Expression::any(tests))
    }

    /// IPv6 has no broadcast.
    fn broadcast(&mut self, family: Family, op: Op) -> Expression {
        match family {
            Family::V4 => self.set(op, SetSource::Broadcast),
            Family::V6 => Expression::NEVER,
        }
    }
}

fn multicast(family: Family, op: Op) -> Expression {
    let op = if op == Op::SourceSet { Op::SourcePrefix } else { Op::DestinationPrefix };
    let net = match family {
        Family::V4 => Ipv4Net::new(Ipv4Addr::new(224, 0, 0, 0), 4).map(IpNet::V4),
        Family::V6 => Ipv6Net::new(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8).map(IpNet::V6),
    };
    net.map_or(Expression::NEVER, |net| Expression::prefix(op, net))
}
