//! What operators make of values.

use std::cmp::Ordering;
use std::net::Ipv4Addr;

use super::data::{Data, address, number, truth};
use crate::routeros::lexer::shape::excerpt;
use crate::routeros::parser::syntax::Operator;

/// `left operator right`.
pub fn binary(operator: Operator, left: &Data, right: &Data) -> Data {
    if operator == Operator::Append {
        return append(left, right);
    }
    if operator == Operator::Element {
        return element(left, right);
    }
    let (one, other) = match (left.join(";"), right.join(";")) {
        (Ok(one), Ok(other)) => (one, other),
        (Err(unknown), _) | (_, Err(unknown)) => return Data::Unknown(unknown),
    };
    let result = match operator {
        Operator::Concatenate => Some(Data::text(format!("{one}{other}"))),
        Operator::Equal => Some(Data::boolean(equal(&one, &other))),
        Operator::NotEqual => Some(Data::boolean(!equal(&one, &other))),
        Operator::Less => order(&one, &other).map(|order| Data::boolean(order.is_lt())),
        Operator::Greater => order(&one, &other).map(|order| Data::boolean(order.is_gt())),
        Operator::LessOrEqual => order(&one, &other).map(|order| Data::boolean(order.is_le())),
        Operator::GreaterOrEqual => order(&one, &other).map(|order| Data::boolean(order.is_ge())),
        Operator::In => contains(&one, &other).map(Data::boolean),
        _ => arithmetic(operator, &one, &other),
    };
    result.unwrap_or_else(|| Data::unknown(format!("an operation on `{}` and `{}`", excerpt(&one), excerpt(&other))))
}

/// `operator value`.
pub fn unary(operator: Operator, value: &Data) -> Data {
    if let Data::Unknown(_) = value {
        return value.clone();
    }
    let result = match operator {
        Operator::Not => value.truth().map(|truth| Data::boolean(!truth)),
        Operator::Subtract => value.number().and_then(i64::checked_neg).map(|number| Data::text(number.to_string())),
        Operator::BitNot => value.number().map(|number| Data::text((!number).to_string())),
        _ => None,
    };
    result.unwrap_or_else(|| Data::unknown("an operation on a value of another type"))
}

/// The element of `array` with the key, or at the index, `key`.
pub fn element(array: &Data, key: &Data) -> Data {
    let Data::Array(array) = array else {
        return if let Data::Unknown(_) = array {
            array.clone()
        } else {
            Data::unknown("an element of what is no array")
        };
    };
    let key = match key.join(";") {
        Ok(key) => key,
        Err(unknown) => return Data::Unknown(unknown),
    };
    let named = array.elements.iter().rev().find(|(name, _)| name.as_deref() == Some(&*key));
    let index = || number(&key).and_then(|index| usize::try_from(index).ok());
    let found = named.or_else(|| array.elements.iter().filter(|(name, _)| name.is_none()).nth(index()?));
    found.map_or(Data::Nothing, |(_, element)| element.clone())
}

/// `array` with `value` at `key`.
pub fn with_element(array: &Data, key: &Data, value: Data) -> Data {
    let mut elements = match array {
        Data::Array(array) => array.elements.clone(),
        Data::Nothing => Vec::new(),
        _ => return Data::unknown("an element of what is no array"),
    };
    let key = match key.join(";") {
        Ok(key) => key,
        Err(unknown) => return Data::Unknown(unknown),
    };
    let index = number(&key).and_then(|index| usize::try_from(index).ok());
    if let Some((_, element)) = elements.iter_mut().find(|(name, _)| name.as_deref() == Some(&*key)) {
        *element = value;
    } else if let Some((_, element)) = index.and_then(|index| elements.get_mut(index)) {
        *element = value;
    } else {
        elements.push((Some(key).filter(|_| index.is_none()), value));
    }
    Data::array(elements)
}

fn append(left: &Data, right: &Data) -> Data {
    if let Data::Unknown(_) = left {
        return left.clone();
    }
    let elements = |data: &Data| match data {
        Data::Array(array) => array.elements.clone(),
        Data::Nothing => Vec::new(),
        other => vec![(None, other.clone())],
    };
    let mut all = elements(left);
    all.extend(elements(right));
    Data::array(all)
}

fn equal(one: &str, other: &str) -> bool {
    match (number(one), number(other), truth(one), truth(other)) {
        (Some(one), Some(other), ..) => one == other,
        (.., Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

fn order(one: &str, other: &str) -> Option<Ordering> {
    match (number(one), number(other), address(one), address(other)) {
        (Some(one), Some(other), ..) => Some(one.cmp(&other)),
        (.., Some(one), Some(other)) => Some(one.cmp(&other)),
        (None, None, None, None) => Some(one.cmp(other)),
        _ => None,
    }
}

/// Whether the network `other` contains the address or network `one`.
fn contains(one: &str, other: &str) -> Option<bool> {
    let network = |text: &str| {
        let (address, bits) = text.split_once('/').unwrap_or((text, "32"));
        Some((self::address(address)?, bits.parse::<u32>().ok().filter(|bits| *bits <= 32)?))
    };
    let ((address, bits), (base, prefix)) = (network(one)?, network(other)?);
    let host_bits = 32 - prefix;
    Some(bits >= prefix && u64::from(address) >> host_bits == u64::from(base) >> host_bits)
}

fn arithmetic(operator: Operator, one: &str, other: &str) -> Option<Data> {
    if let (Operator::And | Operator::Or, Some(one), Some(other)) = (operator, truth(one), truth(other)) {
        return Some(Data::boolean(if operator == Operator::And { one && other } else { one || other }));
    }
    let first = address(one).map(i64::from);
    let second = address(other).map(i64::from);
    let (left, right) = (first.or_else(|| number(one))?, second.or_else(|| number(other))?);
    let bits = u32::try_from(right).ok();
    let result = match operator {
        Operator::Add => left.checked_add(right),
        Operator::Subtract => left.checked_sub(right),
        Operator::Multiply => left.checked_mul(right),
        Operator::Divide => left.checked_div(right),
        Operator::Modulo => left.checked_rem(right),
        Operator::BitAnd => Some(left & right),
        Operator::BitOr => Some(left | right),
        Operator::BitXor => Some(left ^ right),
        Operator::ShiftLeft => left.checked_shl(bits?),
        Operator::ShiftRight => left.checked_shr(bits?),
        _ => None,
    }?;
    // An address and a number make an address; two addresses differ by a number.
    let is_address = first.is_some() != second.is_some() || (first.is_some() && operator != Operator::Subtract);
    Some(Data::text(if is_address {
        Ipv4Addr::from(u32::try_from(result).ok()?).to_string()
    } else {
        result.to_string()
    }))
}
