//! Marks in the rules of nftables, read from its JSON.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::super::{Mark, MarkUse};

/// A rule that uses a mark.
#[derive(Debug)]
pub struct Found {
    /// Family, table and handle name it.
    rule: (String, String, u64),
    /// The mark, whether it is set, and the bits.
    uses: BTreeSet<(Mark, bool, u32)>,
}

/// The rules of `ruleset` (`nft -j list ruleset`) that use a mark, without those of the table `inet own_table`.
pub fn rules(ruleset: &Value, own_table: &str) -> Vec<Found> {
    let objects = ruleset["nftables"].as_array().map_or(&[][..], Vec::as_slice);
    let rules = objects.iter().filter_map(|object| object.get("rule"));
    rules
        .filter_map(|rule| {
            let text = |key: &str| rule[key].as_str().unwrap_or_default().to_owned();
            let (family, table) = (text("family"), text("table"));
            if (family.as_str(), table.as_str()) == ("inet", own_table) {
                return None;
            }
            let mut uses = BTreeSet::new();
            for statement in rule["expr"].as_array()? {
                find(statement, &mut uses);
            }
            let handle = rule["handle"].as_u64().unwrap_or_default();
            (!uses.is_empty()).then_some(Found { rule: (family, table, handle), uses })
        })
        .collect()
}

/// The uses of `found` with the text of their rules from `listing` (`nft -a list ruleset`).
pub fn uses(found: &[Found], listing: &str) -> Vec<MarkUse> {
    let texts = texts(listing);
    let uses = found.iter().flat_map(|Found { rule, uses }| {
        let (family, table, handle) = rule;
        let place = format!("nftables table {family} {table}");
        let text = texts.get(rule).cloned().unwrap_or_else(|| format!("handle {handle}"));
        uses.iter().filter_map(move |(mark, sets, mask)| MarkUse::new(place.clone(), text.clone(), *mark, *sets, *mask))
    });
    uses.collect()
}

/// The text of each rule, by family, table and handle.
fn texts(listing: &str) -> HashMap<(String, String, u64), String> {
    let mut texts = HashMap::new();
    let (mut family, mut table) = ("", "");
    for line in listing.lines().map(str::trim) {
        let Some((text, handle)) = line.rsplit_once(" # handle ") else { continue };
        if let Some(name) = text.strip_prefix("table ").and_then(|rest| rest.strip_suffix(" {")) {
            (family, table) = name.split_once(' ').unwrap_or_default();
        } else if let Ok(handle) = handle.parse() {
            texts.insert((family.to_owned(), table.to_owned(), handle), text.to_owned());
        }
    }
    texts
}

/// Adds the uses in one statement.
fn find(statement: &Value, uses: &mut BTreeSet<(Mark, bool, u32)>) {
    let mangle = &statement["mangle"];
    let Some(target) = mark(&mangle["key"]) else {
        return uses.extend(reads(statement).map(|(mark, mask)| (mark, false, mask)));
    };
    let value = &mangle["value"];
    uses.insert((target, true, changed(value, target).unwrap_or(u32::MAX)));
    // That it computes the new value from the old one is no use besides.
    uses.extend(reads(value).filter(|(mark, _)| *mark != target).map(|(mark, mask)| (mark, false, mask)));
}

/// The mark that an expression consists of.
fn mark(expression: &Value) -> Option<Mark> {
    let is_mark = |kind: &str| expression[kind]["key"].as_str() == Some("mark");
    if is_mark("meta") {
        Some(Mark::Packet)
    } else if is_mark("ct") {
        Some(Mark::Connection)
    } else {
        None
    }
}

/// The bits of marks that an expression depends on.
fn reads(expression: &Value) -> Box<dyn Iterator<Item = (Mark, u32)> + '_> {
    if let Some(mark) = mark(expression) {
        return Box::new([(mark, u32::MAX)].into_iter());
    }
    match expression {
        Value::Array(parts) => Box::new(parts.iter().flat_map(reads)),
        Value::Object(parts) => Box::new(parts.iter().flat_map(|(operator, operands)| {
            // A shifted mark under a mask is not narrowed: the mask counts other bits.
            let narrow = if operator == "&" && !is_shifted(operands) { constant(operands) } else { u32::MAX };
            reads(operands).map(move |(mark, mask)| (mark, mask & narrow))
        })),
        _ => Box::new(std::iter::empty()),
    }
}

/// The bits of `target` that may differ after it was set to `expression`; `None` if it does not begin with `target`.
fn changed(expression: &Value, target: Mark) -> Option<u32> {
    if mark(expression) == Some(target) {
        return Some(0);
    }
    let (operator, operands) = expression.as_object()?.iter().next()?;
    let operands = operands.as_array()?;
    let old = operands.iter().position(|operand| changed(operand, target).is_some())?;
    let others = operands.iter().enumerate().filter(|(position, _)| *position != old).map(|(_, operand)| operand);
    let touched = match operator.as_str() {
        "&" => others.fold(0, |touched, operand| touched | !number(operand).unwrap_or(0)),
        "|" | "^" => others.fold(0, |touched, operand| touched | possible(operand)),
        _ => return None,
    };
    Some(changed(&operands[old], target)? | touched)
}

