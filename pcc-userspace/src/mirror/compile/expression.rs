//! What a matcher asks, as a boolean expression over steps.

use ipnet::IpNet;
use pcc_ebpf::abi::{Op, Step};
use pcc_ebpf::flow;

/// A boolean expression. Constants only stand at the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    Constant(bool),
    /// A step without its targets.
    Test(Step),
    Not(Box<Expression>),
    All(Vec<Expression>),
    Any(Vec<Expression>),
}

impl Expression {
    pub const ALWAYS: Self = Self::Constant(true);
    pub const NEVER: Self = Self::Constant(false);

    /// A test with the operands `low` and `high`.
    pub fn test(op: Op, low: u32, high: u32) -> Self {
        Self::Test(Step { op: op as u32, low, high, ..Step::default() })
    }

    /// The same with further operands.
    pub fn wide(op: Op, low: u32, words: [u32; 2]) -> Self {
        Self::Test(Step { op: op as u32, low, words: [words[0], words[1], 0, 0], ..Step::default() })
    }

    /// The address that `op` looks at is in `net`.
    pub fn prefix(op: Op, net: IpNet) -> Self {
        if net.prefix_len() == 0 {
            return Self::ALWAYS;
        }
        let mapped = if net.addr().is_ipv4() { 96 } else { 0 };
        let low = mapped + u32::from(net.prefix_len());
        Self::Test(Step { op: op as u32, low, words: flow::words(net.network()), ..Step::default() })
    }

    pub fn negated(self) -> Self {
        match self {
            Self::Constant(value) => Self::Constant(!value),
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    /// One of them holds.
    pub fn any(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut kept = Vec::new();
        for part in parts {
            match part {
                Self::Constant(true) => return Self::ALWAYS,
                Self::Constant(false) => {}
                part => kept.push(part),
            }
        }
        match kept.len() {
            0 => Self::NEVER,
            1 => kept.swap_remove(0),
            _ => Self::Any(kept),
        }
    }

    /// All of them hold.
    pub fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut kept = Vec::new();
        for part in parts {
            match part {
                Self::Constant(false) => return Self::NEVER,
                Self::Constant(true) => {}
                part => kept.push(part),
            }
        }
        match kept.len() {
            0 => Self::ALWAYS,
            1 => kept.swap_remove(0),
            _ => Self::All(kept),
        }
    }
}
