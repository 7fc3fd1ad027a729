//! Quoted strings, and text in braces.

use std::mem;
use std::rc::Rc;

use super::source::latin;
use super::{Parser, shape};
use crate::routeros::Severity;
use crate::routeros::parser::syntax::Expression;

/// Bytes that may be read in vain for brackets that are never closed.
const MOST_VAIN: usize = 64 << 20;

impl Parser<'_> {
    /// A quoted string, whose opening quote is here; its escapes and variables resolved.
    pub fn string(&mut self) -> Expression {
        let start = self.at;
        let (end, next) = self.end_of_string();
        let mut parts = Vec::new();
        let mut bytes = Vec::new();
        self.bump();
        while self.at < end {
            match self.peek() {
                Some('\\') => self.escape(end, &mut bytes),
                Some('$') if self.variable_follows() => {
                    text_part(&mut bytes, &mut parts);
                    let at = self.at;
                    parts.push(Expression::Variable(self.variable(), at));
                }
                Some('$') if self.rest()[1..].starts_with(['(', '[']) => {
                    text_part(&mut bytes, &mut parts);
                    self.at += 1;
                    let outer = mem::replace(&mut self.limit, end);
                    parts.push(if self.peek() == Some('(') { self.parentheses() } else { self.substitution() });
                    self.limit = outer;
                }
                Some(other) => {
                    bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                    self.bump();
                }
                None => break,
            }
        }
        self.at = next.max(start + 1);
        text_part(&mut bytes, &mut parts);
        match parts.len() {
            0 => Expression::Text("".into()),
            1 => parts.remove(0),
            _ => Expression::Join(parts),
        }
    }

    fn escape(&mut self, end: usize, bytes: &mut Vec<u8>) {
        let rest = &self.rest().as_bytes()[1..];
        let hex = |byte: Option<&u8>| {
            byte.filter(|byte| !byte.is_ascii_lowercase()).and_then(|byte| char::from(*byte).to_digit(16))
        };
        let (byte, length) = match (rest.first(), hex(rest.first()), hex(rest.get(1))) {
            (_, Some(high), Some(low)) => (u8::try_from(high * 16 + low).ok(), 3),
            (Some(b'\n'), ..) => {
                let indentation = rest[1..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
                (None, indentation + 2)
            }
            (Some(b'n'), ..) => (Some(b'\n'), 2),
            (Some(b'r'), ..) => (Some(b'\r'), 2),
            (Some(b't'), ..) => (Some(b'\t'), 2),
            (Some(b'a'), ..) => (Some(7), 2),
            (Some(b'b'), ..) => (Some(8), 2),
            (Some(b'f'), ..) => (Some(12), 2),
            (Some(b'v'), ..) => (Some(11), 2),
            (Some(b'_'), ..) => (Some(b' '), 2),
            (Some(byte @ (b'"' | b'\\' | b'$' | b'?')), ..) => (Some(*byte), 2),
            _ => {
                self.damage("unknown-escape", self.at);
                (Some(b'\\'), 1)
            }
        };
        bytes.extend(byte);
        self.at = (self.at + length).min(end.max(self.at + 1));
    }

    /// Where the string that is opened here ends, and what comes behind its closing quote.
    fn end_of_string(&mut self) -> (usize, usize) {
        let open = self.peek().unwrap_or('"');
        let body = self.at + open.len_utf8();
        let text = &self.text()[body..];
        let typographic = shape::is_typographic(open);
        if typographic {
            self.damage("typographic-quotes", self.at);
        }
        let (mut line_end, mut repaired, mut escaped) = (None, None, false);
        for (index, character) in text.char_indices() {
            let next = body + index + character.len_utf8();
            let following = text[index + character.len_utf8()..].chars().next();
            match character {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                // A lost quote shows by the next string: its opening quote stands behind `=`, its text behind that quote.
                '"' if repaired.is_some() && text[..index].ends_with('=') => break,
                '"' if line_end.is_none() || !following.is_some_and(char::is_alphanumeric) => {
                    return (body + index, next);
                }
                '"' => break,
                '\n' if typographic => {
                    line_end = Some(body + index);
                    break;
                }
                '\n' if line_end.is_none() => {
                    line_end = Some(body + index);
                    if self.vain > MOST_VAIN {
                        break;
                    }
                }
                _ if shape::is_typographic(character) && (typographic || line_end.is_none()) => {
                    if typographic {
                        self.damage("typographic-quotes", body + index);
                        return (body + index, next);
                    }
                    if following.is_none_or(|next| shape::is_blank(Some(next)) || ";])}\\\n".contains(next)) {
                        repaired.get_or_insert((body + index, next));
                    }
                }
                _ => {}
            }
        }
        self.vain += text.len();
        if let Some((end, next)) = repaired {
            self.damage("typographic-quotes", end);
            return (end, next);
        }
        let end = line_end.unwrap_or(self.text().len());
        self.note(
            Severity::Error,
            "unclosed",
            self.at,
            self.at,
            "a string without its closing quote; it is cut at the line's end",
        );
        (end, end)
    }

    /// Text up to the bracket that closes the one here, without both; `None` if nothing closes it.
    pub fn balanced(&mut self) -> Option<Rc<str>> {
        let start = self.at + 1;
        let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
        if self.vain <= MOST_VAIN {
            for (index, byte) in self.text().bytes().enumerate().skip(self.at) {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => quoted = !quoted,
                    b'{' if !quoted => depth += 1,
                    b'}' if !quoted && depth == 1 => {
                        self.at = index + 1;
                        return Some(self.text()[start..index].into());
                    }
                    b'}' if !quoted => depth -= 1,
                    _ => {}
                }
            }
            self.vain += self.text().len() - self.at;
        }
        None
    }
}

fn text_part(bytes: &mut Vec<u8>, parts: &mut Vec<Expression>) {
    if !bytes.is_empty() {
        parts.push(Expression::Text(latin(bytes).0.into()));
        bytes.clear();
    }
}
