//! The controller of pcc: configuration → checked model → plan → apply → watch → teardown.
//!
//! Pure modules are functions of their arguments; the host (netlink, nftables, sysctl, conntrack), the BPF objects,
//! sockets and the clock are touched only in [`host`], [`dataplane`], [`health::probe`], [`control`] and [`controller`].
#![forbid(unsafe_code)]

pub mod buckets;
pub mod check;
pub mod cli;
pub mod config;
pub mod control;
pub mod controller;
pub mod dataplane;
pub mod doctor;
pub mod events;
pub mod explain;
pub mod fast_path;
pub mod flows;
pub mod health;
pub mod hook;
pub mod host;
pub mod instance;
pub mod journal;
pub mod lease;
pub mod log;
pub mod metrics;
pub mod mirror;
pub mod names;
pub mod overrides;
pub mod own_traffic;
pub mod plan;
pub mod policies;
pub mod problem;
pub mod rights;
pub mod routeros;
pub mod rules;
pub mod ruleset;
pub mod service;
pub mod sources;
pub mod start;
pub mod status;
pub mod survey;
pub mod teardown;
pub mod top;
pub mod topology;
pub mod trace;
pub mod verify;
