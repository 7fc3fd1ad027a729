//! What web pages and consoles put around the lines of a script, and how to tell.

use std::ops::Range;

/// Something that was cut off a line, at this byte.
#[derive(Clone, Copy, Debug)]
pub struct Trim {
    pub id: &'static str,
    pub at: usize,
}

/// Whether the lines carry line numbers: nearly all of them begin with a number that grows with the line.
pub fn numbered<'a>(lines: impl Iterator<Item = &'a str>) -> bool {
    let (mut all, mut fitting, mut offset) = (0_usize, 0_usize, None);
    for (index, line) in lines.enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        all += 1;
        let Some((number, _)) = number(line).filter(|(number, _)| *number > 0) else { continue };
        let difference = number.wrapping_sub(index);
        fitting += usize::from(*offset.get_or_insert(difference) == difference);
    }
    all >= 3 && fitting * 10 >= all * 9
}

/// What was cut off `line`, and the parts of it that are script.
pub fn trim(line: &str, numbered: bool) -> ([Option<Trim>; 3], [Range<usize>; 2]) {
    let mut trims = [None; 3];
    let (mut start, mut end) = (0, line.len());
    if let Some((_, length)) = number(line).filter(|_| numbered) {
        trims[0] = Some(Trim { id: "line-number", at: 0 });
        start = length;
    }
    let at = indented(line, start);
    if line[at..].starts_with("```") {
        trims[1] = Some(Trim { id: "markdown-fence", at });
        return (trims, [end..end, end..end]);
    }
    let prefix = ["- ", "* ", "> ", "| ", "• "].into_iter().find(|prefix| line[at..].starts_with(prefix));
    if let Some(prefix) = prefix
        && is_command(line[at + prefix.len()..].trim_start())
    {
        trims[1] = Some(Trim { id: "line-prefix", at });
        start = at + prefix.len();
        if prefix == "| " {
            end = line.trim_end().trim_end_matches('|').len().max(start);
        }
    }
    let at = indented(line, start).min(end);
    if let Some((path, rest)) = prompt(&line[at..end]) {
        trims[2] = Some(Trim { id: "prompt", at });
        return (trims, [at + path.start..at + path.end, at + rest..end]);
    }
    (trims, [start..end, end..end])
}

/// The character that an entity at the start of `text` means, and the entity's bytes.
pub fn entity(text: &str) -> Option<(char, usize)> {
    let end = text.bytes().take(10).position(|byte| byte == b';')?;
    let name = &text[1..end];
    let character = match name {
        "quot" => '"',
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "apos" => '\'',
        "nbsp" => '\u{a0}',
        "ldquo" => '\u{201c}',
        "rdquo" => '\u{201d}',
        "bdquo" => '\u{201e}',
        "lsquo" => '\u{2018}',
        "rsquo" => '\u{2019}',
        "prime" => '\u{2032}',
        "Prime" => '\u{2033}',
        "ndash" => '\u{2013}',
        "mdash" => '\u{2014}',
        "minus" => '\u{2212}',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?).filter(|character| !character.is_control())?
        }
    };
    Some((character, end + 1))
}

/// A number at the start of `line` with what separates it from the text, and the bytes of both.
fn number(line: &str) -> Option<(usize, usize)> {
    let start = indented(line, 0);
    let digits = line[start..].bytes().take(7).take_while(u8::is_ascii_digit).count();
    let number = line[start..start + digits].parse().ok()?;
    let end = start + digits;
    match line[end..].chars().next() {
        None => Some((number, end)),
        Some('.' | ':' | ')' | '|') if line[end + 1..].is_empty() || line[end + 1..].starts_with([' ', '\t']) => {
            Some((number, end + 1))
        }
        Some(' ' | '\t') => Some((number, end + 1)),
        Some(_) => None,
    }
}

/// The menu that a prompt `[user@name] /menu>` names, and where the command behind it begins.
fn prompt(text: &str) -> Option<(Range<usize>, usize)> {
    let close = text.strip_prefix('[')?.find("] ")? + 1;
    let inside = &text[..close];
    let path = close + 2;
    let end = path + text[path..].find('>')?;
    let menu = text[path..end].bytes().all(|byte| byte.is_ascii_lowercase() || b" /-0123456789".contains(&byte));
    (menu && inside.contains('@') && !inside.contains(' ')).then_some((path..end, end + 1))
}

fn is_command(text: &str) -> bool {
    let letter = |rest: &str| rest.starts_with(|character: char| character.is_ascii_lowercase());
    ["add ", "set ", "remove "].iter().any(|verb| text.starts_with(verb))
        || text.starts_with('#')
        || text.strip_prefix(['/', ':']).is_some_and(letter)
}

fn indented(line: &str, start: usize) -> usize {
    line.len() - line[start..].trim_start_matches([' ', '\t']).len()
}
