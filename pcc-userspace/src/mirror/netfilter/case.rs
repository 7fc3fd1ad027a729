//! When a rule matches, as nft sees it.
//!
//! A line of nft is a conjunction. What takes several lines is a list of cases of which at most one holds, so that the
//! rule's action happens once.

use super::chains::digit;
use crate::routeros::model::Family;
use crate::routeros::model::values::AddressRange;

/// Conjunctions of nft expressions, of which at most one holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cases(Vec<String>);

impl Cases {
    /// Holds always.
    pub fn always() -> Self {
        Self(vec![String::new()])
    }

    /// Never holds.
    pub const fn never() -> Self {
        Self(Vec::new())
    }

    /// Holds always or never.
    pub fn constant(holds: bool) -> Self {
        if holds { Self::always() } else { Self::never() }
    }

    /// Holds if `expression` does.
    pub fn one(expression: impl Into<String>) -> Self {
        Self(vec![expression.into()])
    }

    /// These, which exclude each other.
    pub fn of(cases: impl IntoIterator<Item = String>) -> Self {
        Self(cases.into_iter().collect())
    }

    /// Both hold. Expressions of `other` come last.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let joined = |first: &String, second: &String| match (first.as_str(), second.as_str()) {
            ("", only) | (only, "") => only.to_owned(),
            (first, second) => format!("{first} {second}"),
        };
        Self(self.0.iter().flat_map(|first| other.0.iter().map(move |second| joined(first, second))).collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// `key` has one of `values`; with `negated` none of them.
pub fn among(key: &str, values: &[String], negated: bool) -> Cases {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.dedup();
    let not = if negated { "!= " } else { "" };
    match values.as_slice() {
        [] => Cases::constant(negated),
        [value] => Cases::one(format!("{key} {not}{value}")),
        values => Cases::one(format!("{key} {not}{{ {} }}", values.join(", "))),
    }
}

/// The number `key`, which is at most `most`, is in one of `ranges`; with `negated` in none.
pub fn within<N: Copy + Into<u128>>(
    key: &str,
    ranges: impl IntoIterator<Item = (N, N)>,
    most: N,
    negated: bool,
) -> Cases {
    let ranges = merge(ranges.into_iter().map(|(first, last)| (first.into(), last.into())).collect());
    if ranges == [(0, most.into())] {
        return Cases::constant(!negated);
    }
    let text = |(first, last): &(u128, u128)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    among(key, &ranges.iter().map(text).collect::<Vec<_>>(), negated)
}

/// The addresses of `ranges`, without overlaps, as nft writes them. Those of another family are left out.
pub fn addresses(ranges: impl IntoIterator<Item = AddressRange>, family: Family) -> Vec<String> {
    let number = |address| match address {
        std::net::IpAddr::V4(address) => u128::from(u32::from(address)),
        std::net::IpAddr::V6(address) => u128::from(address),
    };
    let ranges = ranges.into_iter().filter(|range| family.holds(range.first));
    let ranges = merge(ranges.map(|range| (number(range.first), number(range.last))).collect());
    let text = |number: u128| match family {
        Family::V4 => std::net::Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).to_string(),
        Family::V6 => std::net::Ipv6Addr::from(number).to_string(),
    };
    let bits = if family == Family::V4 { 32 } else { 128 };
    let range = |(first, last): (u128, u128)| {
        let size = last - first;
        let aligned = size.wrapping_add(1) & size == 0 && first & size == 0;
        if first == last {
            text(first)
        } else if aligned {
            format!("{}/{}", text(first), bits - size.count_ones())
        } else {
            format!("{}-{}", text(first), text(last))
        }
    };
    ranges.into_iter().map(range).collect()
}

/// The word of nft for the addresses of a family: `ip` or `ip6`.
pub fn word(family: Family) -> &'static str {
    if digit(family) == 4 { "ip" } else { "ip6" }
}

/// The same numbers in disjoint ranges that do not touch, ascending.
fn merge(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::{Cases, addresses, among, within};
    use crate::routeros::model::Family;
    use crate::routeros::model::values::AddressRange;

    fn text(cases: &Cases) -> Vec<&str> {
        cases.iter().collect()
    }

    #[test]
    fn both_means_every_pair() {
        let two = Cases::of(["a".to_owned(), "b".to_owned()]);
        assert_eq!(text(&two.and(&Cases::always())), ["a", "b"]);
        assert_eq!(text(&two.and(&two)), ["a a", "a b", "b a", "b b"]);
        assert_eq!(two.and(&Cases::never()).len(), 0);
    }

    #[test]
    fn one_value_needs_no_set_and_all_values_no_test() {
        assert_eq!(text(&among("k", &["v".into()], true)), ["k != v"]);
        assert_eq!(text(&among("k", &["v".into(), "v".into(), "u".into()], false)), ["k { u, v }"]);
        assert_eq!(text(&within("k", [(1_u16, 5), (3, 9), (10, 11), (20, 20)], u16::MAX, true)), ["k != { 1-11, 20 }"]);
        assert_eq!(within("k", [(0_u16, 7), (8, u16::MAX)], u16::MAX, false), Cases::always());
        assert_eq!(within("k", [(0_u16, u16::MAX)], u16::MAX, true), Cases::never());
    }

    #[test]
    fn addresses_are_prefixes_where_they_can() {
        let list =
            |family, texts: &[&str]| addresses(texts.iter().filter_map(|text| AddressRange::parse(text)), family);
        assert_eq!(
            list(Family::V4, &["10.0.0.0/8", "10.1.0.0/16", "192.0.2.1", "192.0.2.4-192.0.2.6", "::1"]),
            ["10.0.0.0/8", "192.0.2.1", "192.0.2.4-192.0.2.6"]
        );
        assert_eq!(list(Family::V4, &["0.0.0.0/1", "128.0.0.0/1"]), ["0.0.0.0/0"]);
        assert_eq!(list(Family::V6, &["::/0", "10.0.0.1"]), ["::/0"]);
        assert_eq!(list(Family::V6, &["2001:db8::/32", "fd00::1"]), ["2001:db8::/32", "fd00::1"]);
    }
}
