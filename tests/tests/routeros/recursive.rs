//! Recursive next hops: an uplink is as dead as the host behind it that is asked.

use std::time::Duration;

use tests::lab::{Defaults, Lab, Protocol, eventually};

use crate::scripts::{Script, flows, inbound, interfaces, isps, nat, pcc, routing};

/// Five times what two lost pings at 300 ms take.
const NOTICED: Duration = Duration::from_secs(5);

/// Check hosts 203.0.113.201 and .202, each reached by its ISP alone; every table falls back to the other ISP.
const RECURSIVE: &str = "\
/routing table add name=to_isp1 fib
/routing table add name=to_isp2 fib
/ip route
add dst-address=203.0.113.201/32 gateway=198.18.1.1 scope=10
add dst-address=203.0.113.202/32 gateway=198.18.2.1 scope=10
add dst-address=203.0.113.201/32 blackhole distance=20
add dst-address=203.0.113.202/32 blackhole distance=20
add gateway=203.0.113.201 target-scope=11 check-gateway=ping distance=1
add gateway=203.0.113.202 target-scope=11 check-gateway=ping distance=2
add gateway=203.0.113.201 target-scope=11 check-gateway=ping routing-table=to_isp1
add gateway=203.0.113.202 target-scope=11 check-gateway=ping routing-table=to_isp1 distance=2
add gateway=203.0.113.202 target-scope=11 check-gateway=ping routing-table=to_isp2
add gateway=203.0.113.201 target-scope=11 check-gateway=ping routing-table=to_isp2 distance=2
";

fn seen(lab: &Lab, from: u16) -> Vec<u32> {
    let mut seen: Vec<u32> = isps(lab, Protocol::Tcp, &flows(from, 60)).into_iter().map(|(_, isp)| isp).collect();
    seen.sort_unstable();
    seen.dedup();
    seen
}

#[test]
fn an_isp_that_is_dead_behind_its_gateway_is_left_and_found_again() {
    let lab = Lab::builder().without_ipv6().defaults(Defaults::None).build();
    let rules = inbound(2) + &pcc("both-addresses", &[1, 2], "connection-mark=no-mark") + &routing(2);
    let script = Script::new(&(interfaces(2) + RECURSIVE + &rules + &nat(2)));
    let pcc = script.run(&lab);
    assert_eq!(seen(&lab, 10_000), [1, 2]);
    let main = |gateway: &str| lab.router().ip("route show table 20597 default").contains(gateway);
    assert!(main("198.18.1.1"));
    // The gateway goes on to answer; what is behind it does not.
    lab.isp(1).namespace().nft(
        "table inet broken {\n chain in {\n  type filter hook prerouting priority -300\n  ip daddr 203.0.113.0/24 drop\n }\n}\n",
    );
    assert!(eventually(NOTICED, || main("198.18.2.1")), "{}", pcc.stderr());
    assert_eq!(seen(&lab, 11_000), [2]);
    assert!(
        lab.isp(1).reaches_router(lab.isp(1).link.router4.into()) || lab.router().ip("neigh").contains("198.18.1.1")
    );
    // Its probes do not leak through the other ISP, where the same host answers.
    std::thread::sleep(Duration::from_secs(2));
    assert!(main("198.18.2.1"), "{}", pcc.stderr());
    lab.isp(1).namespace().nft("delete table inet broken\n");
    assert!(eventually(NOTICED, || main("198.18.1.1")), "{}", pcc.stderr());
    assert_eq!(seen(&lab, 12_000), [1, 2]);
}
