//! `in-interface` and `in-interface-list`.

use pcc_ebpf::abi::Op;

use super::context::Context;
use super::expression::Expression;
use crate::mirror::names::{is_member, members};
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
                self.note_once(Severity::Error, ID, span, message, format!("--map {name}=DEVICE"));
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
            let message = format!("interface list `{list}` is not defined, or only a running router knows its members");
            let fix = format!("/interface list add name={list}, and its members");
            self.note_once(Severity::Error, ID, span, message, fix);
            return None;
        };
        let mut tests = Vec::new();
        for device in self.devices.iter() {
            if is_member(self.model, list, &device.interface) {
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
            self.note_once(severity, ID, span, message, format!("--map {name}=DEVICE"));
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
