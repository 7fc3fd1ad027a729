//! Actions of mangle in prerouting.

use pcc_ebpf::abi::Op;

use super::context::Context;
use crate::routeros::model::route::MAIN;
use crate::routeros::model::rule::{Action, Rule};
use crate::routeros::{Severity, Span};

const ID: &str = "mirror-action";

/// What a matching rule does to the walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// `op` sets a mark to `number`; then the walk ends or goes on.
    Mark {
        op: Op,
        number: u32,
        ends: bool,
    },
    Accept,
    Return,
    Jump(String),
}

impl Context<'_> {
    /// What `rule` does; `None` if it does nothing or, with a note, if it is refused.
    pub fn effect(&mut self, rule: usize) -> Option<Effect> {
        let rule = &self.model.mangle[rule];
        let span = rule.item.place("action");
        if rule.broken {
            let message = "what this rule does is not known: a value of it is missing or cannot be read";
            self.note(Severity::Error, "mirror-broken", rule.span(), message, "write the value, or disabled=yes");
            return None;
        }
        if rule.item.flag("log") {
            self.info(ID, rule.item.place("log"), "nothing is logged");
        }
        let refused = match &rule.action {
            Action::Accept => return Some(Effect::Accept),
            Action::Return => return Some(Effect::Return),
            Action::Jump(target) => return Some(Effect::Jump(target.clone())),
            Action::MarkConnection(mark) => {
                let number = self.names.connection.get(mark);
                return self.sets_mark(rule, Op::MarkConnection, mark, number, "new-connection-mark");
            }
            Action::MarkPacket(mark) => {
                let number = self.names.packet.get(mark);
                return self.sets_mark(rule, Op::MarkPacket, mark, number, "new-packet-mark");
            }
            Action::MarkRouting(mark) if mark == MAIN => {
                self.marks_main(rule);
                return self.sets_mark(rule, Op::MarkRouting, mark, Some(0), "new-routing-mark");
            }
            Action::MarkRouting(mark) => {
                let number = self.names.routing.get(mark);
                return self.sets_mark(rule, Op::MarkRouting, mark, number, "new-routing-mark");
            }
            Action::Watch => {
                let name = rule.item.text("action").unwrap_or_default();
                self.info(ID, span, format!("`{name}` neither counts, logs nor copies packets; the rule is left out"));
                return None;
            }
            Action::Drop => ("packets are not dropped here", "drop on the host, in an nftables table of your own"),
            Action::Fasttrack => {
                ("connections are not exempted from the rules; later packets are fast by themselves", "remove the rule")
            }
            Action::Route(_) => (
                "a next hop cannot be forced by a rule",
                "action=mark-routing with a table whose default route has this gateway",
            ),
            Action::ChangeMss(_) => ("the MSS is not changed in prerouting", "chain=forward or chain=postrouting"),
            Action::ChangeDscp(_) => ("the DSCP is not changed in prerouting", "chain=forward or chain=postrouting"),
            Action::AddToAddressList { .. } => {
                ("address lists are not filled while the rules run", "give the list its entries in the script")
            }
            Action::Masquerade | Action::SourceNat(_) | Action::DestinationNat(_) | Action::Redirect(_) => {
                ("mangle does not translate addresses", "move the rule to `firewall nat`")
            }
            Action::Other(_) => ("this action is not known in prerouting", "remove the rule"),
        };
        let name = rule.item.text("action").unwrap_or_default();
        self.note(Severity::Error, ID, span, format!("`{name}` is refused: {}", refused.0), refused.1);
        None
    }

    fn sets_mark(
        &mut self,
        rule: &Rule,
        op: Op,
        mark: &str,
        number: Option<u32>,
        property: &'static str,
    ) -> Option<Effect> {
        let span = rule.item.place(property);
        match number {
            Some(number) if mark != "no-mark" => Some(Effect::Mark { op, number, ends: !rule.passthrough }),
            Some(_) | None if mark == "no-mark" => self.refuse_mark(
                span,
                "a mark cannot be taken away".into(),
                "exclude the packets from the rules that mark",
            ),
            _ => self.refuse_mark(span, format!("mark `{mark}` has no number"), "use another name"),
        }
    }

    fn refuse_mark(&mut self, span: Span, message: String, fix: &str) -> Option<Effect> {
        self.note(Severity::Error, ID, span, message, fix);
        None
    }

    /// RouterOS looks up a marked packet in main before the routing rules; here it is as if it had no mark.
    fn marks_main(&mut self, rule: &Rule) {
        let model = self.model;
        if let Some(first) = model.rules.iter().find(|rule| !rule.item.disabled()) {
            let line = first.item.span.line;
            let message =
                format!("`main` takes the routing mark away, so that routing rules decide first (line {line})");
            let fix = "a table of its own with the routes of main";
            self.note(Severity::Warning, ID, rule.item.place("new-routing-mark"), message, fix);
        }
    }
}
