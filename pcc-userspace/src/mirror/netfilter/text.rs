//! Free text of the script in nft's strings, which have no escapes.

/// The longest comment of a rule that the kernel keeps, in bytes, with its end.
const COMMENT: usize = 127;
/// The same for the prefix of a log line.
const PREFIX: usize = 126;

/// `comment "…"` with a blank before it; nothing for an empty comment.
pub fn comment(text: Option<&str>) -> String {
    let text = plain(text.unwrap_or_default(), COMMENT);
    if text.is_empty() { String::new() } else { format!(" comment \"{text}\"") }
}

/// The statement that logs with the prefix that RouterOS would write.
pub fn log(prefix: Option<&str>) -> String {
    let ascii = |letter: char| if letter.is_ascii() && letter != '$' { letter } else { '_' };
    let prefix: String = prefix.unwrap_or_default().chars().map(ascii).collect();
    let prefix = plain(&prefix, PREFIX - 2);
    if prefix.is_empty() { "log".to_owned() } else { format!("log prefix \"{prefix}: \"") }
}

/// One line without `"` and `\`, at most `most` bytes.
fn plain(text: &str, most: usize) -> String {
    let mut plain = String::new();
    for letter in text.trim().chars() {
        let letter = match letter {
            '"' => '\'',
            '\\' => '/',
            letter if letter.is_control() => ' ',
            letter => letter,
        };
        if plain.len() + letter.len_utf8() > most {
            break;
        }
        plain.push(letter);
    }
    plain.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{comment, log};

    #[test]
    fn strings_stay_strings() {
        assert_eq!(comment(None), "");
        assert_eq!(comment(Some(" to \"ISP 1\"\\\nänd ")), " comment \"to 'ISP 1'/ änd\"");
        assert_eq!(comment(Some(&"ä".repeat(200))).len(), " comment \"\"".len() + 126);
        assert_eq!(log(None), "log");
        assert_eq!(log(Some("a$b\"ü")), "log prefix \"a_b'_: \"");
        assert!(log(Some(&"x".repeat(500))).len() < 145);
    }
}
