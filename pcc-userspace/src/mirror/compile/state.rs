//! `connection-state`: what tc can know of it.

use pcc_ebpf::abi::{Op, state};

use super::context::Context;
use super::expression::Expression;
use crate::routeros::model::matcher::ConnectionState;
use crate::routeros::{Severity, Span};

const ID: &str = "mirror-state";

impl Context<'_> {
    /// The connection is in one of `states`, or (`negated`) in none of them. Of a packet before connection tracking only
    /// `new` and `established` can be told.
    pub fn connection_state(&mut self, states: &[ConnectionState], negated: bool, span: Span) -> Option<Expression> {
        let (mut bits, mut unseen) = (0, Vec::new());
        for state in states {
            match state {
                ConnectionState::New => bits |= state::NEW,
                ConnectionState::Established => bits |= state::ESTABLISHED,
                ConnectionState::Related => unseen.push("related"),
                ConnectionState::Invalid => unseen.push("invalid"),
                ConnectionState::Untracked => unseen.push("untracked"),
            }
        }
        if negated && bits == 0 && unseen.contains(&"related") {
            let message = "`related` connections look like new ones here, so that they cannot be left out";
            self.note(Severity::Error, ID, span, message, "connection-state=!established, or leave it out");
            return None;
        }
        if !unseen.is_empty() {
            let names: Vec<_> = unseen.iter().map(|name| format!("`{name}`")).collect();
            let what = match (bits, negated) {
                (0, false) => ": the rule never matches",
                (0, true) => ": the test always holds",
                _ => "",
            };
            let message =
                format!("{} cannot be seen here, such packets count as new or established{what}", names.join(", "));
            let severity = if bits == 0 || unseen.contains(&"related") { Severity::Warning } else { Severity::Info };
            self.note(severity, ID, span, message, "match `new` or `established`");
        }
        let test = match bits {
            0 => Expression::NEVER,
            bits if bits == state::NEW | state::ESTABLISHED => Expression::ALWAYS,
            bits => Expression::test(Op::State, bits, 0),
        };
        Some(if negated { test.negated() } else { test })
    }
}
