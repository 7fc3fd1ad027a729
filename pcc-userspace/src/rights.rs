//! The rights of the controller, which are capabilities of Linux: after its start it has those that it needs for good, and what
//! it starts can get no others.

use anyhow::{Context as _, Result};
use nix::unistd::{Gid, getgroups, setgroups};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

/// What a running controller needs: netlink, nft, sysctl and tc want `NET_ADMIN`, as do programs on devices and marks on
/// sockets; pings, ARP and neighbour discovery want `NET_RAW`; maps want `BPF`.
pub const NEEDED: CapabilitySet = CapabilitySet::NET_ADMIN.union(CapabilitySet::NET_RAW).union(CapabilitySet::BPF);

/// Gives up all others, for this thread and those that it starts from now on. It becomes a member of `group` before, so that the
/// sockets that a reload makes can be given to that.
///
/// # Errors
/// The kernel refuses.
pub fn give_up(group: Option<Gid>) -> Result<()> {
    let give_up = || {
        let before = capabilities(None)?;
        if let Some(group) = group
            && before.effective.contains(CapabilitySet::SETGID)
        {
            join(group)?;
        }
        // Without it a program that root runs has all rights of the bounding set; with it no more than this process, also
        // where we may not change that set.
        set_no_new_privs(true)?;
        if before.effective.contains(CapabilitySet::SETPCAP) {
            for right in bounding().difference(NEEDED) {
                remove_capability_from_bounding_set(right)?;
            }
        }
        Ok::<_, anyhow::Error>(set_capabilities(None, kept(before))?)
    };
    give_up().context("giving up rights that are not needed any more")
}

fn join(group: Gid) -> Result<()> {
    let mut groups = getgroups()?;
    if !groups.contains(&group) {
        groups.push(group);
        setgroups(&groups)?;
    }
    Ok(())
}

/// What is left of `sets`. Those who are not root and got their rights as ambient ones go on handing them down.
fn kept(sets: CapabilitySets) -> CapabilitySets {
    CapabilitySets {
        effective: sets.permitted & NEEDED,
        permitted: sets.permitted & NEEDED,
        inheritable: sets.inheritable & NEEDED,
    }
}

/// Every right that the running kernel knows and the thread could get.
fn bounding() -> CapabilitySet {
    let is_there = |right: &CapabilitySet| rustix::thread::capability_is_in_bounding_set(*right).unwrap_or(false);
    (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit)).filter(is_there).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_what_he_did_not_have() {
        let none = CapabilitySet::empty();
        let sets = |effective, permitted, inheritable| CapabilitySets { effective, permitted, inheritable };
        let all = CapabilitySet::all();
        assert_eq!(kept(sets(all, all, none)), sets(NEEDED, NEEDED, none));
        assert_eq!(kept(sets(none, CapabilitySet::NET_RAW, all)).permitted, CapabilitySet::NET_RAW);
        assert_eq!(kept(sets(none, none, none)), sets(none, none, none));
    }
}
