//! What the kernel and the host must have.

use crate::doctor::{Case, Facts, Severity};

pub(super) fn tools(facts: &Facts) -> Option<Vec<Case>> {
    let lacks = |program: &str| facts.kernel.lacking.contains(program);
    let mut cases = Vec::new();
    if lacks("nft") {
        cases.push(
            Case::new("nft", "`nft` is not in PATH; pcc changes nftables by it", "install nftables")
                .command("apt install nftables"),
        );
    }
    if lacks("tc") && facts.kernel.tcx == Some(false) {
        cases.push(
            Case::new("tc", "`tc` is not in PATH, and this kernel has no TCX", "install iproute2")
                .command("apt install iproute2"),
        );
    }
    Some(cases)
}

pub(super) fn bpffs(facts: &Facts) -> Option<Vec<Case>> {
    let case = || {
        Case::new(
            "/sys/fs/bpf",
            "no BPF file system is mounted there; pcc keeps its maps and programs in it",
            "mount it",
        )
        .command("mount -t bpf bpf /sys/fs/bpf")
    };
    Some((!facts.kernel.bpffs).then(case).into_iter().collect())
}

pub(super) fn btf(facts: &Facts) -> Option<Vec<Case>> {
    // That the programs are taken all the same is worth more.
    let severity = if facts.kernel.programs == Some(Ok(())) { Severity::Advice } else { Severity::Problem };
    let case = || {
        let what = "the kernel does not tell its types (BTF); pcc is not tried on such kernels";
        let advice = "boot a kernel with CONFIG_DEBUG_INFO_BTF, as distributions build it; in a container, mount /sys/kernel/btf";
        Case::new("/sys/kernel/btf/vmlinux", what, advice).severity(severity)
    };
    Some((!facts.kernel.btf).then(case).into_iter().collect())
}

pub(super) fn programs(facts: &Facts) -> Option<Vec<Case>> {
    let Err(words) = facts.kernel.programs.as_ref()? else { return Some(Vec::new()) };
    let locked = facts.kernel.lockdown.as_deref().is_some_and(|mode| mode != "none");
    let advice = match &facts.kernel.lockdown {
        Some(mode) if locked => format!("the kernel is locked down ({mode}): boot without `lockdown=`"),
        _ => "pcc needs Linux 6.1 or newer with CONFIG_BPF_SYSCALL and CONFIG_BPF_JIT".to_owned(),
    };
    Some(vec![Case::new("kernel", words, advice)])
}

pub(super) fn table(facts: &Facts) -> Option<Vec<Case>> {
    let Err(words) = facts.kernel.table.as_ref()? else { return Some(Vec::new()) };
    let advice = "pcc needs nftables 1.0 or newer and a kernel with nf_tables (inet), ct, fib, nat, masq, socket and route \
                  chains: install them, or load their modules";
    Some(vec![Case::new("nft", words, advice)])
}

pub(super) fn tcx(facts: &Facts) -> Option<Vec<Case>> {
    let case = || {
        Case::new(
            "kernel",
            "it has no TCX: pcc puts filters into a clsact qdisc, which others may remove",
            "nothing has to be done; Linux 6.6 and newer have TCX",
        )
    };
    Some((!facts.kernel.tcx?).then(case).into_iter().collect())
}

pub(super) fn cgroup2(facts: &Facts) -> Option<Vec<Case>> {
    let case = || {
        Case::new(
            "cgroup2",
            "control groups of version 2 are not mounted: sockets of the router that are bound to an uplink are not told from \
             others",
            "mount them",
        )
        .command("mkdir -p /run/cgroup2 && mount -t cgroup2 cgroup2 /run/cgroup2")
    };
    Some((!facts.kernel.cgroup2).then(case).into_iter().collect())
}
