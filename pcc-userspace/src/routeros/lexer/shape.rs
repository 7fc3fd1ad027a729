//! What a line looks like, before it is known what it means.

use crate::routeros::menus::{self, Word};

/// Words that begin a scripting command.
const SCRIPTING: &[&str] = &[
    "local",
    "global",
    "set",
    "if",
    "for",
    "foreach",
    "while",
    "do",
    "onerror",
    "return",
    "error",
    "put",
    "log",
    "delay",
    "execute",
    "import",
    "parse",
    "beep",
    "terminal",
    "environment",
    "retry",
    "jobname",
    "len",
    "pick",
    "find",
    "tostr",
    "toarray",
    "tonum",
    "toip",
    "toip6",
    "tobool",
    "totime",
    "toid",
    "typeof",
    "resolve",
    "rndnum",
    "rndstr",
    "time",
    "timestamp",
    "nothing",
    "convert",
    "serialize",
    "deserialize",
    "range",
    "grep",
    "ping",
    "exit",
    "quit",
    "continue",
    "break",
];

/// Bytes of a line that are looked at to see what it is.
const MOST_SEEN: usize = 1024;

/// The beginning of the first line of `text`.
pub fn line(text: &str) -> &str {
    let seen = &text[..text.floor_char_boundary(MOST_SEEN)];
    seen.split('\n').next().unwrap_or(seen)
}

pub fn is_blank(character: Option<char>) -> bool {
    character.is_some_and(|character| character.is_whitespace() && character != '\n')
}

/// Quotes that word processors make of `"`, and the double prime that they make of one behind a digit.
pub fn is_typographic(character: char) -> bool {
    matches!(character, '\u{201c}'..='\u{201f}' | '\u{2033}' | '\u{2036}' | '«' | '»')
}

/// A `#` behind this byte begins a comment.
pub fn may_precede_comment(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b';' | b'{' | b'}' | b'(' | b'[') || byte >= 0x80
}

/// The word that the text begins with, in the sense of menus, commands and properties.
pub fn name(text: &str) -> &str {
    let mut end = 0;
    while let Some(byte) = text.as_bytes().get(end) {
        end += match byte {
            b'-' | b'.' | b'_' => 1,
            byte if byte.is_ascii_alphanumeric() => 1,
            _ if text[end..].starts_with('\u{2013}') => '\u{2013}'.len_utf8(),
            _ => break,
        };
    }
    &text[..end]
}

/// Whether the text begins with `name=`.
pub fn is_assignment(text: &str) -> bool {
    let name = name(text);
    name.starts_with(|first: char| first.is_ascii_alphabetic()) && text[name.len()..].starts_with('=')
}

/// The scripting command that `word` is.
pub fn scripting(word: &str) -> Option<&'static str> {
    SCRIPTING.iter().find(|known| **known == word).copied()
}

/// Whether `word`, without the usual colon, is a scripting command by what stands behind it.
pub fn script_word(word: &str, behind: &str) -> bool {
    let value = |text: &str| text.starts_with(['"', '$', '(', '[', '{']);
    let mut words = behind.split([' ', '\t']).filter(|word| !word.is_empty());
    match word {
        "if" | "while" => behind.starts_with(['(', '[', '$']),
        "for" => words.nth(1).is_some_and(|second| second.starts_with("from=")),
        "foreach" => words.nth(1).is_some_and(|second| second.starts_with("in=")),
        "do" => behind.starts_with(['{', '=']),
        "put" | "error" | "return" => value(behind),
        "local" | "global" => words.nth(1).is_some_and(|second| value(second) || second.parse::<i64>().is_ok()),
        _ => false,
    }
}

/// Whether what stands behind the word of a command says which items it means, as prose hardly does.
pub fn chooses(behind: &str) -> bool {
    let end = behind.find([' ', '\t', ';']).unwrap_or(behind.len());
    let (first, rest) = (&behind[..end], behind[end..].trim_start());
    let numbers = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit() || byte == b',');
    behind.starts_with(['[', '$', '*'])
        || (numbers && rest.is_empty())
        || (is_assignment(rest) && !behind.trim_end().ends_with(['.', ':', '!', '?']))
}

/// Whether the line is a command as exports have them, which nothing else looks like: `add name=…`, `set name=…`.
pub fn is_usual(line: &str) -> bool {
    let rest = line.strip_prefix("add ").or_else(|| line.strip_prefix("set "));
    rest.is_some_and(|rest| is_assignment(rest.trim_start()))
}

/// Whether a line that is expected to continue a command surely begins another one.
pub fn begins_command(line: &str) -> bool {
    let line = line.trim_start();
    let rest = ["add ", "set ", "remove "].iter().find_map(|verb| line.strip_prefix(verb)).map(str::trim_start);
    rest.is_some_and(|rest| rest.starts_with('[') || is_assignment(rest)) || begins_path(line)
}

/// Whether the text begins with `/` and a menu.
pub fn begins_path(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('/').map(str::trim_start) else { return false };
    let first = name(rest);
    !first.is_empty() && !matches!(menus::word("", &first.to_ascii_lowercase()), Word::Unknown)
}

