//! Whether an uplink works: [`machine`] decides without clock or sockets, [`probe`] and [`arp`] ask the network.

pub mod arp;
pub mod machine;
pub mod probe;
