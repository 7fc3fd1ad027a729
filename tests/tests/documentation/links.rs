//! Links within the documentation lead somewhere.

use std::path::Path;

use crate::PAGES;
use crate::page::Page;

/// What GitHub calls a heading in links.
fn anchor(heading: &str) -> String {
    let kept = |it: &char| it.is_alphanumeric() || [' ', '-', '_'].contains(it);
    heading.to_lowercase().chars().filter(kept).map(|it| if it == ' ' { '-' } else { it }).collect()
}

#[test]
fn headings_have_the_names_of_links() {
    assert_eq!(anchor("nftables and `ip rule` by hand"), "nftables-and-ip-rule-by-hand");
    assert_eq!(anchor("Why did this connection go there?"), "why-did-this-connection-go-there");
}

#[test]
fn every_link_leads_somewhere() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut count = 0;
    for page in PAGES.map(Page::read) {
        let headings =
            page.text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
        let anchors: Vec<String> = headings.map(anchor).collect();
        let folder = workspace.join(page.path).parent().map(Path::to_path_buf).unwrap_or_default();
        for link in page.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let there = match link.strip_prefix('#') {
                Some(name) => anchors.iter().any(|it| it == name),
                None => link.starts_with("https://") || folder.join(link).is_file(),
            };
            assert!(there, "{}: `{link}`", page.path);
            count += 1;
        }
    }
    assert!(count > 20, "{count} links");
}

#[test]
fn every_folder_in_the_text_exists() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for span in PAGES.map(Page::read).iter().flat_map(Page::spans) {
        if ["pcc-userspace/", "pcc-ebpf/", "tests/"].iter().any(|folder| span.text.starts_with(folder)) {
            assert!(workspace.join(&span.text).exists(), "{}: `{}`", span.place, span.text);
        }
    }
}
