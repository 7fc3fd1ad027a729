//! Conntrack and the rules of others.

use serde_json::Value;

use crate::config::FastPath;
use crate::doctor::{Case, Facts};

/// Percent of conntrack's table above which it is nearly full.
const NEARLY: u64 = 80;

pub(super) fn conntrack_full(facts: &Facts) -> Option<Vec<Case>> {
    let (count, most) =
        (facts.number("net/netfilter/nf_conntrack_count")?, facts.number("net/netfilter/nf_conntrack_max")?);
    // 0 is no limit.
    if most == 0 || count * 100 < most * NEARLY {
        return Some(Vec::new());
    }
    let what = format!("{count} of {most} connections are in conntrack's table; beyond, new ones are dropped");
    let advice = "make room for more, in /etc/sysctl.d too (320 bytes each), and look who has so many: `conntrack -L`";
    let case = Case::new("conntrack", what, advice);
    Some(vec![case.sysctl("net/netfilter/nf_conntrack_max", &(2 * most).to_string())])
}

pub(super) fn accounting(facts: &Facts) -> Option<Vec<Case>> {
    const KEY: &str = "net/netfilter/nf_conntrack_acct";
    let case = || {
        let what = "conntrack counts neither packets nor bytes of a connection";
        let advice = "switch it on, in /etc/sysctl.d too; it counts for connections that begin afterwards";
        Case::new("conntrack", what, advice).sysctl(KEY, "1")
    };
    Some((facts.number(KEY)? == 0).then(case).into_iter().collect())
}

pub(super) fn loose(facts: &Facts) -> Option<Vec<Case>> {
    const KEY: &str = "net/netfilter/nf_conntrack_tcp_loose";
    let case = || {
        let what = "conntrack takes up no TCP connection in its midst: after fail-over its packets are invalid, leave with the \
                    client's own address, and no reset tells the client";
        Case::new("conntrack", what, "let it take them up").sysctl(KEY, "1")
    };
    Some((facts.number(KEY)? == 0).then(case).into_iter().collect())
}

pub(super) fn flowtable(facts: &Facts) -> Option<Vec<Case>> {
    let ruleset = facts.ruleset.as_ref()?;
    let mut cases = Vec::new();
    for rule in objects(ruleset, "rule") {
        let Some(flow) = rule["expr"].as_array().into_iter().flatten().find_map(|it| it.get("flow")) else { continue };
        let [family, table, chain] = ["family", "table", "chain"].map(|key| rule[key].as_str().unwrap_or_default());
        let name = flow["flowtable"].as_str().unwrap_or_default().trim_start_matches('@');
        let hardware = objects(ruleset, "flowtable")
            .any(|it| it["name"] == *name && it["table"] == *table && it["flags"].to_string().contains("offload"));
        let by = if hardware { "network card" } else { "flowtable" };
        let what = format!(
            "established connections go by the {by} (`{name}` of nftables table {family} {table}) around the rules and counters \
             that pcc relies on"
        );
        let advice = "remove the rule with `flow add`: pcc's own shortcuts are faster, and know of uplinks";
        let handle = rule["handle"].as_u64().unwrap_or_default();
        let command = format!("nft delete rule {family} {table} {chain} handle {handle}");
        cases.push(Case::new(format!("nftables table {family} {table}"), what, advice).command(command));
    }
    Some(cases)
}

pub(super) fn forward_drops(facts: &Facts) -> Option<Vec<Case>> {
    let ruleset = facts.ruleset.as_ref()?;
    let lans: Vec<String> = facts.lans().map(|link| format!("\"{}\"", link.name)).collect();
    let drops = objects(ruleset, "chain").filter(|chain| {
        let all = chain["hook"] == *"forward" && chain["policy"] == *"drop";
        all && !objects(ruleset, "rule").any(|rule| {
            let here = rule["family"] == chain["family"] && rule["table"] == chain["table"];
            here && rule["expr"].as_array().into_iter().flatten().any(may_accept)
        })
    });
    let cases = drops.map(|chain| {
        let [family, table, name] = ["family", "table", "name"].map(|key| chain[key].as_str().unwrap_or_default());
        let what =
            format!("chain `{name}` of nftables table {family} {table} drops all that is forwarded, without exception");
        let case =
            Case::new(format!("nftables table {family} {table}"), what, "accept answers, and what comes from the LAN");
        if lans.is_empty() {
            return case;
        }
        let add = format!("nft add rule {family} {table} {name}");
        let lans = lans.join(", ");
        case.command(format!("{add} ct state established,related accept && {add} 'iifname {{ {lans} }} accept'"))
    });
    Some(cases.collect())
}

/// What may let packets through: a verdict, or what cannot be told.
fn may_accept(statement: &Value) -> bool {
    ["accept", "jump", "goto", "vmap", "xt", "queue"].iter().any(|kind| statement.get(kind).is_some())
}

fn objects<'a>(ruleset: &'a Value, kind: &'static str) -> impl Iterator<Item = &'a Value> {
    ruleset["nftables"].as_array().into_iter().flatten().filter_map(move |object| object.get(kind))
}

pub(super) fn docker(facts: &Facts) -> Option<Vec<Case>> {
    let mut cases = Vec::new();
    for (tool, saved) in &facts.iptables {
        let filter = saved.split("*filter\n").nth(1).and_then(|rest| rest.split("COMMIT").next()).unwrap_or_default();
        let has = |start: &str| filter.lines().any(|line| line.starts_with(start));
        if !has(":FORWARD DROP") || !has(":DOCKER") {
            continue;
        }
        let chain = if has(":DOCKER-USER ") { "DOCKER-USER" } else { "FORWARD" };
        for lan in facts.lans().filter(|lan| !filter.lines().any(|line| accepts_from(line, &lan.name))) {
            let what = format!("{tool}: Docker's policy of FORWARD drops what comes from LAN device `{}`", lan.name);
            let advice = "accept it, and its answers; make the rules permanent by your firewall's own means";
            let insert = format!("{tool} -I {chain}");
            let command = format!(
                "{insert} -i {0} -j ACCEPT && {insert} -o {0} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
                lan.name
            );
            cases.push(Case::new(&lan.name, what, advice).command(command));
        }
    }
    Some(cases)
}

/// The rule accepts what comes from `lan`, or from everywhere.
fn accepts_from(line: &str, lan: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let value = |option: &str| words.iter().position(|word| *word == option).and_then(|at| words.get(at + 1)).copied();
    let chain = matches!(value("-A"), Some("FORWARD" | "DOCKER-USER"));
    let from = match value("-i") {
        Some(device) => device == lan && !words.contains(&"!"),
        None => value("-o").is_none() && value("--ctstate").is_none(),
    };
    chain && from && value("-j") == Some("ACCEPT")
}

pub(super) fn no_shortcuts(facts: &Facts) -> Option<Vec<Case>> {
    let Some(native) = facts.native().filter(|native| native.config.fast_path != FastPath::Off) else {
        return Some(Vec::new());
    };
    let lease = native.lease.as_ref()?;
    let case = || {
        let what = format!("no packet takes a shortcut: {}", lease.reason);
        Case::new("fast path", what, "change that rule, or say that it is meant so: `--fast-path off`")
    };
    Some((lease.seconds == 0).then(case).into_iter().collect())
}
