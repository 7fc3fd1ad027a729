//! The controller of pcc: configuration → checked model → plan → apply → watch → teardown.
//!
//! Pure modules are functions of their arguments; the host (netlink, nftables, sysctl, conntrack), the BPF objects,
//! sockets and the clock are touched only in [`host`], [`dataplane`], [`health::probe`], [`control`] and [`controller`].
#![forbid(unsafe_code)]

pub mod config;
pub mod host;
pub mod problem;