/// The bits that may be 1 in the value of `expression`.
fn possible(expression: &Value) -> u32 {
    number(expression).unwrap_or_else(|| expression.get("&").map_or(u32::MAX, constant))
}

/// What the numbers among the operands of `&` leave over.
fn constant(operands: &Value) -> u32 {
    let numbers = operands.as_array().into_iter().flatten().filter_map(number);
    numbers.fold(u32::MAX, |all, number| all & number)
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

fn is_shifted(operands: &Value) -> bool {
    let shifted = |operand: &Value| operand.get("<<").is_some() || operand.get(">>").is_some();
    operands.as_array().is_some_and(|operands| operands.iter().any(shifted))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nft 1.0.6 prints them, with the listing of the same tables.
    const RULESET: &str = include_str!("testdata/ruleset.json");
    const LISTING: &str = include_str!("testdata/ruleset.nft");

    fn observed() -> Vec<MarkUse> {
        let ruleset = serde_json::from_str(RULESET).unwrap();
        uses(&rules(&ruleset, "pcc-default"), LISTING)
    }

    /// The uses in the rule whose text begins so.
    fn of(text: &str) -> Vec<(Mark, bool, Option<u32>)> {
        let all = observed();
        let found = all.iter().filter(|found| found.text.starts_with(text));
        found.map(|found| (found.mark, found.sets, found.mask)).collect()
    }

    #[test]
    fn our_own_table_is_left_out() {
        assert!(observed().iter().all(|found| found.place != "nftables table inet pcc-default"));
        let ruleset = serde_json::from_str(RULESET).unwrap();
        let other = uses(&rules(&ruleset, "pcc-other"), LISTING);
        assert!(other.iter().any(|found| found.mask == Some(0xff) && found.sets), "another instance is not ours");
    }

    #[test]
    fn a_use_names_its_table_and_rule() {
        let tailscale = &observed()[0];
        assert_eq!(tailscale.place, "nftables table ip tailscale");
        assert_eq!(tailscale.text, "iifname \"tailscale0\" meta mark set meta mark & 0xff04ffff | 0x00040000");
    }

    #[test]
    fn masked_uses() {
        use Mark::{Connection, Packet};
        assert_eq!(of("iifname \"tailscale0\""), [(Packet, true, Some(0xff0000))]);
        assert_eq!(of("meta mark & 0x00ff0000"), [(Packet, false, Some(0xff0000))]);
        assert_eq!(
            of("meta mark & 0x00003f00"),
            [(Packet, false, Some(0x3f00)), (Packet, true, Some(0x100))],
            "a match and a set in one rule"
        );
        assert_eq!(of("ct mark set ct mark ^"), [(Connection, true, Some(0x200))]);
        assert_eq!(of("meta mark & 0x000000ff vmap"), [(Packet, false, Some(0xff))]);
        assert_eq!(of("meta mark set meta mark & 0x000000ff"), [(Packet, true, Some(0xffff_ff00))]);
    }

    #[test]
    fn whole_marks() {
        use Mark::{Connection, Packet};
        assert_eq!(
            of("ct mark & 0x00003f00"),
            [(Packet, true, None), (Connection, false, Some(0x3f00))],
            "what is not kept from the old mark is wiped"
        );
        assert_eq!(of("meta l4proto udp meta mark set ct mark"), [(Packet, true, None), (Connection, false, None)]);
        assert_eq!(of("meta l4proto udp meta mark 0x0000ca6c"), [(Packet, false, None), (Connection, true, None)]);
        assert_eq!(of("meta mark set ip saddr map @m"), [(Packet, true, None)]);
        assert_eq!(of("meta mark set numgen"), [(Packet, true, None)]);
        assert_eq!(of("meta mark {"), [(Packet, false, None)]);
        assert_eq!(of("meta mark 0x00000010-"), [(Packet, false, None)]);
        assert_eq!(of("meta priority set"), [(Packet, false, None)]);
    }

    #[test]
    fn what_is_no_use_is_not_reported() {
        assert!(of("fib").is_empty());
        assert!(of("ip saddr {").is_empty());
    }

    #[test]
    fn two_marks_in_one_expression() {
        let value = serde_json::json!({"|": [
            {"&": [{"meta": {"key": "mark"}}, 0xffff_00ffu32]},
            {"&": [{"ct": {"key": "mark"}}, 0xff00]},
        ]});
        assert_eq!(changed(&value, Mark::Packet), Some(0xff00));
        assert_eq!(changed(&value, Mark::Connection), Some(0xffff_00ff));
        assert_eq!(reads(&value).collect::<Vec<_>>(), [(Mark::Packet, 0xffff_00ff), (Mark::Connection, 0xff00)]);
    }

    #[test]
    fn odd_json_does_no_harm() {
        for text in ["null", "{}", "{\"nftables\": [{\"rule\": 5}, {\"rule\": {\"expr\": [null, {\"&\": 3}]}}]}"] {
            assert!(rules(&serde_json::from_str(text).unwrap(), "x").is_empty(), "{text}");
        }
    }
}
