//! Failures that only the traffic itself shows, and traffic that fails for reasons of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread::{sleep, spawn};
use std::time::Duration;

use tests::lab::fresh::assert_first_syn;
use tests::lab::outage::measure;
use tests::lab::{Defaults, Lab, PATIENCE, Protocol, Settings};

const ADDRESSES: u16 = 5_000;
/// How long the scanner waits for an answer; the SYN is not repeated before.
const WAIT: Duration = Duration::from_millis(300);

/// Where nobody is: no ISP answers for it.
fn nobody(number: u16, v6: bool) -> SocketAddr {
    let address: IpAddr = if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0xdead, 0, 0, 0, 0, number).into()
    } else {
        Ipv4Addr::from(0x6440_0000 + u32::from(number)).into()
    };
    SocketAddr::new(address, 443)
}

fn lab() -> Lab {
    Lab::builder().defaults(Defaults::All).build()
}

#[test]
fn a_client_that_scans_dead_addresses_hurts_no_uplink() {
    for tcp in [true, false] {
        let lab = lab();
        let settings = Settings::new(&[(1, ""), (2, "")]);
        let pcc = settings.run(&lab, &[1, 2]);
        let busy = lab.busy_new(30);
        let seen = pcc.lines();
        let client = lab.client().clone();
        let scan = spawn(move || {
            let flows: Vec<_> = (0..ADDRESSES).map(|i| (0, nobody(i, i % 2 == 1))).collect();
            let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
            client.try_many(protocol, &flows, 500, WAIT).iter().filter(|trial| trial.isp.is_ok()).count()
        });
        let mut rounds = 0;
        while !scan.is_finished() || rounds < 20 {
            assert_first_syn(&lab.try_new(20), &[1, 2]);
            rounds += 1;
            sleep(Duration::from_millis(50));
        }
        assert_eq!(scan.join().ok(), Some(0), "nobody answers the scanner");
        sleep(Duration::from_secs(2));
        assert_first_syn(&lab.try_new(20), &[1, 2]);
        let (report, _) = busy.stop();
        assert!(report.faults.is_empty(), "{:?}", report.faults.first());
        let said: Vec<_> = pcc.stderr().lines().skip(seen).map(str::to_owned).collect();
        assert!(said.is_empty(), "nothing happened to an uplink, but: {said:?}");
    }
}

/// Nobody but the scanner is there: the uplinks are judged by its packets alone.
#[test]
fn a_scan_in_an_empty_house_hurts_no_uplink() {
    let lab = lab();
    let settings = Settings::new(&[(1, ""), (2, "")]);
    let pcc = settings.run(&lab, &[1, 2]);
    let seen = pcc.lines();
    let flows: Vec<_> = (0..ADDRESSES).map(|i| (0, nobody(i, i % 2 == 1))).collect();
    lab.client().try_many(Protocol::Tcp, &flows, 500, WAIT);
    assert_first_syn(&lab.try_new(20), &[1, 2]);
    let said: Vec<_> = pcc.stderr().lines().skip(seen).map(str::to_owned).collect();
    assert!(said.is_empty(), "nothing happened to an uplink, but: {said:?}");
}

#[test]
fn an_outage_of_tcp_alone_is_seen_by_the_traffic() {
    const WATCH: Duration = Duration::from_secs(10);
    let lab = lab();
    let settings = Settings::new(&[(1, ""), (2, "")]);
    let pcc = settings.run(&lab, &[1, 2]);
    // The servers used to answer.
    assert_first_syn(&lab.try_new(200), &[1, 2]);
    let outages = measure(&lab, WATCH, Duration::from_millis(20), 61_000, || lab.without_tcp(2, true));
    for outage in outages {
        // Half of them without passive health, a twentieth if it suspends the uplink within a second.
        assert!(outage.failed * 4 < outage.tried, "{} of {} failed", outage.failed, outage.tried);
    }
    assert!(!pcc.stderr().contains("wan2 IPv4: down"), "the traffic alone declares nothing dead");
    lab.without_tcp(2, false);
    assert!(lab.settles(PATIENCE * 12, &[1, 2]), "uplink 2 takes connections again");
}
