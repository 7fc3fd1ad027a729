//! Whether an uplink works: [`machine`] decides without clock or sockets, [`probe`] and [`arp`] ask the network, [`passive`]
//! judges by the connections that pass.

pub mod arp;
pub mod machine;
pub mod passive;
pub mod probe;
