//! Connections that conntrack holds without anybody having made them.

use std::fs;
use std::ops::Range;

use super::Namespace;

/// Adds answered UDP connections to conntrack in `namespace`, numbers `numbers` of them, with this mark. Each has an address of
/// 10.0.0.0/8 to itself.
///
/// # Panics
/// When the table is full, or holds one of them.
pub fn track(namespace: &Namespace, numbers: Range<usize>, mark: u32) {
    let line = |number: usize| {
        let (a, b, c) = (number >> 16 & 0xff, number >> 8 & 0xff, number & 0xff);
        format!(
            "-A -s 10.{a}.{b}.{c} -d 203.0.113.9 -r 203.0.113.9 -q 10.{a}.{b}.{c} -p udp --sport 1000 --dport 53 \
             --reply-port-src 53 --reply-port-dst 1000 -t 600 -u SEEN_REPLY -m {mark}\n"
        )
    };
    let file = tempfile::NamedTempFile::new().unwrap_or_else(|error| panic!("a file: {error}"));
    fs::write(file.path(), numbers.map(line).collect::<String>()).unwrap_or_else(|error| panic!("writing: {error}"));
    namespace.exec("conntrack", ["-R", &file.path().display().to_string()]);
}
