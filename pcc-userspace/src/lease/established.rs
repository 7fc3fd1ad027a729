//! Pure: which matches of a firewall are met by packets that take shortcuts. These are of TCP or UDP, without SYN, FIN and RST,
//! and their connections are established.

use serde_json::Value;

const STATES: [&str; 5] = ["established", "related", "new", "invalid", "untracked"];
/// What has fields that no packet of TCP or UDP has.
const OTHERS: [&str; 7] = ["icmp", "icmpv6", "igmp", "esp", "ah", "sctp", "dccp"];
/// Packets with one of these flags go to the stack.
const FLAGS: [&str; 3] = ["syn", "fin", "rst"];

/// Whether they meet `left op right`: all of them, none of them, or `None` if it depends. `tracked`: conntrack has seen them.
pub fn meet(left: &Value, op: &str, right: &Value, tracked: bool) -> Option<bool> {
    if left["ct"]["key"] == "state" {
        return state(op, right).filter(|_| tracked);
    }
    let masked = left["&"].get(0);
    let payload = &masked.unwrap_or(left)["payload"];
    let field = payload["field"].as_str().filter(|_| payload["tunnel"].is_null());
    let never = match (payload["protocol"].as_str(), field) {
        (Some(protocol), Some(_)) if OTHERS.contains(&protocol) => true,
        (Some("tcp"), Some("flags")) => needs_flag(op, right),
        (Some("ip"), Some("protocol")) | (Some("ip6"), Some("nexthdr")) => {
            masked.is_none() && is_other_protocol(op, right)
        }
        _ => left["meta"]["key"] == "l4proto" && is_other_protocol(op, right),
    };
    never.then_some(false)
}

/// Likewise for `ct state`, of which a packet has one.
fn state(op: &str, right: &Value) -> Option<bool> {
    let alternatives = alternatives(right);
    let known = |value: &&Value| !bits(value).is_empty() && bits(value).iter().all(|it| STATES.contains(it));
    if alternatives.is_empty() || !alternatives.iter().all(known) {
        return None;
    }
    let named = alternatives.iter().any(|it| bits(it).contains(&"established"));
    // A combination is no state.
    let single = alternatives.iter().all(|it| it.is_string());
    match op {
        "in" => Some(named),
        "!" => Some(!named),
        "==" if single => Some(named),
        "!=" if single => Some(!named),
        _ => None,
    }
}

/// One of [`FLAGS`] must be set.
fn needs_flag(op: &str, right: &Value) -> bool {
    let set = |value: &Value| bits(value).iter().any(|it| FLAGS.contains(it));
    match op {
        "in" => !bits(right).is_empty() && bits(right).iter().all(|it| FLAGS.contains(it)),
        "==" => alternatives(right).into_iter().all(set),
        _ => false,
    }
}

fn is_other_protocol(op: &str, right: &Value) -> bool {
    let other = |value: &Value| match value {
        Value::String(name) => !(name == "tcp" || name == "udp" || name.starts_with('@')),
        Value::Number(number) => ![6, 17].contains(&number.as_u64().unwrap_or(6)),
        _ => false,
    };
    op == "==" && alternatives(right).into_iter().all(other)
}

/// The elements of an anonymous set, or the one value.
fn alternatives(value: &Value) -> Vec<&Value> {
    match value["set"].as_array() {
        Some(elements) => elements.iter().collect(),
        None => vec![value],
    }
}

/// The names in `a`, or `a,b`; none if it is something else.
fn bits(value: &Value) -> Vec<&str> {
    let several = value.get("|").unwrap_or(value);
    let names =
        several.as_array().map_or_else(|| vec![value.as_str()], |names| names.iter().map(Value::as_str).collect());
    names.into_iter().collect::<Option<_>>().unwrap_or_default()
}
