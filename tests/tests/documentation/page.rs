//! What a page of the documentation holds: fenced blocks, and words in code font.

use std::fs;
use std::path::Path;

/// A page, by its path in the workspace.
#[derive(Debug)]
pub struct Page {
    pub path: &'static str,
    pub text: String,
}

/// A fenced block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// `README.md:12`, where it begins.
    pub place: String,
    /// The word behind the fence.
    pub language: String,
    pub text: String,
}

/// Something in code font within a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub place: String,
    pub text: String,
}

impl Page {
    pub fn read(path: &'static str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Self { path, text }
    }

    /// All fenced blocks, in order.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for (number, line) in self.text.lines().enumerate() {
            match (line.trim_start().strip_prefix("```"), &mut open) {
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(language), None) => {
                    let place = format!("{}:{}", self.path, number + 1);
                    open = Some(Block { place, language: language.trim().to_owned(), text: String::new() });
                }
                (None, Some(block)) => block.text.extend([line, "\n"]),
                (None, None) => {}
            }
        }
        assert_eq!(open, None, "a block without end");
        blocks
    }

    /// What is between two backticks of a line, outside of fenced blocks.
    pub fn spans(&self) -> Vec<Span> {
        let mut fenced = false;
        let mut spans = Vec::new();
        for (number, line) in self.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                let place = format!("{}:{}", self.path, number + 1);
                let span = |text: &str| Span { place: place.clone(), text: text.to_owned() };
                spans.extend(line.split('`').skip(1).step_by(2).map(span));
            }
        }
        spans
    }
}

impl Block {
    /// Its commands, one a line, without comments and with continued lines joined.
    pub fn commands(&self) -> Vec<String> {
        let joined = self.text.replace("\\\n", " ");
        let words =
            |line: &str| line.split(" #").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        joined.lines().map(words).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
    }
}

#[test]
fn blocks_and_spans_are_found() {
    let text =
        "a `pcc run` b `--x`\n\n```sh\n# why\npcc check \\\n  file # that\n```\n- c\n  ```toml\n  `no` = 1\n  ```\n"
            .to_owned();
    let page = Page { path: "P", text };
    let blocks = page.blocks();
    let seen: Vec<_> = blocks.iter().map(|block| (block.place.as_str(), block.language.as_str())).collect();
    assert_eq!(seen, [("P:3", "sh"), ("P:9", "toml")]);
    assert_eq!(blocks[0].commands(), ["pcc check file"]);
    let spans: Vec<_> = page.spans().into_iter().map(|span| span.text).collect();
    assert_eq!(spans, ["pcc run", "--x"]);
}
