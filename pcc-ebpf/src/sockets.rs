//! Programs of the root control group: they run when any socket of the machine is connected.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_get_socket_cookie, bpf_setsockopt};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use pcc_ebpf::abi::netns;
use pcc_ebpf::flow::mapped;
use pcc_ebpf::own::{self, Socket};

use crate::access::{self, Maps};
use crate::maps;

/// The connection goes on; anything else refuses it.
const PASS: i32 = 1;

/// A socket is connected to an IPv4 address.
#[cgroup_sock_addr(connect4)]
pub fn pcc_connect4(ctx: SockAddrContext) -> i32 {
    if is_ours(&ctx) {
        // SAFETY: the context is valid for the whole program; the verifier checks each field's access.
        let destination = unsafe { (&raw const (*ctx.sock_addr).user_ip4).read_volatile() };
        if let Some(sk) = socket(&ctx) {
            // SAFETY: as above.
            let source = unsafe { (&raw const (*sk).src_ip4).read_volatile() };
            set_mark(&ctx, sk, mapped(destination), source != 0);
        }
    }
    PASS
}

/// A socket is connected to an IPv6 address, which may be a mapped one.
#[cgroup_sock_addr(connect6)]
pub fn pcc_connect6(ctx: SockAddrContext) -> i32 {
    if is_ours(&ctx) {
        // SAFETY: as in `pcc_connect4`. One by one, as the verifier demands.
        let destination = unsafe {
            let words = &raw const (*ctx.sock_addr).user_ip6;
            let word = |index| words.cast::<u32>().add(index).read_volatile();
            [word(0), word(1), word(2), word(3)]
        };
        if let Some(sk) = socket(&ctx) {
            // SAFETY: as above.
            let source = unsafe {
                let words = &raw const (*sk).src_ip6;
                let word = |index| words.cast::<u32>().add(index).read_volatile();
                word(0) | word(1) | word(2) | word(3)
            };
            set_mark(&ctx, sk, destination, source != 0);
        }
    }
    PASS
}

/// The socket is in the router's network namespace, which a socket of the controller tells.
#[inline(always)]
fn is_ours(ctx: &SockAddrContext) -> bool {
    // SAFETY: helpers that take the context alone.
    let (socket, namespace) = unsafe { (bpf_get_socket_cookie(ctx.as_ptr()), bpf_get_netns_cookie(ctx.as_ptr())) };
    if maps::NETNS.get(netns::ASKER) == Some(&socket) {
        if let Some(slot) = maps::NETNS.get_ptr_mut(netns::COOKIE) {
            // SAFETY: the pointer comes from the map; nobody else writes a value while the controller asks.
            unsafe { *slot = namespace };
        }
        return false;
    }
    maps::NETNS.get(netns::COOKIE) == Some(&namespace)
}

#[inline(always)]
fn socket(ctx: &SockAddrContext) -> Option<*mut bpf_sock> {
    // SAFETY: as in `pcc_connect4`.
    let sk = unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk };
    if sk.is_null() { None } else { Some(sk) }
}

#[inline(always)]
fn set_mark(ctx: &SockAddrContext, sk: *mut bpf_sock, destination: [u32; 4], has_source: bool) {
    const SOL_SOCKET: i32 = 1;
    const SO_MARK: i32 = 36;
    let Some(settings) = access::settings() else { return };
    // SAFETY: as in `pcc_connect4`; the port is in network order, in the lower half.
    let (device, mark, port, own_port, protocol) = unsafe {
        (
            (&raw const (*sk).bound_dev_if).read_volatile(),
            (&raw const (*sk).mark).read_volatile(),
            (&raw const (*ctx.sock_addr).user_port).read_volatile(),
            (&raw const (*sk).src_port).read_volatile(),
            (&raw const (*ctx.sock_addr).protocol).read_volatile(),
        )
    };
    // SAFETY: a helper without arguments.
    let source_port = if own_port != 0 { own_port } else { unsafe { bpf_get_prandom_u32() } };
    let socket = Socket {
        destination,
        destination_port: u16::from_be(port as u16),
        source_port: source_port as u16,
        protocol,
        bound: has_source || device != 0,
        mark,
    };
    if let Some(mut mark) = own::mark(&Maps, settings, &socket) {
        // SAFETY: the value is a word on the stack, as the option has it. Where the kernel refuses, the output chain sees
        // to the packets.
        unsafe { bpf_setsockopt(ctx.as_ptr(), SOL_SOCKET, SO_MARK, (&raw mut mark).cast(), 4) };
    }
}
