//! The documentation is true as far as a machine can tell: each command block is run on a router, each configuration is
//! checked, each command in the text is one that exists.

mod links;
mod page;
mod router;
mod words;

use std::fs;
use std::path::Path;

use page::{Block, Page};
use router::Router;

/// All pages.
const PAGES: [&str; 2] = ["README.md", "pcc-userspace/docs/migration.md"];

/// Blocks that something else runs, or cannot be run here.
const ELSEWHERE: [Elsewhere; 3] = [
    Elsewhere {
        first: "cargo xtask lab",
        why: "takes a minute; `cargo xtask vm`, which the tests end with, runs the same on another kernel",
        by: "xtask/src/vm.rs",
        says: "part lab --slow",
    },
    Elsewhere {
        first: "cargo xtask test",
        why: "is what runs this test",
        by: "xtask/src/main.rs",
        says: "test::test(",
    },
    Elsewhere {
        first: "systemctl enable --now pcc",
        why: "needs a booted systemd; `cargo xtask package --test` boots one",
        by: "xtask/src/package/life.bash",
        says: "systemctl enable --quiet --now pcc",
    },
];

#[derive(Debug)]
struct Elsewhere {
    /// The first command of the block.
    first: &'static str,
    why: &'static str,
    /// The file that does it, and what it says there.
    by: &'static str,
    says: &'static str,
}

fn elsewhere(block: &Block) -> Option<&'static Elsewhere> {
    let first = block.commands().into_iter().next()?;
    ELSEWHERE.iter().find(|it| block.language == "sh" && it.first == first)
}

#[test]
fn readme_does_what_it_says() {
    follow(PAGES[0]);
}

#[test]
fn the_page_for_those_who_come_from_elsewhere_does_what_it_says() {
    follow(PAGES[1]);
}

#[test]
fn hardly_any_block_is_left_out() {
    let blocks: Vec<Block> = PAGES.into_iter().flat_map(|page| Page::read(page).blocks()).collect();
    let commands: Vec<&Block> = blocks.iter().filter(|block| block.language != "text").collect();
    let left_out = commands.iter().filter(|block| elsewhere(block).is_some()).count();
    assert!(left_out * 10 <= commands.len(), "{left_out} of {}", commands.len());
    for Elsewhere { first, why, by, says } in &ELSEWHERE {
        assert!(commands.iter().any(|block| block.commands()[0] == *first), "no block begins with `{first}`");
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(by)).unwrap();
        assert!(text.contains(says), "`{first}` {why}, but {by} does not say `{says}`");
    }
}

/// Runs a page on a router of its own, from top to bottom.
fn follow(page: &'static str) {
    let router = Router::new();
    router.write("/etc/pcc/pcc.toml", &format!("{LANS}{UPLINKS}"));
    for block in Page::read(page).blocks() {
        match block.language.as_str() {
            "sh" if elsewhere(&block).is_some() => {}
            "sh" => run(&router, &block),
            "toml" => check_configuration(&router, &block),
            "yaml" => check_prometheus(&router, &block),
            // Pictures and output.
            "text" => {}
            other => panic!("{}: nobody tries a block of `{other}`", block.place),
        }
    }
}

/// Runs the commands of a block. `pcc run` at its end is started and interrupted; for commands that ask a controller there is one.
fn run(router: &Router, block: &Block) {
    let mut commands: Vec<String> =
        block.commands().iter().map(|line| line.replace("cargo xtask run", "pcc run")).collect();
    let last = commands.pop_if(|command| command.starts_with("pcc run"));
    assert!(!commands.iter().any(|command| command.starts_with("pcc run")), "{}: `run` does not end", block.place);
    let controller = commands
        .iter()
        .any(|command| words::asks(command))
        .then(|| router.start(&in_mode("pcc run --config /etc/pcc/pcc.toml")));
    if !commands.is_empty() {
        router.succeed(&block.place, &commands.join("\n"));
    }
    if let Some(controller) = controller {
        controller.stop();
    }
    if let Some(command) = last {
        router.start(&in_mode(&command)).stop();
    }
}

/// RouterOS configurations have no fast path.
fn in_mode(command: &str) -> String {
    let mode = std::env::var("PCC_FAST_PATH").ok().filter(|mode| !mode.is_empty() && !command.contains("router."));
    mode.map_or_else(|| command.to_owned(), |mode| format!("{command} --fast-path={mode}"))
}

const LANS: &str = "lan = [\"eth2\", \"br-guest\"]\n";
const UPLINKS: &str =
    "\n[[uplink]]\ndevice = \"eth0\"\nname = \"fibre\"\n[[uplink]]\ndevice = \"eth1\"\nname = \"cable\"\n";

/// Lets pcc check a configuration, with devices if it has none. A whole one is that of the commands that follow.
fn check_configuration(router: &Router, block: &Block) {
    let whole = block.text.contains("[[uplink]]");
    let path = if whole { "/etc/pcc/pcc.toml" } else { "part.toml" };
    let text = if whole { block.text.clone() } else { format!("{LANS}{}{UPLINKS}", block.text) };
    router.write(path, &text);
    router.succeed(&block.place, &format!("pcc check --config {path}"));
}

fn check_prometheus(router: &Router, block: &Block) {
    router.write("prometheus.yml", &block.text);
    router.succeed(&block.place, "cp pcc-userspace/dist/*.yml .; promtool check config prometheus.yml");
}
