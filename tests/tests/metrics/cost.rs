//! What a scrape costs.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aya::maps::{HashMap, Map, MapData};
use pcc_ebpf::abi::{ABI, Flow, FlowKey, map};
use tests::lab::{Defaults, Lab};

use crate::scrape::{OPEN, get};

const FLOWS: u32 = 1 << 20;
/// Measured: 1 ms to 2 ms in a debug build on two cores. 10 ms are promised; five times that for a machine under load.
const LIMIT: Duration = Duration::from_millis(50);

/// Fills the flow cache of the lab's instance; how many entries it has then.
fn fill(lab: &Lab) -> usize {
    let pin = format!("/sys/fs/bpf/pcc/{}/{ABI}/{}", lab.instance(), map::FLOWS);
    let map = Map::LruHashMap(MapData::from_pin(pin).unwrap());
    let mut flows = HashMap::<_, FlowKey, Flow>::try_from(map).unwrap();
    let flow = Flow { mark: 0x81, uplink: 1, generation: 0, confirmed: 1, last_seen: 0 };
    for number in 0..FLOWS {
        let key = FlowKey {
            source: [0, 0, 0xffff_0000_u32.to_be(), number],
            destination: [0, 0, 0xffff_0000_u32.to_be(), 1],
            source_port: 1,
            destination_port: 443,
            protocol: 6,
        };
        flows.insert(key, flow, 0).unwrap();
    }
    flows.keys().filter_map(Result::ok).count()
}

/// The median of `times` scrapes.
fn median(lab: &Lab, address: SocketAddr, times: usize) -> Duration {
    let one = |_| {
        let begun = Instant::now();
        let answer = get(lab.router(), address, "GET", "/metrics", OPEN).unwrap();
        let took = begun.elapsed();
        assert!(answer.status == 200 && answer.body.ends_with("# EOF\n"), "{answer:?}");
        took
    };
    let mut took: Vec<Duration> = (0..times).map(one).collect();
    took.sort_unstable();
    took[times / 2]
}

#[test]
fn a_scrape_costs_the_same_with_a_million_flows() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let address = "127.0.0.1:9199".parse().unwrap();
    let entries = FLOWS.to_string();
    let sizes = ["--flow-entries", &entries, "--shortcut-entries", "64", "--metrics", "127.0.0.1:9199"];
    let pcc = lab.pcc(&[&["run", "--wan", "wan1,wan2", "--lan", "lan"], &sizes[..]].concat());
    pcc.wait_for("ready", Duration::from_secs(30));
    let empty = median(&lab, address, 50);
    let held = fill(&lab);
    assert!(held > 900_000, "{held} entries");
    let full = median(&lab, address, 50);
    println!("a scrape takes {empty:?} with an empty flow cache, {full:?} with {held} flows");
    assert!(full < LIMIT, "{full:?}");
    assert!(full < 2 * empty + Duration::from_millis(5), "{full:?} instead of {empty:?}");
}
