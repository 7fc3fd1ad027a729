//! Connections that live take the shortcut, and nobody outside can tell.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tests::lab::address::{PORT, SERVER4, SERVER6};
use tests::lab::{Defaults, Lab, PATIENCE, Pcc, Protocol};

const READY: Duration = Duration::from_secs(60);

fn run(lab: &Lab, mode: &str) -> Pcc {
    let pcc = lab.pcc(&["run", "--wan", &lab.wans(), "--lan", lab.lans(), "--fast-path", mode]);
    pcc.wait_for("shortcuts last", READY);
    pcc
}

#[test]
fn connections_that_live_take_the_shortcut_and_stay_where_they_are() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let _pcc = run(&lab, "tc");
    exchange(&lab, |lab| lab.shortcuts_taken().0);
}

#[test]
fn in_xdp_too() {
    let lab = Lab::builder().defaults(Defaults::All).whole_frames().build();
    let _pcc = run(&lab, "xdp");
    exchange(&lab, |lab| lab.shortcuts_taken().1);
}

fn exchange(lab: &Lab, taken: impl Fn(&Lab) -> u64) {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for server in [IpAddr::from(SERVER4), SERVER6.into()] {
            let before = taken(lab);
            let remote = SocketAddr::new(server, PORT);
            let mut conversations = lab.client().open_many(protocol, &[(23_456, remote)], 1, PATIENCE);
            let mut conversation = conversations.remove(0).unwrap();
            for _ in 0..50 {
                conversation.exchange(&[7; 500]).unwrap();
            }
            let taken = taken(lab) - before;
            assert!(taken >= 80, "{protocol:?} {server}: {taken}");
        }
    }
}
