//! Each finding, on a correct configuration with one mistake put in, and on whole configurations.

use proptest::prelude::*;

use super::mistakes::MISTAKES;
use crate::routeros::Severity::{self, Error, Info, Warning};
use crate::routeros::check::{Report, check};
use crate::routeros::dialect::Dialect;

const GOOD: &str = include_str!("../../../examples/dual-wan.rsc");

/// The correct configuration with `old` replaced.
fn edited(edits: &[(&str, &str)]) -> String {
    let mut text = GOOD.to_owned();
    for (old, new) in edits {
        assert!(text.contains(old), "`{old}` is not in the example");
        text = text.replace(old, new);
    }
    text
}

/// Id, severity and text of the line of every finding that is not information.
fn faults(text: &str, dialect: Option<Dialect>) -> Vec<(&'static str, Severity, String)> {
    let Report { notes, .. } = check(text.as_bytes(), dialect);
    let lines: Vec<_> = text.lines().collect();
    let notes = notes.into_iter().filter(|note| note.severity > Info);
    notes.map(|note| (note.id, note.severity, lines[note.span.line as usize - 1].to_owned())).collect()
}

#[test]
fn the_example_has_no_faults() {
    assert_eq!(faults(GOOD, None), []);
}

#[test]
fn each_mistake_is_found_at_its_line() {
    for mistake in MISTAKES {
        let text = format!("{}\n{}\n", edited(mistake.edits), mistake.added);
        let found = faults(&text, None);
        let hit = found.iter().any(|(id, severity, line)| {
            (*id, *severity) == (mistake.id, mistake.severity) && line.contains(mistake.at)
        });
        assert!(hit, "{} at `{}` after {:?} {:?}: {found:#?}", mistake.id, mistake.at, mistake.edits, mistake.added);
    }
}

/// Sound variants of the example, which must stay without faults.
#[test]
fn sound_variants_have_no_faults() {
    let variants: &[(&[(&str, &str)], &str)] = &[
        (
            &[],
            "/ip firewall mangle\nadd chain=postrouting connection-mark=by-fibre action=mark-connection new-connection-mark=by-cable\n\
             add chain=postrouting connection-mark=no-mark action=mark-connection new-connection-mark=by-cable",
        ),
        (&[], "/ip firewall filter add chain=forward action=fasttrack-connection connection-mark=no-mark"),
        (&[("both-addresses:2/0", "both-addresses:4/0"), ("both-addresses:2/1", "!both-addresses:4/0")], ""),
        (
            &[(
                "in-interface=lan connection-mark=no-mark",
                "in-interface=lan connection-mark=no-mark connection-state=new",
            )],
            "",
        ),
        (
            &[],
            "/interface list add name=LAN\n/interface list member add list=LAN interface=lan\n/ip firewall mangle add chain=forward in-interface-list=LAN action=log",
        ),
        (
            &[],
            "/ip firewall mangle add chain=forward protocol=tcp tcp-flags=syn tcp-mss=1441-65535 action=change-mss new-mss=1440",
        ),
        (
            &[],
            "/ip firewall nat\nadd chain=srcnat src-address=192.0.2.0/24 dst-address=192.0.2.0/24 action=masquerade\nadd chain=dstnat dst-address=198.18.1.2 protocol=tcp dst-port=80 action=dst-nat to-addresses=192.0.2.5",
        ),
        (&[], "/ip firewall nat remove [find comment=old]"),
        (&[], "/ip settings set rp-filter=loose"),
        (
            &[],
            "/ip route add dst-address=203.0.113.9/32 gateway=198.18.1.1\n/tool netwatch add host=203.0.113.9 down-script=\"/ip route disable [find comment=fibre]\"",
        ),
        (
            &[
                ("masquerade", "masquerade ipsec-policy=out,none"),
                (
                    "/ip firewall mangle",
                    "/ip firewall mangle add chain=prerouting dst-address=10.99.0.0/24 action=accept\n/ip firewall mangle",
                ),
            ],
            "/ip ipsec policy add dst-address=10.99.0.0/24 src-address=192.0.2.0/24 tunnel=yes",
        ),
        (
            &[(
                "add gateway=198.18.1.1 check-gateway=ping routing-table",
                "add gateway=198.18.1.1%fibre check-gateway=ping routing-table",
            )],
            "",
        ),
    ];
    for (edits, added) in variants {
        assert_eq!(faults(&format!("{}\n{added}\n", edited(edits)), None), [], "{edits:?} {added:?}");
    }
}

/// What is good to know is said about a balancing router only, and once.
#[test]
fn information_is_given_where_it_applies() {
    let infos = |text: &str| -> Vec<_> {
        let notes = check(text.as_bytes(), None).notes.into_iter();
        notes.filter(|note| note.severity == Info && note.id.starts_with("lint")).map(|note| note.id).collect()
    };
    assert_eq!(infos(GOOD), ["lint-7.13", "lint-7.27", "lint-7.3", "lint-7.12"]);
    let no_backup = edited(&[("distance=2 routing-table=to-fibre", "disabled=yes distance=2 routing-table=to-fibre")]);
    assert!(infos(&no_backup).contains(&"lint-7.23"));
    let plain = edited(&[(
        "per-connection-classifier=both-addresses:",
        "disabled=yes per-connection-classifier=both-addresses:",
    )]);
    assert_eq!(infos(&plain), [""; 0]);
}

