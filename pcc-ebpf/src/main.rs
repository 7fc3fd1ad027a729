//! The tc programs: parse → decide → apply; and those of sockets.
//!
//! The tc programs return "not mine": the next program, and then the kernel, go on with the packet. None of them drops.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod access;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod programs;
#[cfg(target_arch = "bpf")]
mod short;
#[cfg(target_arch = "bpf")]
mod sockets;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
