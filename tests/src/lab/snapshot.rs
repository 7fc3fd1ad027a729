//! The host before and after, as an outsider reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use aya::maps::loaded_maps;
use aya::programs::tc::TcAttachType;
use aya::programs::{ProgramInfo, SchedClassifier, loaded_links, loaded_programs};

use super::namespace::{Namespace, eventually};

/// All of a namespace that `pcc` could change, in sections of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostState {
    sections: BTreeMap<&'static str, BTreeSet<String>>,
}

/// Ids of loaded BPF objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BpfObjects {
    /// Programs with their names.
    pub programs: BTreeMap<u32, String>,
    /// Maps with their names.
    pub maps: BTreeMap<u32, String>,
    /// Links of these programs; a clsact filter has none.
    pub links: BTreeSet<u32>,
    /// Where programs are attached, `device hook position`, and which.
    pub places: BTreeMap<String, u32>,
}

/// Files below `/proc/sys/net` that count or are set by the kernel itself.
const COUNTERS: [&str; 3] = ["netfilter/nf_conntrack_count", "ipv4/tcp_fastopen_key", "core/netdev_rss_key"];

impl HostState {
    /// Reads rules, routes of all tables, the ruleset, sysctls, tc and XDP attachments of `namespace`, and the pins of
    /// `instance`.
    ///
    /// # Panics
    /// Where a tool is missing.
    pub fn capture(namespace: &Namespace, instance: &str) -> Self {
        let lines = |text: String| text.lines().map(|line| line.trim().to_owned()).collect();
        let sections = BTreeMap::from([
            ("ip -4 rule", lines(namespace.ip("-4 rule"))),
            ("ip -6 rule", lines(namespace.ip("-6 rule"))),
            ("ip -4 route show table all", routes(&namespace.ip("-4 route show table all"))),
            ("ip -6 route show table all", routes(&namespace.ip("-6 route show table all"))),
            ("nft list ruleset", numbered(&sorted(&namespace.exec("nft", ["-s", "list", "ruleset"])))),
            ("/proc/sys/net", namespace.run(sysctls)),
            ("tc and XDP attachments", attachments(namespace)),
            ("pins", pins(instance)),
        ]);
        Self { sections }
    }

    /// The same with every line rewritten, so that what may differ does not.
    #[must_use]
    pub fn rewritten(&self, rewrite: impl Fn(&str) -> String) -> Self {
        let section = |(name, lines): (&&'static str, &BTreeSet<String>)| {
            (*name, lines.iter().map(|it| sorted(&rewrite(it))).collect())
        };
        Self { sections: self.sections.iter().map(section).collect() }
    }

    /// What `after` has that `before` has not (`+`) and the other way round (`-`), by section. Empty: they are the same.
    pub fn diff(before: &Self, after: &Self) -> String {
        let mut text = String::new();
        for (section, before) in &before.sections {
            let after = &after.sections[section];
            let gone = before.difference(after).map(|line| format!("- {line}\n"));
            let new = after.difference(before).map(|line| format!("+ {line}\n"));
            let changes: String = gone.chain(new).collect();
            if !changes.is_empty() {
                let _ = write!(text, "{section}\n{changes}");
            }
        }
        text
    }
}

impl BpfObjects {
    /// Every loaded program and map whose name begins with `prefix`, of all instances on the machine.
    pub fn loaded(prefix: &str) -> Self {
        let programs = loaded_programs().flatten().filter(|it| name(it).starts_with(prefix));
        let maps = loaded_maps().flatten().filter(|it| it.name_as_str().unwrap_or_default().starts_with(prefix));
        let maps = maps.map(|it| (it.id(), it.name_as_str().unwrap_or_default().to_owned())).collect();
        Self { programs: programs.map(|it| (it.id(), name(&it))).collect(), maps, ..Self::default() }.with_links()
    }

    /// What is attached to the devices of `namespace` by TCX or as a clsact filter, with maps and links: other labs do
    /// not disturb it.
    pub fn attached(namespace: &Namespace) -> Self {
        let attached: Vec<_> = tcx(namespace).into_iter().chain(clsact(namespace)).collect();
        let used: BTreeSet<u32> =
            attached.iter().flat_map(|(_, it)| it.map_ids().ok().flatten().unwrap_or_default()).collect();
        let maps = loaded_maps().flatten().filter(|it| used.contains(&it.id()));
        let maps = maps.map(|it| (it.id(), it.name_as_str().unwrap_or_default().to_owned())).collect();
        let programs = attached.iter().map(|(_, it)| (it.id(), name(it))).collect();
        let places = attached.into_iter().map(|(place, it)| (place, it.id())).collect();
        Self { programs, maps, places, ..Self::default() }.with_links()
    }

    /// Those of them that are still loaded when `patience` is over; the kernel frees them a little late.
    #[must_use]
    pub fn remaining(&self, patience: Duration) -> Self {
        let mut left = self.clone();
        eventually(patience, || {
            let (programs, maps, links) = ids();
            left.programs.retain(|id, _| programs.contains(id));
            left.maps.retain(|id, _| maps.contains(id));
            left.links.retain(|id| links.contains(id));
            left.places.retain(|_, id| programs.contains(id));
            left == Self::default()
        });
        left
    }

    fn with_links(mut self) -> Self {
        let ours = loaded_links().flatten().filter(|link| self.programs.contains_key(&link.program_id()));
        self.links = ours.map(|link| link.id()).collect();
        self
    }
}

