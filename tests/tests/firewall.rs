//! A firewall that turns against a live connection stops it, however it turns.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tests::lab::address::{PORT, SERVER4, SERVER6, server4};
use tests::lab::settings::READY;
use tests::lab::{Conversation, Defaults, Lab, PATIENCE, Pcc, Protocol};

/// Where the kernel tells of a change.
const AT_ONCE: Duration = Duration::from_millis(500);
/// Where it does not: the lease of such a firewall, and time to notice.
const LEASE: Duration = Duration::from_millis(2500);
/// How long an exchange waits for its answer.
const ANSWER: Duration = Duration::from_millis(400);
/// How long nothing may pass afterwards.
const SILENCE: Duration = Duration::from_secs(4);

/// The user's firewall: everything of `blocked` is dropped.
const FIREWALL: &str = "table inet fw {
    set blocked4 { type ipv4_addr; }
    set blocked6 { type ipv6_addr; }
    chain forward { type filter hook forward priority 0; policy accept;
        ip daddr @blocked4 drop
        ip6 daddr @blocked6 drop
    }
}";

struct Scene {
    lab: Lab,
    pcc: Pcc,
}

impl Scene {
    fn new(firewall: &str) -> Self {
        let lab = Lab::builder().defaults(Defaults::All).build();
        lab.router().nft(firewall);
        let pcc = lab.pcc(&["run", "--wan", &lab.wans(), "--lan", lab.lans(), "--fast-path", "tc"]);
        pcc.wait_for("shortcuts last", READY);
        Self { lab, pcc }
    }

    /// A connection that takes the shortcut.
    fn connection(&self, protocol: Protocol, server: IpAddr) -> Conversation {
        let mut opened = self.lab.client().open_many(protocol, &[(0, SocketAddr::new(server, PORT))], 1, PATIENCE);
        let mut conversation = opened.remove(0).unwrap();
        conversation.patience = ANSWER;
        self.assert_short(&mut conversation);
        conversation
    }

    fn assert_short(&self, conversation: &mut Conversation) {
        let before = self.lab.shortcuts_taken().0;
        for _ in 0..20 {
            conversation.exchange(&[1; 100]).unwrap();
        }
        let taken = self.lab.shortcuts_taken().0 - before;
        assert!(taken > 25, "{taken} packets of 40 took the shortcut");
    }
}

/// Exchanges until one fails, for `patience` at most; asserts that it ends within `bound` and that nothing passes any more.
fn assert_stops(conversation: &mut Conversation, patience: Duration, bound: Duration) {
    let (began, mut passed) = (Instant::now(), Duration::ZERO);
    while conversation.exchange(&[2; 100]).is_ok() {
        passed = began.elapsed();
        assert!(passed < patience, "it still passes");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(passed < bound, "the last exchange ended {passed:?} after the change");
    let began = Instant::now();
    while began.elapsed() < SILENCE {
        assert!(conversation.exchange(&[3; 100]).is_err(), "it passes again after {:?}", began.elapsed());
    }
}

fn both() -> [(IpAddr, &'static str, &'static str); 2] {
    [(SERVER4.into(), "ip", "4"), (SERVER6.into(), "ip6", "6")]
}

#[test]
fn a_new_rule() {
    let scene = Scene::new(FIREWALL);
    for (server, family, _) in both() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut conversation = scene.connection(protocol, server);
            let port = conversation.local.port();
            scene.lab.router().nft(&format!("add rule inet fw forward {family} daddr {server} th sport {port} drop"));
            assert_stops(&mut conversation, LEASE, AT_ONCE);
        }
    }
}

#[test]
fn a_rule_against_answers() {
    let scene = Scene::new(FIREWALL);
    let mut conversation = scene.connection(Protocol::Udp, SERVER4.into());
    scene.lab.router().nft(&format!("insert rule inet fw forward ip saddr {SERVER4} drop"));
    assert_stops(&mut conversation, LEASE, AT_ONCE);
}

#[test]
fn a_new_table() {
    let scene = Scene::new("");
    let mut conversation = scene.connection(Protocol::Udp, SERVER4.into());
    scene
        .lab
        .router()
        .nft("table ip other {\n chain any {\n type filter hook postrouting priority 5; policy drop;\n}\n}");
    assert_stops(&mut conversation, LEASE, AT_ONCE);
}

#[test]
fn an_element_by_hand() {
    let scene = Scene::new(FIREWALL);
    for (server, _, digit) in both() {
        let mut conversation = scene.connection(Protocol::Udp, server);
        scene.lab.router().nft(&format!("add element inet fw blocked{digit} {{ {server} }}"));
        assert_stops(&mut conversation, LEASE, AT_ONCE);
    }
}

