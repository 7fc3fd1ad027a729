//! `in-interface` and `in-interface-list`.

use pcc_ebpf::abi::Op;

use super::context::Context;
use super::expression::Expression;
use crate::mirror::names::members;
use crate::routeros::model::Model;
use crate::routeros::{Severity, Span};

const ID: &str = "mirror-interface";

impl Context<'_> {
    /// The packet came in by the interface `name`.
    pub fn in_interface(&mut self, name: &str, span: Span) -> Option<Expression> {
        let ports = &self.model.bridge_ports;
        if let Some(port) = ports.iter().find(|port| port.interface == name && !port.item.disabled()) {
            let bridge = &port.group;
            let message = format!("never matches: packets of the port `{name}` come in by its bridge `{bridge}`");
            self.note(Severity::Warning, ID, span, message, format!("in-interface={bridge}"));
            return Some(Expression::NEVER);
        }
        match self.devices.get(name) {
            Some(device) => Some(Expression::test(Op::Device, device.number, 0)),
            None if self.model.interface(name).is_some_and(|interface| interface.item.disabled()) => {
                self.info(ID, span, format!("never matches: interface `{name}` is disabled"));
                Some(Expression::NEVER)
            }
            None => {
                let message = format!("interface `{name}` has no Linux device");
                self.note(Severity::Error, ID, span, message, format!("--map {name}=DEVICE"));
                None
            }
        }
    }

    /// The packet came in by a member of `list`.
    pub fn in_interface_list(&mut self, list: &str, span: Span) -> Option<Expression> {
        // Every packet comes in by some interface.
        match list {
            "all" => return Some(Expression::ALWAYS),
            "none" => return Some(Expression::NEVER),
            _ => {}
        }
        let Some(known) = members(self.model, list) else {
            let message = format!("only a running router knows the members of interface list `{list}`");
            let fix = format!("/interface list add name={list}, and its members");
            self.note(Severity::Error, ID, span, message, fix);
            return None;
        };
        let mut tests = Vec::new();
        for device in self.devices.iter() {
            if is_member(self.model, list, &device.interface, 0) {
                tests.push(Expression::test(Op::Device, device.number, 0));
            }
        }
        let enabled = |name: &&String| !self.model.interface(name).is_some_and(|known| known.item.disabled());
        let missing: Vec<_> =
            known.iter().filter(enabled).filter(|name| self.devices.get(name).is_none()).cloned().collect();
        for name in &missing {
            // Without any device the rule would be lost.
            let severity = if tests.is_empty() { Severity::Error } else { Severity::Warning };
            let message = format!("`{name}` of interface list `{list}` has no Linux device; its packets are not seen");
            self.note(severity, ID, span, message, format!("--map {name}=DEVICE"));
        }
        if tests.is_empty() && !missing.is_empty() {
            return None;
        }
        if tests.is_empty() {
            self.info(ID, span, format!("never matches: interface list `{list}` is empty"));
        }
        Some(Expression::any(tests))
    }
}

/// `interface` is in `list`, all of whose parts are known: as [`members`], but also for interfaces that only the mapping
/// to devices names.
fn is_member(model: &Model, list: &str, interface: &str, depth: usize) -> bool {
    const DEEPEST: usize = 16;
    let own = |member: &&crate::routeros::model::interface::Member| {
        member.group == list && member.interface == interface && !member.item.disabled()
    };
    if list == "all" || model.members.iter().any(|member| own(&member)) {
        return true;
    }
    let Some(known) = model.lists.iter().find(|known| known.name == list).filter(|_| depth <= DEEPEST) else {
        return false;
    };
    let within = |lists: &[String]| lists.iter().any(|list| is_member(model, list, interface, depth + 1));
    within(&known.include) && !within(&known.exclude)
}
