//! Whether an uplink works: [`uplink`] decides for one family without clock or sockets, by its targets ([`machine`]), what they
//! answered lately ([`window`]), and how often it fell ([`damping`], [`suspension`]); [`standing`] says what follows for all of
//! them. [`probe`] asks the network, [`passive`] judges by the connections that pass.

pub mod damping;
pub mod machine;
pub mod passive;
pub mod probe;
pub mod standing;
pub mod state;
pub mod suspension;
pub mod uplink;
pub mod window;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod weather;
