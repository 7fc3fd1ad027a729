//! Who else uses the mark.

use crate::doctor::{Case, Facts};
use crate::host::MarkUse;
use crate::host::clash::{Clashes, clashes};

pub(super) fn rule(facts: &Facts) -> Option<Vec<Case>> {
    refused(facts, |place| place == "ip rule")
}

pub(super) fn nft(facts: &Facts) -> Option<Vec<Case>> {
    refused(facts, |place| place.starts_with("nftables"))
}

pub(super) fn iptables(facts: &Facts) -> Option<Vec<Case>> {
    refused(facts, |place| place.starts_with("iptables") || place.starts_with("ip6tables"))
}

pub(super) fn whole(facts: &Facts) -> Option<Vec<Case>> {
    let uses = facts.marks.as_ref()?;
    let cases = uses.iter().filter_map(|found| {
        let warning = judge(facts, found).warnings.pop()?;
        let advice =
            "give that program a mark under a mask beside pcc's bits, if its traffic comes through this router";
        Some(Case::new(&found.place, warning, advice))
    });
    Some(cases.collect())
}

fn refused(facts: &Facts, here: impl Fn(&str) -> bool) -> Option<Vec<Case>> {
    let uses = facts.marks.as_ref()?;
    // The hint names bits that none of them uses.
    let hint = clashes(uses, facts.mark_mask).refused.pop().map(|problem| problem.hint);
    let cases = uses.iter().filter(|found| here(&found.place)).filter_map(|found| {
        let problem = judge(facts, found).refused.pop()?;
        Some(Case::new(&found.place, problem.message, hint.clone()?))
    });
    Some(cases.collect())
}

fn judge(facts: &Facts, found: &MarkUse) -> Clashes {
    clashes(std::slice::from_ref(found), facts.mark_mask)
}
