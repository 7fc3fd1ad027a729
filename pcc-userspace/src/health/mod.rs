//! Whether an uplink works: [`uplink`] decides for one family without clock or sockets, by its targets ([`machine`]), what they
//! answered lately ([`window`]), and how often it fell ([`damping`], [`suspension`]); [`standing`] says what follows for all of
//! them. [`probe`] asks the network.

pub mod damping;
pub mod machine;
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