/// Whether `line`, behind a backslash and a blank line, continues the command; `wanting` if that ended in `=`.
pub fn continues(line: &str, wanting: bool) -> bool {
    let Some(first) = line.chars().next() else { return false };
    if is_assignment(line) || line.starts_with('!') {
        return true;
    }
    if matches!(menus::word("ip address", line.trim_end()), Word::Verb(verb) if verb == line.trim_end()) {
        return false;
    }
    let rest = line.split_once([' ', '\t']).map_or("", |(_, rest)| rest.trim_start());
    wanting
        && (first == '"'
            || is_typographic(first)
            || (!"/:#{}".contains(first) && (rest.is_empty() || is_assignment(rest))))
}

/// An item of `print` instead of a command: `0 X ;;; comment`, `1 chain=…`, `;;; comment`.
pub fn is_printed_item(line: &str) -> bool {
    let line = line.trim();
    let rest = line.trim_start_matches(|next: char| next.is_ascii_digit());
    let flags = rest.trim_start();
    let marks = flags.find(' ').map_or(flags, |end| &flags[..end]);
    let behind = if marks.len() <= 5 && marks.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        flags[marks.len()..].trim_start()
    } else {
        flags
    };
    line.starts_with(";;;")
        || (rest.len() < line.len()
            && rest.starts_with([' ', '\t'])
            && (behind.starts_with(";;;") || is_assignment(behind) || is_assignment(flags)))
}

/// The header of `print`.
pub fn is_printed_header(line: &str) -> bool {
    let line = line.trim();
    line.starts_with("Flags: ") || line.starts_with("Columns: ")
}

/// Whether the rest of a line behind a command's word reads like English: several bare words, nothing that assigns.
pub fn is_prose(rest: &str) -> bool {
    if rest.contains(['=', '[', '{', '$', '"', '*', '~']) {
        return false;
    }
    let words = rest.split_whitespace().count();
    words >= 3 || (words >= 1 && rest.trim_end().ends_with(['.', ':', '?', '!']))
}

/// What `text` stands in for, if it is a placeholder of a published configuration.
pub fn is_placeholder(text: &str) -> bool {
    const DYNAMIC: [&str; 8] = ["pppoe-", "pptp-", "l2tp-", "sstp-", "ovpn-", "ppp-", "ipsec-", "dhcp-"];
    // A cheap look first, because nearly no value is one.
    if !text.bytes().any(|byte| matches!(byte, b'x' | b'X' | b'y' | b'Y' | b'<' | b'[')) {
        return false;
    }
    let text = text.trim();
    if let Some((inside, _)) = text.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        return !inside.is_empty() && !DYNAMIC.iter().any(|prefix| inside.starts_with(prefix));
    }
    let lower = text.to_ascii_lowercase();
    let address = lower.split(['/', ',', '-', '%', '@']).next().unwrap_or_default();
    let crossed = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte == b'x');
    let parts: Vec<_> = address.split('.').collect();
    let quad =
        parts.len() == 4 && parts.iter().all(|part| crossed(part) || part.bytes().all(|byte| byte.is_ascii_digit()));
    (quad && parts.iter().any(|part| crossed(part)))
        || (lower.len() >= 3 && crossed(&lower))
        || ["your-", "your_", "your "].iter().any(|prefix| lower.starts_with(prefix))
        || (text.len() > 2 && text.starts_with('[') && text.ends_with(']'))
}

/// The bytes of the number, address, time, id or word that an expression begins with.
pub fn literal(text: &str) -> usize {
    let run = |text: &str, good: fn(char) -> bool| text.find(|next| !good(next)).unwrap_or(text.len());
    let first = text.chars().next().unwrap_or(' ');
    if first == '*' {
        return 1 + run(&text[1..], |next| next.is_ascii_hexdigit());
    }
    if first.is_ascii_digit() || first == ':' {
        let dotted = run(text, |next| next.is_ascii_digit() || next == '.');
        let six = run(text, |next| next.is_ascii_hexdigit() || next == ':');
        let address = if text[..dotted].matches('.').count() == 3 {
            Some(dotted)
        } else {
            Some(six).filter(|_| text[..six].contains("::"))
        };
        return match address {
            Some(end) => {
                let bits = text[end..].strip_prefix('/').map_or(0, |bits| run(bits, |next| next.is_ascii_digit()));
                end + if bits > 0 { bits + 1 } else { 0 }
            }
            None => run(text, |next| next.is_ascii_alphanumeric() || next == ':'),
        };
    }
    if !first.is_alphabetic() && first != '_' {
        return 0;
    }
    let mut end = 0;
    let mut rest = text.chars().peekable();
    while let Some(next) = rest.next() {
        let dash = next == '-' && rest.peek().is_some_and(|after| after.is_alphabetic());
        if !next.is_alphanumeric() && next != '_' && !dash {
            break;
        }
        end += next.len_utf8();
    }
    end
}

/// The first words of a line, to quote it.
pub fn excerpt(line: &str) -> String {
    let line = line.trim();
    let short: String = line.chars().filter(|character| !character.is_control()).take(40).collect();
    if short.len() < line.len() { format!("{short}…") } else { short }
}
