//! The routes and rules of a script in the kernel, in a network namespace of its own. Needs root.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::process::Command;

use namespace::{Namespace, sh};
use pcc_userspace::host::linux::Linux;
use pcc_userspace::host::{Host, Observed};
use pcc_userspace::mirror::routes::{Inputs, Routing, active, compile, rules};
use pcc_userspace::plan::{clear_routing, reconcile};
use pcc_userspace::routeros::dialect::Dialect;
use pcc_userspace::routeros::model::Model;
use pcc_userspace::routeros::read;

mod namespace;

const BASE: u32 = 20_500;
const PRIORITY: u32 = 32_500;

const SCRIPT: &str = "/routing table
add name=one fib
add name=two fib
/ip route
add dst-address=192.0.2.1/32 gateway=198.18.1.1 scope=10
add dst-address=192.0.2.1/32 blackhole distance=20
add dst-address=192.0.2.2/32 gateway=ether2 scope=10
add dst-address=192.0.2.3/32 gateway=198.18.2.1 pref-src=198.18.2.2
add gateway=192.0.2.1 target-scope=11 check-gateway=ping routing-table=one
add gateway=192.0.2.2 target-scope=11 check-gateway=ping routing-table=one distance=2
add gateway=192.0.2.2,192.0.2.1,192.0.2.1 target-scope=11 check-gateway=ping routing-table=two
add gateway=100.64.0.1%ether1
add blackhole distance=200
/ipv6 route
add gateway=2001:db8:1::1 routing-table=one check-gateway=ping
add gateway=2001:db8:1::1,2001:db8:2::1 routing-table=two check-gateway=ping
add gateway=fe80::1%ether2
/routing rule
add src-address=192.0.2.128/25 interface=ether1 action=lookup-only-in-table table=two
add dst-address=2001:db8:ff::/48 action=unreachable
add routing-mark=one action=drop
";

fn routing(observed: &Observed) -> Routing {
    let model = Model::build(&read(SCRIPT.as_bytes())).model;
    let devices = [("ether1", "wan1"), ("ether2", "wan2")].map(|(from, to)| (from.to_owned(), to.to_owned())).into();
    let tables = BTreeMap::from([("one".to_owned(), 1), ("two".to_owned(), 2)]);
    let inputs = Inputs {
        model: &model,
        dialect: Dialect::V7,
        devices: &devices,
        tables: &tables,
        table_base: BASE,
        check_interval: None,
        observed,
    };
    let (routing, _) = compile(&inputs);
    routing
}

/// Makes the kernel's routes those for this health and looks whether they are.
fn settle(host: &mut Linux, routing: &Routing, down: &[&str]) {
    let rules = rules(routing, PRIORITY, &|id| (0x8000_0000 | id, 0x8000_000f));
    let observed = host.observe().unwrap();
    let routes = active(routing, &observed, &|key| down.contains(&key.to_string().as_str()));
    for change in reconcile(&routes, &rules, BASE, PRIORITY, &observed) {
        host.apply(&change).unwrap();
    }
    let observed = host.observe().unwrap();
    assert_eq!(reconcile(&routes, &rules, BASE, PRIORITY, &observed), Vec::new(), "{down:?}");
}

/// Device by which a packet leaves, or why it does not.
fn leaves(packet: &str) -> String {
    let output = Command::new("sh").args(["-c", &format!("ip route get {packet} 2>&1")]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words = text.split_whitespace();
    match words.find(|word| *word == "dev") {
        Some(_) => words.next().unwrap_or_default().to_owned(),
        None => text.trim().to_owned(),
    }
}

#[test]
fn the_kernel_forwards_as_the_script_says() {
    let thread = std::thread::spawn(|| {
        let _namespace = Namespace::enter("mirror");
        let mut host = Linux::open().unwrap();
        let before = host.observe().unwrap();
        let routing = routing(&before);
        let (one, two) = ("203.0.113.9 mark 0x80000001", "203.0.113.9 mark 0x80000002");
        let states: [&[&str]; 6] = [
            &[],
            &["gateway 192.0.2.1"],
            &["gateway 192.0.2.1", "gateway 192.0.2.2", "gateway 2001:db8:1::1"],
            &["gateway 192.0.2.2", "gateway 2001:db8:2::1"],
            &["gateway 2001:db8:1::1", "gateway 2001:db8:2::1"],
            &[],
        ];
        for down in states {
            settle(&mut host, &routing, down);
        }
        assert_eq!((leaves("203.0.113.9"), leaves(one)), ("wan1".into(), "wan1".into()));
        assert_eq!(leaves("192.0.2.2"), "wan2");
        assert_eq!((leaves("198.18.2.9"), leaves("198.18.2.9 mark 0x80000001")), ("wan2".into(), "wan2".into()));
        assert_eq!(leaves("2001:db8:77::1 mark 0x80000001"), "wan1");
        assert_eq!(leaves("2001:db8:77::1"), "wan2");
        assert!(leaves("2001:db8:ff::1").contains("unreachable"), "{}", leaves("2001:db8:ff::1"));
        settle(&mut host, &routing, &["gateway 192.0.2.1"]);
        assert_eq!((leaves(one), leaves(two)), ("wan2".into(), "wan2".into()));
        settle(&mut host, &routing, &["gateway 192.0.2.1", "gateway 192.0.2.2"]);
        assert!(leaves(one).contains("Invalid argument"), "a rule of the script drops it: {}", leaves(one));
        assert_eq!(leaves(two), "wan1", "the table is empty, main decides");
        sh("ip link set isp1 down");
        settle(&mut host, &routing, &[]);
        assert_eq!((leaves(one), leaves(two)), ("wan2".into(), "wan2".into()));
        assert!(leaves("192.0.2.1").contains("Invalid argument"), "the guard: {}", leaves("192.0.2.1"));
        sh("ip link set isp1 up");
        let observed = host.observe().unwrap();
        for change in clear_routing(BASE, PRIORITY, &observed) {
            host.apply(&change).unwrap();
        }
        let after = host.observe().unwrap();
        assert_eq!((after.rules, after.routes.iter().any(|route| route.protocol == 205)), (before.rules, false));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