/// The conntrack entries of `namespace`, both families, whose mark has a bit of `bits`.
pub fn marked_connections(namespace: &Namespace, bits: u32) -> Vec<String> {
    let list = |family| namespace.exec("conntrack", ["-L", "-f", family]);
    let marked = |line: &&str| {
        let mark = line.split_whitespace().find_map(|word| word.strip_prefix("mark=")?.parse::<u32>().ok());
        mark.is_some_and(|mark| mark & bits != 0)
    };
    ["ipv4", "ipv6"].map(list).iter().flat_map(|text| text.lines().filter(marked)).map(str::to_owned).collect()
}

/// Programs, maps and links of the machine.
fn ids() -> (BTreeSet<u32>, BTreeSet<u32>, BTreeSet<u32>) {
    (
        loaded_programs().flatten().map(|it| it.id()).collect(),
        loaded_maps().flatten().map(|it| it.id()).collect(),
        loaded_links().flatten().map(|it| it.id()).collect(),
    )
}

fn name(program: &ProgramInfo) -> String {
    program.name_as_str().unwrap_or_default().to_owned()
}

/// Routes without what the kernel counts down or makes for multicast by itself.
fn routes(text: &str) -> BTreeSet<String> {
    let lasting = |line: &str| {
        let mut words = Vec::new();
        let mut rest = line.split_whitespace();
        while let Some(word) = rest.next() {
            if word == "expires" {
                rest.next();
            } else {
                words.push(word);
            }
        }
        words.join(" ")
    };
    text.lines().map(lasting).filter(|line| !line.starts_with("multicast ff00::") && !line.contains("cache")).collect()
}

/// The elements of each set in one order: the kernel lists them by a hash that is another one for every table.
fn sorted(ruleset: &str) -> String {
    const START: &str = "elements = {";
    let mut text = String::new();
    let mut rest = ruleset;
    while let Some((before, after)) = rest.split_once(START) {
        let (elements, after) = after.split_once('}').unwrap_or((after, ""));
        let mut elements: Vec<_> = elements.split(',').map(str::trim).collect();
        elements.sort_unstable();
        let _ = write!(text, "{before}{START} {} }}", elements.join(", "));
        rest = after;
    }
    text + rest
}

/// Lines in their order, which matters in a ruleset and which a set would lose.
fn numbered(text: &str) -> BTreeSet<String> {
    let mut table = "";
    let mut number = 0;
    let mut lines = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with("table") {
            (table, number) = (line, 0);
        }
        number += 1;
        lines.insert(format!("{table} {number}: {}", line.trim()));
    }
    lines
}

fn sysctls() -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let mut folders = vec![Path::new("/proc/sys/net").to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if let Ok(value) = fs::read(&path)
                && !COUNTERS.iter().any(|counter| path.ends_with(counter))
            {
                let value = String::from_utf8_lossy(&value).trim_end().replace('\n', " / ");
                lines.insert(format!("{} = {value}", path.display()));
            }
        }
    }
    lines
}

fn attachments(namespace: &Namespace) -> BTreeSet<String> {
    let tcx = tcx(namespace).into_iter().map(|(place, it)| format!("tcx {place}: {} id {}", name(&it), it.id()));
    let mut lines: BTreeSet<_> = tcx.collect();
    for (device, link) in devices(namespace) {
        if let Some(xdp) = link.get("xdp") {
            lines.insert(format!("xdp {device}: {xdp}"));
        }
        let queues = namespace.exec("tc", ["qdisc", "show", "dev", &device]);
        lines.extend(queues.lines().map(|line| format!("qdisc {device}: {line}")));
        if queues.contains("clsact") {
            for hook in ["ingress", "egress"] {
                let filters = namespace.exec("tc", ["filter", "show", "dev", &device, hook]);
                lines.extend(filters.lines().map(|line| format!("filter {device} {hook}: {line}")));
            }
        }
    }
    lines
}

/// `device hook position` and the program there. Kernels without TCX have none.
fn tcx(namespace: &Namespace) -> Vec<(String, ProgramInfo)> {
    let devices = devices(namespace);
    let hooks = [("ingress", TcAttachType::Ingress), ("egress", TcAttachType::Egress)];
    namespace.run(|| {
        let mut programs = Vec::new();
        for (device, _) in &devices {
            for (hook, kind) in hooks {
                let attached = SchedClassifier::query_tcx(device, kind).map(|(_, attached)| attached);
                for (position, program) in attached.unwrap_or_default().into_iter().enumerate() {
                    programs.push((format!("{device} {hook} {position}"), program));
                }
            }
        }
        programs
    })
}

/// The same for the filters in clsact qdiscs.
fn clsact(namespace: &Namespace) -> Vec<(String, ProgramInfo)> {
    let mut programs = Vec::new();
    for (device, _) in devices(namespace) {
        for hook in ["ingress", "egress"] {
            // Fails where there is no such qdisc.
            let shown = namespace.command("tc", ["-json", "filter", "show", "dev", &device, hook]).output();
            let filters: Vec<serde_json::Value> =
                shown.ok().and_then(|it| serde_json::from_slice(&it.stdout).ok()).unwrap_or_default();
            let ids = filters.iter().filter_map(|it| it["options"]["prog"]["id"].as_u64());
            let infos = ids.filter_map(|id| loaded_programs().flatten().find(|it| u64::from(it.id()) == id));
            programs.extend(infos.enumerate().map(|(position, it)| (format!("{device} {hook} {position}"), it)));
        }
    }
    programs
}

fn devices(namespace: &Namespace) -> Vec<(String, serde_json::Value)> {
    let list: Vec<serde_json::Value> = serde_json::from_str(&namespace.ip("-j -d link")).unwrap_or_default();
    list.into_iter().filter_map(|link| Some((link.get("ifname")?.as_str()?.to_owned(), link))).collect()
}

fn pins(instance: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![Path::new("/sys/fs/bpf/pcc").join(instance)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        found.insert(folder.display().to_string());
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else {
                found.insert(entry.path().display().to_string());
            }
        }
    }
    found
}
