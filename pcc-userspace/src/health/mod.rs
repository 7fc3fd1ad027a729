//! Whether an uplink works: [`machine`] decides without clock or sockets, [`probe`] asks the network.

pub mod machine;
pub mod probe;
