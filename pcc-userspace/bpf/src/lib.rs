//! A question to the kernel that aya asks only together with another one, about names, which takes `CAP_SYS_ADMIN`.

use std::io;
use std::mem;

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd};

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Into the host.
    Ingress,
    /// Out of it.
    Egress,
}

/// `BPF_MPROG_MAX`: the kernel runs no more at one place.
const MOST_PROGRAMS: usize = 64;

/// Ids of the programs that TCX runs on device `ifindex` of the thread's network namespace, in their order.
///
/// # Errors
/// No `CAP_NET_ADMIN` and `CAP_BPF`, no such device, or `EINVAL` from a kernel without TCX (before 6.6).
pub fn tcx_programs(ifindex: u32, direction: Direction) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; MOST_PROGRAMS];
    let attach_type = match direction {
        Direction::Ingress => bpf_attach_type::BPF_TCX_INGRESS,
        Direction::Egress => bpf_attach_type::BPF_TCX_EGRESS,
    };
    // SAFETY: it consists of integers, for which zeros are valid, and the kernel wants zeros where it asks for nothing.
    let mut attributes: bpf_attr = unsafe { mem::zeroed() };
    attributes.query.__bindgen_anon_1.target_ifindex = ifindex;
    attributes.query.attach_type = attach_type as u32;
    attributes.query.prog_ids = ids.as_mut_ptr() as u64;
    attributes.query.__bindgen_anon_2.prog_cnt = MOST_PROGRAMS as u32;
    // SAFETY: the kernel writes into `attributes`, whose size it is told, and at most `prog_cnt` ids to `prog_ids`, which has
    // room for them; both live until it returns.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            bpf_cmd::BPF_PROG_QUERY as libc::c_long,
            &raw mut attributes,
            size_of::<bpf_attr>(),
        )
    };
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has written a number there; every number is valid.
    let count = unsafe { attributes.query.__bindgen_anon_2.prog_cnt };
    ids.truncate(count as usize);
    Ok(ids)
}
