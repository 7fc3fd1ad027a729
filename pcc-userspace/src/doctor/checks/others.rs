//! Programs that manage routes and uplinks as well.

use std::collections::BTreeSet;

use crate::doctor::gather::{FOREIGN, KEEPALIVED, MWAN3, NETWORKD};
use crate::doctor::{Case, Facts};

fn running<'a>(facts: &'a Facts, names: &'a [&str]) -> Option<Option<&'a str>> {
    let programs: &BTreeSet<String> = facts.programs.as_ref()?;
    Some(names.iter().copied().find(|name| programs.contains(*name)))
}

pub(super) fn mwan3(facts: &Facts) -> Option<Vec<Case>> {
    let program = running(facts, MWAN3)?;
    let marked = facts.marks.iter().flatten().find(|found| found.text.contains("mwan3"));
    let subject = program.or(marked.map(|found| found.place.as_str()));
    let cases = subject.map(|subject| {
        let what = "mwan3 is at work: two balancers send one connection different ways";
        Case::new(subject, what, "let one of the two do it").command("mwan3 stop && /etc/init.d/mwan3 disable")
    });
    Some(cases.into_iter().collect())
}

pub(super) fn keepalived(facts: &Facts) -> Option<Vec<Case>> {
    let cases = running(facts, KEEPALIVED)?.map(|program| {
        let what = "keepalived runs: addresses, and routes of `virtual_routes`, come and go";
        let advice = "pcc follows addresses and main's default routes; let keepalived have no `virtual_rules` below pcc's \
                      priorities, and run pcc on both routers";
        Case::new(program, what, advice)
    });
    Some(cases.into_iter().collect())
}

pub(super) fn networkd(facts: &Facts) -> Option<Vec<Case>> {
    let runs = running(facts, NETWORKD)?.is_some();
    let removes: Vec<&str> =
        FOREIGN.into_iter().zip(facts.networkd).filter(|(_, manages)| *manages).map(|(key, _)| key).collect();
    if !runs || removes.is_empty() {
        return Some(Vec::new());
    }
    let what = format!(
        "systemd-networkd removes what it did not make itself ({} is yes, the default): with each restart of it pcc's routes \
         and rules are gone until the controller puts them back, and for good while none runs",
        removes.join(" and ")
    );
    let advice = "tell it to leave them alone, then `systemctl restart systemd-networkd`";
    let lines: String = removes.iter().map(|key| format!("\\n{key}=no")).collect();
    let folder = "/etc/systemd/networkd.conf.d";
    let command = format!("mkdir -p {folder} && printf '[Network]{lines}\\n' > {folder}/pcc.conf");
    Some(vec![Case::new("systemd-networkd", what, advice).command(command)])
}

pub(super) fn network_manager(facts: &Facts) -> Option<Vec<Case>> {
    let managed = facts.uplinks().filter(|(_, link)| facts.managed.contains(&link.name));
    let cases = managed.map(|(_, link)| {
        let what = format!(
            "NetworkManager manages uplink `{}`: its connectivity check gives default routes other metrics, which the router's \
             own connections follow",
            link.name
        );
        let advice = format!(
            "pcc takes the next hop from it, which is fine; leave `ipv4.route-table` of its connection at 0, or set the next hop \
             by `--gateway {}=ADDRESS` and let it have `ipv4.never-default yes`",
            link.name
        );
        Case::new(&link.name, what, advice)
    });
    Some(cases.collect())
}
