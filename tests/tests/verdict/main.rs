//! What the programs say about packets, asked through the kernel's verifier and test runs, and compared with the pure
//! functions on the same bytes.

#![expect(clippy::unwrap_used, reason = "all of it is tests, of which the lint knows only the functions")]

mod bench;
mod headers;
mod life;
mod model;
mod peers;
mod random;
mod rules;
mod shortcuts;
mod sockets;
mod uplink;
mod wire;
