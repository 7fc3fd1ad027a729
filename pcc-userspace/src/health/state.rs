//! The words for the state of an uplink.

use std::fmt;
use std::time::Duration;

use super::machine;
use super::window::Cause;

/// What is known about an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Just started; counts as usable, so that a restart interrupts nothing.
    Unknown,
    /// Works.
    Up,
    /// Works badly.
    Degraded(Cause),
    /// Takes no new connections.
    Down(Reason),
    /// Switched off by the user.
    AdminDown,
}

impl State {
    /// As far as health goes, new connections may be given to the uplink.
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Unknown | Self::Up | Self::Degraded(_))
    }

    /// It has answered.
    pub fn is_known_up(self) -> bool {
        matches!(self, Self::Up | Self::Degraded(_))
    }
}

/// Why an uplink is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No carrier, or none of its targets answers, for this reason.
    Check(machine::Reason),
    /// Some targets answer, but not enough.
    Quorum {
        /// So many must answer.
        needed: usize,
        /// Of so many.
        targets: usize,
    },
    /// It answers, but went down too often lately: it is up when it has answered for so long.
    Probation(Duration),
}

impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => out.write_str("unknown"),
            Self::Up => out.write_str("up"),
            Self::Degraded(cause) => write!(out, "degraded: {cause}"),
            Self::Down(reason) => write!(out, "down: {reason}"),
            Self::AdminDown => out.write_str("admin-down"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check(machine::Reason::Silent) => out.write_str("probes are no longer answered"),
            Self::Check(machine::Reason::NeverAnswered) => out.write_str(
                "no probe was ever answered; if the next hop does not answer pings, check `carrier` or another address",
            ),
            Self::Check(reason) => reason.fmt(out),
            Self::Quorum { needed, targets } => write!(out, "fewer than {needed} of {targets} targets answer"),
            Self::Probation(time) => {
                write!(out, "on probation, up when it has answered for {} s", time.as_secs_f32().ceil())
            }
        }
    }
}