/// v6 watches an address for all routes through it; v7 does not.
#[test]
fn a_check_on_main_alone_serves_v6_only() {
    let old = [
        ("check-gateway=ping routing-table", "routing-table"),
        ("check-gateway=ping distance=2 routing-table", "distance=2 routing-table"),
    ];
    let v7 = edited(&old);
    assert!(faults(&v7, None).iter().any(|(id, severity, _)| (*id, *severity) == ("lint-7.4", Error)));
    let v6 = v7
        .replace("routing-table", "routing-mark")
        .replace("/routing table\nadd name=to-fibre fib\nadd name=to-cable fib\n", "")
        .replace("/routing settings\nset check-gateway-ping-interval=500ms check-gateway-ping-timeout=500ms\n", "");
    assert_eq!(faults(&v6, None), []);
    let infos = check(v6.as_bytes(), None).notes;
    assert!(infos.iter().any(|note| note.id == "lint-7.4" && note.severity == Info));
}

/// The router reaches the marked packet's table before its own addresses in v7, and only its answers go astray in v6.
#[test]
fn packets_to_the_router_go_astray_in_both_dialects() {
    let unguarded =
        edited(&[("dst-address-type=!local", ""), ("dst-address-list=connected", "dst-address=198.18.1.0/24")]);
    for dialect in [Dialect::V6, Dialect::V7] {
        let found = faults(&unguarded, Some(dialect));
        assert!(found.iter().any(|(id, ..)| *id == "lint-7.9"), "{dialect}: {found:?}");
    }
}

#[test]
fn a_gateway_behind_a_narrow_target_scope_is_found() {
    let route = "/ip route\nadd dst-address=203.0.113.1/32 gateway=198.18.1.1 scope=10\n\
                 add gateway=203.0.113.1 check-gateway=ping distance=9";
    let text = format!("{GOOD}\n{route} target-scope=10\n");
    assert!(faults(&text, None).iter().any(|(id, _, line)| *id == "lint-7.4" && line.contains("target-scope=10")));
    assert_eq!(faults(&format!("{GOOD}\n{route} target-scope=11\n"), None), []);
}

/// Whole configurations. A line `# want ID …` says what must be found on the next line, and nothing else may be.
#[test]
fn whole_configurations_have_exactly_the_wanted_faults() {
    let texts = [
        ("lint-minimal", include_str!("../fixtures/lint-minimal.rsc")),
        ("lint-pppoe", include_str!("../fixtures/lint-pppoe.rsc")),
        ("lint-recursive", include_str!("../fixtures/lint-recursive.rsc")),
        ("lint-official", include_str!("../fixtures/lint-official.rsc")),
        ("lint-weighted", include_str!("../fixtures/lint-weighted.rsc")),
        ("lint-terse", include_str!("../fixtures/lint-terse.rsc")),
        ("lint-best", include_str!("../fixtures/lint-best.rsc")),
    ];
    for (name, text) in texts {
        let mut wanted: Vec<(u32, String)> = Vec::new();
        for (line, number) in text.lines().zip(2_u32..) {
            let ids = line.trim().strip_prefix("# want ").into_iter().flat_map(str::split_whitespace);
            wanted.extend(ids.map(|id| (number, id.to_owned())));
        }
        let notes = check(text.as_bytes(), None).notes.into_iter().filter(|note| note.severity >= Warning);
        let mut found: Vec<_> = notes.map(|note| (note.span.line, note.id.to_owned())).collect();
        wanted.sort();
        found.sort();
        found.dedup();
        assert_eq!(found, wanted, "{name}");
    }
}

/// Rules that jump to each other and thousands of items end soon.
#[test]
fn hostile_configurations_end() {
    let mut text = String::from("/ip firewall mangle\n");
    for number in 0..200 {
        text.push_str(&format!("add chain=a{} action=jump jump-target=a{}\n", number % 5, (number + 1) % 5));
        text.push_str("add chain=prerouting action=jump jump-target=a0\n");
    }
    for remainder in 0..300 {
        text.push_str(&format!(
            "add chain=prerouting in-interface=l per-connection-classifier=src-address:{}/{remainder} action=mark-connection \
             new-connection-mark=m{remainder}\n",
            4_294_967_295_u32 - remainder
        ));
    }
    text.push_str("/ip address\n");
    for number in 0..300 {
        text.push_str(&format!("add address=10.{}.{}.1/24 interface=i{number}\n", number / 250, number % 250));
    }
    let start = std::time::Instant::now();
    check(text.as_bytes(), None);
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

fn line() -> impl Strategy<Value = String> {
    let lines: Vec<&'static str> = GOOD.lines().collect();
    prop_oneof![
        4 => proptest::sample::select(lines).prop_map(str::to_owned),
        1 => "\\PC{0,40}",
        1 => "/(ip|ipv6) (route|firewall mangle|address) (add|set|remove|move) [a-z=0-9./:! -]{0,60}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,400}") {
        check(text.as_bytes(), None);
    }

    #[test]
    fn shuffled_configurations_never_panic(lines in proptest::collection::vec(line(), 0..40), old in any::<bool>()) {
        let report = check(lines.join("\n").as_bytes(), old.then_some(Dialect::V6));
        prop_assert!(report.counts.understood + report.counts.noted == report.counts.total);
        prop_assert_eq!(report.worst, report.notes.iter().map(|note| note.severity).max());
    }
}
