//! Passive health by real connections: what the data path counts, and what is made of it.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use aya::maps::{Map, MapData, PerCpuArray};
use pcc_ebpf::abi::{ABI, Beat, IPV4, IPV6, Pulse, map, pulse_index};
use pcc_userspace::health::passive::Watch;
use tests::lab::address::{PORT, server4, server6};
use tests::lab::settings::READY;
use tests::lab::{Client, Defaults, Lab, PATIENCE, Protocol};

const HOSTS: u64 = 10;

/// What `pcc` has counted of TCP on uplink 1.
fn beat(lab: &Lab, family: u32) -> Beat {
    let pin = format!("/sys/fs/bpf/pcc/{}/{ABI}/{}", lab.instance(), map::PULSE);
    let map = PerCpuArray::<_, Pulse>::try_from(Map::PerCpuArray(MapData::from_pin(pin).unwrap())).unwrap();
    let values = map.get(&pulse_index(1, family), 0).unwrap();
    let sum = |of: fn(&Pulse) -> u64| values.iter().map(of).sum();
    Beat { asked: sum(|pulse| pulse.tcp.asked), answered: sum(|pulse| pulse.tcp.answered) }
}

/// Opens and closes a connection to each server.
fn connect(client: &Client, from: u16, patience: Duration) -> usize {
    let hosts = 1..=HOSTS as u8;
    let flows: Vec<_> = hosts
        .flat_map(|host| [server4(host).into(), server6(host).into()])
        .zip(from..)
        .map(|(to, port)| (port, SocketAddr::new(to, PORT)))
        .collect();
    client.try_many(Protocol::Tcp, &flows, 20, patience).iter().filter(|trial| trial.isp.is_ok()).count()
}

#[test]
fn connections_that_stay_without_answer_make_an_uplink_suspect() {
    let lab = Lab::builder().uplinks(1).defaults(Defaults::All).build();
    let pcc = lab.pcc(&["run", "--wan", "wan1", "--lan", "lan"]);
    pcc.wait_for("ready", READY);
    let all = 2 * HOSTS as usize;
    assert_eq!(connect(lab.client(), 20_000, PATIENCE), all);
    for family in [IPV4, IPV6] {
        assert_eq!(beat(&lab, family), Beat { asked: 0, answered: HOSTS }, "nobody had answered before");
    }
    assert_eq!(connect(lab.client(), 21_000, PATIENCE), all);
    assert_eq!(connect(&lab.router_client(), 24_000, PATIENCE), all, "the router's own");
    for family in [IPV4, IPV6] {
        assert_eq!(beat(&lab, family), Beat { asked: HOSTS, answered: 2 * HOSTS });
    }
    let mut watches = [IPV4, IPV6].map(|family| (family, Watch::new()));
    let mut suspect = |until: Instant| {
        let mut found = [false; 2];
        while Instant::now() < until && found != [true; 2] {
            for (found, (family, watch)) in found.iter_mut().zip(&mut watches) {
                let pulse = Pulse { tcp: beat(&lab, *family), ..Pulse::default() };
                *found |= watch.sample(pulse, Instant::now());
            }
            sleep(Duration::from_millis(100));
        }
        found
    };
    assert_eq!(suspect(Instant::now() + Duration::from_secs(1)), [false; 2]);
    lab.silence(1, true);
    let client = lab.client().clone();
    let asking = std::thread::spawn(move || connect(&client, 22_000, Duration::from_millis(900)));
    // Five times the second that is promised.
    assert_eq!(suspect(Instant::now() + Duration::from_secs(5)), [true; 2]);
    assert_eq!(asking.join().unwrap(), 0);
}
