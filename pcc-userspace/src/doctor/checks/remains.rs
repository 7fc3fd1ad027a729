//! What instances leave behind.

use pcc_ebpf::abi::ABI;

use crate::doctor::{Case, Facts, Severity};

pub(super) fn damaged(facts: &Facts) -> Option<Vec<Case>> {
    let cases = facts.remains.damaged.as_ref().map(|error| {
        let subject = format!("/run/pcc/{}/journal.json", facts.instance);
        let advice = "compare the kernel settings in it with `sysctl`, then remove it, and start pcc or `pcc down`";
        Case::new(&subject, error, advice).command(format!("mv {subject} {subject}.damaged"))
    });
    Some(cases.into_iter().collect())
}

pub(super) fn crashed(facts: &Facts) -> Option<Vec<Case>> {
    let case = || {
        let what = format!(
            "the data path of instance `{}` is on the host, but no controller: uplinks that fail are not noticed",
            facts.instance
        );
        let advice = "start `pcc run` again, which goes on where it was, or remove it all";
        Case::new(&facts.instance, what, advice).command(down(facts))
    };
    Some((facts.remains.journal.is_some() && !facts.remains.running).then(case).into_iter().collect())
}

pub(super) fn stale(facts: &Facts) -> Option<Vec<Case>> {
    let others: Vec<&String> = facts.remains.pins.as_ref()?.iter().filter(|pin| **pin != ABI.to_string()).collect();
    let cases = others.into_iter().map(|version| {
        let subject = format!("/sys/fs/bpf/pcc/{}/{version}", facts.instance);
        let what = format!(
            "it is the data path of a pcc with another interface to the kernel ({version}, this one has {ABI})"
        );
        if facts.remains.running {
            let advice = "the running pcc is older or newer than this one: start it again with this one";
            Case::new(subject, what, advice)
        } else {
            let advice = "the next `pcc run` takes its place; or remove it";
            Case::new(subject, what, advice).severity(Severity::Advice).command(down(facts))
        }
    });
    Some(cases.collect())
}

fn down(facts: &Facts) -> String {
    format!("pcc down --instance {}", facts.instance)
}
