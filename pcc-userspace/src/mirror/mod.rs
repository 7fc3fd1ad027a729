//! Runs a RouterOS configuration: its rules, routes and address translation with Linux's means.
//!
//! ```text
//! Model ─ names ─▶ numbers of marks, tables, devices
//!       ├ compile ─▶ steps and sets for the eBPF walk (chain prerouting)
//!       ├ netfilter ─▶ our nftables table (all other chains, NAT, and what ties the walk to conntrack)
//!       └ routes ─▶ routes, rules, and what is to be watched
//! ```
//!
//! What cannot be mirrored exactly is an error at its line, or a note; nothing is approximated in silence.

pub mod compile;
pub mod names;