/// Whoever asks server 66 is shut out: no event tells of what packets add.
#[test]
fn an_element_by_a_packet() {
    let scene = Scene::new(
        "table inet fw {
            set shut { type ipv4_addr; flags dynamic, timeout; timeout 1h; }
            chain forward { type filter hook forward priority 0; policy accept;
                ip daddr 203.0.113.66 add @shut { ip saddr }
                ip saddr @shut drop
            }
        }",
    );
    let mut conversation = scene.connection(Protocol::Udp, SERVER4.into());
    let _ = scene.lab.client().udp_ask(None, SocketAddr::new(server4(66).into(), PORT), ANSWER);
    assert_stops(&mut conversation, 2 * LEASE, LEASE);
}

#[test]
fn a_timeout_that_expires() {
    const TIME: Duration = Duration::from_secs(5);
    let scene = Scene::new(
        "table inet fw {
            set guests { type ipv4_addr; flags timeout; elements = { 203.0.113.9 timeout 5s } }
            chain forward { type filter hook forward priority 0; policy accept;
                ip daddr 203.0.113.0/24 ip daddr != @guests drop
            }
        }",
    );
    let began = Instant::now();
    let mut conversation = scene.connection(Protocol::Udp, SERVER4.into());
    assert_stops(&mut conversation, 2 * TIME, (TIME + LEASE).saturating_sub(began.elapsed()));
}

/// It must see every packet, so there are no shortcuts while it stands.
#[test]
fn a_quota_that_is_used_up() {
    let scene = Scene::new("");
    let mut conversation = scene.connection(Protocol::Udp, SERVER4.into());
    let seen = scene.pcc.lines();
    // About 60 exchanges of 128 bytes.
    scene.lab.router().nft(
        "table inet fw {
            chain forward { type filter hook forward priority 0; policy accept;
                ip daddr 203.0.113.9 udp dport 7 quota over 7680 bytes drop
            }
        }",
    );
    scene.pcc.wait_for_after(seen, "a `quota`, which must see every packet", READY);
    let before = scene.lab.shortcuts_taken();
    for number in 0..40 {
        assert!(conversation.exchange(&[2; 100]).is_ok(), "exchange {number}");
    }
    assert_stops(&mut conversation, 2 * LEASE, LEASE);
    assert_eq!(scene.lab.shortcuts_taken(), before);
    scene.lab.router().nft("delete table inet fw");
    let deadline = Instant::now() + READY;
    while scene.lab.shortcuts_taken() == before {
        assert!(Instant::now() < deadline, "there are no shortcuts again");
        let _ = conversation.exchange(&[1; 100]);
    }
    scene.assert_short(&mut conversation);
}

/// Its rules are changed without an event.
#[test]
fn a_rule_of_iptables_legacy() {
    let scene = Scene::new("");
    let rule = |args: &str| scene.lab.router().exec("iptables-legacy", args.split(' '));
    rule("-A FORWARD -d 203.0.113.77 -j DROP");
    std::thread::sleep(Duration::from_secs(2));
    let mut conversation = scene.connection(Protocol::Udp, SERVER4.into());
    rule("-A FORWARD -d 203.0.113.9 -j DROP");
    assert_stops(&mut conversation, 2 * LEASE, LEASE);
}

/// The first legacy table appears while the lease is still the long one.
#[test]
fn a_first_rule_of_iptables_legacy() {
    let scene = Scene::new("");
    let mut conversation = scene.connection(Protocol::Udp, SERVER4.into());
    scene.lab.router().exec("iptables-legacy", "-A FORWARD -d 203.0.113.9 -j DROP".split(' '));
    assert_stops(&mut conversation, 2 * LEASE, LEASE);
}

/// An entry that an administrator deletes: the next packet begins a connection, which this firewall does not let.
#[test]
fn a_deleted_connection() {
    let scene = Scene::new("");
    for (server, _, _) in both() {
        let mut conversation = scene.connection(Protocol::Udp, server);
        let port = conversation.local.port().to_string();
        scene.lab.router().nft(&format!(
            "table inet fw {{
                chain forward {{ type filter hook forward priority 0; policy accept;
                    udp sport {port} ct state new drop
                }}
            }}"
        ));
        scene.assert_short(&mut conversation);
        let family = if server.is_ipv4() { "ipv4" } else { "ipv6" };
        scene.lab.router().exec("conntrack", ["-D", "-f", family, "-p", "udp", "--sport", &port]);
        assert_stops(&mut conversation, LEASE, AT_ONCE);
    }
}
