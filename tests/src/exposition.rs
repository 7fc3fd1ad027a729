//! A strict reader of OpenMetrics text 1.0.0, which knows the kinds that `pcc` writes.

use std::collections::{BTreeMap, BTreeSet};

/// What was exposed.
#[derive(Debug, Default)]
pub struct Exposition {
    /// Families by name.
    pub families: BTreeMap<String, Family>,
}

/// A family of metrics.
#[derive(Debug, Default)]
pub struct Family {
    /// `counter`, `gauge`, `info` or `stateset`.
    pub kind: String,
    /// Its unit, empty if there is none.
    pub unit: String,
    /// What it means.
    pub help: String,
    /// Values by labels.
    pub samples: BTreeMap<Labels, f64>,
}

/// Labels with their values.
pub type Labels = BTreeMap<String, String>;

impl Exposition {
    /// Reads `text`.
    ///
    /// # Errors
    /// The first line that breaks a rule, and which.
    pub fn parse(text: &str) -> Result<Self, String> {
        let body = text.strip_suffix("# EOF\n").ok_or("the last line is not `# EOF`")?;
        let mut read = Self::default();
        let mut current = String::new();
        for line in body.split_terminator('\n') {
            read.line(line, &mut current).map_err(|rule| format!("{rule}: {line}"))?;
        }
        read.families.iter().try_for_each(|(name, family)| family.check(name))?;
        Ok(read)
    }

    /// The value of the only sample of `family` with all of `labels`.
    pub fn value(&self, family: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.all(family, labels);
        found.next().filter(|_| found.next().is_none())
    }

    /// The sum of the samples of `family` with all of `labels`.
    pub fn sum(&self, family: &str, labels: &[(&str, &str)]) -> f64 {
        self.all(family, labels).sum()
    }

    fn all<'a>(&'a self, family: &str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = f64> + 'a {
        let samples = self.families.get(family).into_iter().flat_map(|family| &family.samples);
        let fits = |has: &Labels| labels.iter().all(|(name, value)| has.get(*name).is_some_and(|it| it == value));
        samples.filter(move |(has, _)| fits(has)).map(|(_, value)| *value)
    }

    fn line(&mut self, line: &str, current: &mut String) -> Result<(), &'static str> {
        if let Some(meta) = line.strip_prefix("# ") {
            let (keyword, rest) = meta.split_once(' ').ok_or("metadata without a name")?;
            let (name, words) = rest.split_once(' ').ok_or("metadata without a text")?;
            if name != current.as_str() {
                if keyword != "TYPE" || self.families.contains_key(name) || !is_name(name, true) {
                    return Err("a family does not begin with TYPE, comes twice, or has a bad name");
                }
                name.clone_into(current);
            }
            let family = self.families.entry(name.to_owned()).or_default();
            if !family.samples.is_empty() {
                return Err("metadata behind samples");
            }
            let field = match keyword {
                "TYPE" => &mut family.kind,
                "UNIT" => &mut family.unit,
                "HELP" => &mut family.help,
                _ => return Err("unknown metadata"),
            };
            if !field.is_empty() {
                return Err("metadata twice");
            }
            *field = unescape(words, false).ok_or("a bad escape")?.0;
            return Ok(());
        }
        let family = self.families.get_mut(current.as_str()).ok_or("a sample without a family")?;
        let suffix = match family.kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let rest = line.strip_prefix(current.as_str()).and_then(|rest| rest.strip_prefix(suffix));
        let rest = rest.ok_or("a sample of another family")?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (Labels::new(), rest),
        };
        let value = value.strip_prefix(' ').ok_or("no space before the value")?;
        let good = value.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
            || value == "NaN"
            || value == "+Inf";
        let value = value.parse().ok().filter(|_| good).ok_or("a value that is no number")?;
        if family.samples.insert(labels, value).is_some() { Err("a series twice") } else { Ok(()) }
    }
}

