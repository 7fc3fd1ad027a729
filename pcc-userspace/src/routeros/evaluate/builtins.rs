//! The scripting commands that have a value and need no router.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use super::data::{Data, Unknown};

/// The value of `:word values…`.
pub fn call(word: &str, values: &[Data]) -> Data {
    let live = values.iter().find(|value| matches!(value, Data::Unknown(_)));
    if let Some(unknown) = live {
        return unknown.clone();
    }
    let value = values.first().cloned().unwrap_or(Data::Nothing);
    match word {
        "len" => len(&value),
        "pick" => pick(&value, values.get(1), values.get(2)),
        "find" => find(&value, values.get(1), values.get(2)),
        "tostr" => value.join(";").map_or_else(Data::Unknown, Data::text),
        "toarray" => to_array(&value),
        "tonum" => value.number().map_or(Data::Nothing, |number| Data::text(number.to_string())),
        "tobool" => match value.truth().or_else(|| value.number().map(|number| number != 0)) {
            Some(truth) => Data::boolean(truth),
            None => Data::Nothing,
        },
        "toip" => parsed(&value, |text| text.parse::<Ipv4Addr>().is_ok()),
        "toip6" => parsed(&value, |text| text.parse::<Ipv6Addr>().is_ok()),
        "typeof" => type_of(&value),
        "nothing" => Data::Nothing,
        _ => Data::unknown(format!("the value of `:{word}`")),
    }
}

fn len(value: &Data) -> Data {
    match value {
        Data::Nothing => Data::text("0"),
        Data::Array(array) => Data::text(array.elements.len().to_string()),
        // RouterOS counts bytes.
        Data::Text(text) => Data::text(text.len().to_string()),
        Data::Items(_) => Data::unknown("how many items there are"),
        Data::Code(_) | Data::Unknown(_) => Data::unknown("the length of commands"),
    }
}

/// Elements or bytes from `start` up to, without, `end`; one element if there is no `end`.
fn pick(value: &Data, start: Option<&Data>, end: Option<&Data>) -> Data {
    let index = |data: &Data| data.number().and_then(|number| usize::try_from(number).ok());
    let Some(first) = start.and_then(index) else { return Data::unknown("what `:pick` takes") };
    let last = match end {
        Some(end) => index(end),
        None => Some(first.saturating_add(1)),
    };
    let Some(last) = last else { return Data::unknown("what `:pick` takes") };
    match value {
        Data::Array(array) => {
            let mut picked = array.elements.iter().skip(first).take(last.saturating_sub(first));
            if end.is_none() {
                return picked.next().map_or(Data::Nothing, |(_, element)| element.clone());
            }
            Data::array(picked.cloned().collect())
        }
        Data::Text(text) => match text.get(first.min(text.len())..last.clamp(first.min(text.len()), text.len())) {
            Some(picked) => Data::text(picked),
            None => Data::unknown("a part of a character"),
        },
        Data::Items(_) => Data::unknown("one of the items that a `find` finds"),
        Data::Nothing => Data::Nothing,
        Data::Code(_) | Data::Unknown(_) => Data::unknown("a part of commands"),
    }
}

fn find(value: &Data, wanted: Option<&Data>, start: Option<&Data>) -> Data {
    let from = start.and_then(Data::number).map_or(0, |start| usize::try_from(start + 1).unwrap_or(0));
    let Some(Ok(wanted)) = wanted.map(|wanted| wanted.join(";")) else {
        return Data::unknown("what `:find` looks for");
    };
    let position = match value {
        Data::Text(text) => text.get(from..).and_then(|rest| rest.find(&*wanted)).map(|index| index + from),
        Data::Array(array) => {
            let matches = |element: &Data| element.join(";").is_ok_and(|text| text == wanted);
            array
                .elements
                .iter()
                .enumerate()
                .skip(from)
                .find(|(_, (_, element))| matches(element))
                .map(|(index, _)| index)
        }
        Data::Nothing => None,
        Data::Items(_) | Data::Code(_) | Data::Unknown(_) => return Data::unknown("a place in what a router holds"),
    };
    position.map_or(Data::Nothing, |position| Data::text(position.to_string()))
}

fn to_array(value: &Data) -> Data {
    match value {
        Data::Text(text) if text.is_empty() => Data::array(Vec::new()),
        Data::Text(text) => Data::array(text.split(',').map(|part| (None, Data::text(part))).collect()),
        Data::Nothing => Data::array(Vec::new()),
        other => other.clone(),
    }
}

fn parsed(value: &Data, good: fn(&str) -> bool) -> Data {
    match value.join(";") {
        Ok(text) if good(&text) => Data::Text(text),
        Ok(_) => Data::Nothing,
        Err(unknown) => Data::Unknown(unknown),
    }
}

fn type_of(value: &Data) -> Data {
    match value {
        Data::Nothing => Data::text("nothing"),
        Data::Array(_) => Data::text("array"),
        Data::Code(_) => Data::text("code"),
        Data::Text(text) if text.starts_with(|first: char| first.is_alphabetic()) && value.truth().is_none() => {
            Data::text("str")
        }
        // `"5"` and `5` differ for RouterOS.
        Data::Text(_) | Data::Items(_) => {
            Data::Unknown(Unknown { reason: Rc::from("the type of a value"), noted: false })
        }
        Data::Unknown(_) => value.clone(),
    }
}
