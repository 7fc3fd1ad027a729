//! Pure: which statements of a firewall must see every packet, or do something else with the next one.

use std::collections::BTreeSet;

use serde_json::Value;

use super::SHORT;

/// Named sets and maps that are not the same for each packet.
#[derive(Default)]
pub struct Sets<'a> {
    /// Their elements come and go without notice.
    restless: BTreeSet<&'a str>,
    /// Their elements count packets against a limit.
    policing: BTreeSet<&'a str>,
}

impl<'a> Sets<'a> {
    /// Looks at the declaration of the set or map `name`.
    pub fn add(&mut self, name: &'a str, set: &'a Value) {
        let is_restless = |flag: &Value| matches!(flag.as_str(), Some("dynamic" | "timeout"));
        let flags = &set["flags"];
        let flagged = flags.as_array().map_or(is_restless(flags), |flags| flags.iter().any(is_restless));
        if flagged || set.get("timeout").is_some() || set.get("stmt").is_some() {
            self.restless.insert(name);
        }
        if set.get("stmt").is_some_and(polices) {
            self.policing.insert(name);
        }
    }

    /// Looks at a statement of any rule: nft 1.0.6 does not print the flag `dynamic` in JSON.
    pub fn note(&mut self, statement: &'a Value) {
        let statements = ["set", "map"].iter().filter_map(|kind| Some((*kind, statement.get(*kind)?)));
        for (kind, value) in statements {
            let Some(set) = value[kind].as_str().and_then(|set| set.strip_prefix('@')) else { continue };
            self.restless.insert(set);
            if value.get("stmt").is_some_and(polices) {
                self.policing.insert(set);
            }
        }
    }
}

/// The seconds that `statement` leaves, if it matters, and what it is. `rest` is what comes after it in its rule.
pub fn judge(sets: &Sets<'_>, statement: &Value, rest: &[Value]) -> Option<(u32, String)> {
    let Some((key, value)) = statement.as_object().and_then(|object| object.iter().next()) else {
        return Some((SHORT, "a statement that is not known".into()));
    };
    let name = value["name"].as_str();
    if let Some(what) = policer(sets, key, value) {
        // One of a name counts for other rules, too.
        let shared = POLICERS.contains(&key.as_str()) && (!value.is_object() || value.get("map").is_some());
        if shared || key == "vmap" || !rest.iter().all(only_tells) {
            let hint = "use a shaper (tc) instead, or let it match new connections only";
            return Some((0, format!("{what}, which must see every packet: {hint}")));
        }
    }
    let what = match key.as_str() {
        "queue" | "dup" => return Some((0, format!("a `{key}`, which must see every packet"))),
        "xt" if matches!(name, Some("NFQUEUE" | "TEE")) => {
            return Some((0, "a target of iptables that must see every packet".into()));
        }
        "xt" => match name {
            Some(name) => format!("`{name}` of iptables"),
            None => "a match or target of iptables".into(),
        },
        key if POLICERS.contains(&key) => return None,
        key if !STATEMENTS.contains(&key) => format!("a `{key}`"),
        _ => return restless_part(sets, value).map(|what| (SHORT, what)),
    };
    Some((SHORT, what))
}

/// What lets through or stops as many packets as it has counted, if the statement does.
fn policer(sets: &Sets<'_>, key: &str, value: &Value) -> Option<String> {
    let set = set_in(value, &sets.policing);
    match key {
        "xt" => value["name"].as_str().filter(|it| XT_POLICERS.contains(it)).map(|it| format!("`{it}` of iptables")),
        "limit" | "quota" => Some(format!("a `{key}`")),
        "meter" if polices(value) => Some("a `meter`".into()),
        _ => set.map(|set| format!("set `{set}` with a limit")),
    }
}

/// A limit or quota is in `value`.
fn polices(value: &Value) -> bool {
    let mut found = false;
    walk(value, &mut |key, _| found |= POLICERS.contains(&key));
    found
}

/// The packet goes on unchanged.
fn only_tells(statement: &Value) -> bool {
    match statement.as_object().and_then(|object| object.iter().next()) {
        Some((key, value)) if key == "xt" => {
            value["type"] != "target" || matches!(value["name"].as_str(), Some("LOG" | "NFLOG"))
        }
        Some((key, _)) => matches!(key.as_str(), "match" | "counter" | "log"),
        None => false,
    }
}

/// What in the operands of a statement changes without notice.
fn restless_part(sets: &Sets<'_>, value: &Value) -> Option<String> {
    let mut found = set_in(value, &sets.restless).map(|set| format!("set `{set}`"));
    walk(value, &mut |key, value| {
        let part = match key {
            "meta" | "ct" => {
                value["key"].as_str().filter(|it| RESTLESS_KEYS.contains(it)).map(|it| format!("`{key} {it}`"))
            }
            "numgen" => Some("a `numgen`".into()),
            _ => None,
        };
        if found.is_none() {
            found = part;
        }
    });
    found
}

/// One of `sets` that `value` names.
fn set_in<'a>(value: &Value, sets: &BTreeSet<&'a str>) -> Option<&'a str> {
    let mut found = None;
    walk(value, &mut |_, value| {
        let name = value.as_str().and_then(|text| text.strip_prefix('@'));
        found = found.or_else(|| sets.get(name?).copied());
    });
    found
}

/// Statements that count packets and stop some of them.
pub(super) const POLICERS: [&str; 2] = ["limit", "quota"];
/// Matches of iptables likewise.
const XT_POLICERS: [&str; 3] = ["limit", "hashlimit", "quota"];
/// Statements that do the same to each packet, as far as their operands do. All others are taken to change without notice.
pub(super) const STATEMENTS: [&str; 26] = [
    "accept",
    "continue",
    "counter",
    "ct expectation",
    "ct helper",
    "drop",
    "flow",
    "fwd",
    "goto",
    "jump",
    "log",
    "map",
    "mangle",
    "masquerade",
    "match",
    "notrack",
    "redirect",
    "reject",
    "reset",
    "return",
    "secmark",
    "set",
    "snat",
    "dnat",
    "tproxy",
    "vmap",
];
/// Keys of `meta` and `ct` whose value is another one after a while.
const RESTLESS_KEYS: [&str; 9] = ["time", "hour", "day", "random", "cpu", "bytes", "packets", "avgpkt", "expiration"];

/// Shows `see` each key of all objects inside `value` with what is below it, and each other value with an empty key.
fn walk<'a>(value: &'a Value, see: &mut impl FnMut(&'a str, &'a Value)) {
    match value {
        Value::Object(parts) => {
            for (key, part) in parts {
                see(key, part);
                walk(part, see);
            }
        }
        Value::Array(parts) => parts.iter().for_each(|part| walk(part, see)),
        other => see("", other),
    }
}