impl Family {
    /// The rules that need the whole family.
    fn check(&self, name: &str) -> Result<(), String> {
        let broken = |rule: &str| Err(format!("{rule}: {name}"));
        if !["counter", "gauge", "info", "stateset"].contains(&self.kind.as_str()) {
            return broken("an unknown kind");
        }
        if self.help.is_empty() || self.samples.is_empty() {
            return broken("no HELP, or no sample");
        }
        if !self.unit.is_empty()
            && (!name.ends_with(&format!("_{}", self.unit)) || self.kind == "info" || self.kind == "stateset")
        {
            return broken("a unit that the name does not end with, or that the kind cannot have");
        }
        let labels: BTreeSet<Vec<&String>> = self.samples.keys().map(|labels| labels.keys().collect()).collect();
        if labels.len() > 1 {
            return broken("samples with different labels");
        }
        let mut states = BTreeMap::<Labels, f64>::new();
        for (labels, value) in &self.samples {
            match self.kind.as_str() {
                "counter" if !(value.is_finite() && *value >= 0.0) => return broken("a counter below zero"),
                "info" if *value != 1.0 => return broken("an info that is not 1"),
                "stateset" => {
                    let mut group = labels.clone();
                    if group.remove(name).is_none() || ![0.0, 1.0].contains(value) {
                        return broken("a state without its label, or neither 0 nor 1");
                    }
                    *states.entry(group).or_default() += value;
                }
                _ => {}
            }
        }
        if states.values().any(|on| *on != 1.0) { broken("not one state") } else { Ok(()) }
    }
}

/// The labels behind `{`, and what follows `}`.
fn labels(mut rest: &str) -> Result<(Labels, &str), &'static str> {
    let mut labels = Labels::new();
    loop {
        let (name, after) = rest.split_once("=\"").ok_or("a label without value")?;
        let (value, after) = unescape(after, true).ok_or("a label value without end, or with a bad escape")?;
        if !is_name(name, false) || labels.insert(name.to_owned(), value).is_some() {
            return Err("a label twice, or with a bad name");
        }
        match after.split_at_checked(1) {
            Some((",", after)) => rest = after,
            Some(("}", after)) => return Ok((labels, after)),
            _ => return Err("labels without end"),
        }
    }
}

/// The text until a quote, or until its end, without escapes, and what follows.
fn unescape(text: &str, quoted: bool) -> Option<(String, &str)> {
    let mut plain = String::new();
    let mut rest = text.char_indices();
    while let Some((index, letter)) = rest.next() {
        match letter {
            '"' if quoted => return text.get(index + 1..).map(|rest| (plain, rest)),
            '"' => return None,
            '\\' => plain.push(match rest.next()?.1 {
                'n' => '\n',
                letter @ ('"' | '\\') => letter,
                _ => return None,
            }),
            letter => plain.push(letter),
        }
    }
    (!quoted).then_some((plain, ""))
}

fn is_name(name: &str, colons: bool) -> bool {
    let good = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || (colons && letter == ':');
    !name.is_empty() && name.chars().all(good) && !name.starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# TYPE a_bytes counter\n# UNIT a_bytes bytes\n# HELP a_bytes Of \\\"b\\\".\na_bytes_total{x=\"1,\\\"}\\\\\\n\"} 2\n# EOF\n";

    #[test]
    fn a_good_text_is_read() {
        let read = Exposition::parse(GOOD).unwrap();
        assert_eq!(read.value("a_bytes", &[("x", "1,\"}\\\n")]), Some(2.0));
        assert_eq!(read.families["a_bytes"].help, "Of \"b\".");
    }

    #[test]
    fn bad_texts_are_refused() {
        let state = "# TYPE s stateset\n# HELP s S.\ns{s=\"a\"} 1\ns{s=\"b\"} 1\n# EOF\n";
        for (from, to) in [
            ("# EOF\n", ""),
            ("# EOF\n", "\n# EOF\n"),
            ("_total", ""),
            (" 2", " -2"),
            (" 2", " 0x2"),
            (" 2", "  2"),
            ("UNIT a_bytes bytes", "UNIT a_bytes seconds"),
            ("# HELP a_bytes Of \\\"b\\\".\n", ""),
            ("counter", "histogram"),
            ("# EOF", "a_bytes_total{x=\"1,\\\"}\\\\\\n\"} 3\n# EOF"),
            ("# EOF", "a_bytes_total{y=\"1\"} 3\n# EOF"),
            ("{x=", "{1x="),
            ("\\n\"}", "\\t\"}"),
            ("\"} 2", "\",} 2"),
            (GOOD, state),
        ] {
            let bad = GOOD.replacen(from, to, 1);
            assert!(bad != GOOD && Exposition::parse(&bad).is_err(), "{bad}");
        }
    }
}
