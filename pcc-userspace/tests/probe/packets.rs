//! The sockets under pings and ARP, as RouterOS configurations use them too.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use pcc_userspace::health::probe::Answer;
use pcc_userspace::health::probe::arp::Requester;
use pcc_userspace::health::probe::icmp::Pinger;
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{GATEWAY, GATEWAY6, Lab, NEVER, Namespace, SOON, mark};

fn pinger(lab: &Lab, number: u32, target: IpAddr) -> Pinger {
    let device = format!("wan{number}");
    let index = lab.router.index(&device);
    lab.router.within(|| Pinger::new(Some(&device), index, mark(number), target).unwrap())
}

fn raw_icmp(namespace: &Namespace, device: Option<&'static str>) -> Socket {
    namespace.within(move || {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap();
        socket.bind_device(device.map(str::as_bytes)).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket
    })
}

async fn answer(pinger: &Pinger, wait: Duration) -> Option<Answer> {
    tokio::time::timeout(wait, pinger.receive()).await.ok()
}

/// The link-local address may still be settling, and neighbours unresolved: the first pings may be lost.
async fn first_answer(pinger: &Pinger) -> Answer {
    for sequence in 0..40 {
        let _ = pinger.send(sequence);
        if let Some(answer) = answer(pinger, Duration::from_millis(100)).await {
            return answer;
        }
    }
    panic!("no answer")
}

#[tokio::test]
async fn each_gateway_answers_on_its_own_uplink_only() {
    let lab = Lab::new();
    for gateway in [IpAddr::V4(GATEWAY), GATEWAY6.parse().unwrap()] {
        let [one, two] = [1, 2].map(|number| pinger(&lab, number, gateway));
        assert!(first_answer(&one).await.round_trip < SOON);
        first_answer(&two).await;

        let family = if gateway.is_ipv4() { "net.ipv4.icmp_echo_ignore_all" } else { "net.ipv6.icmp.echo_ignore_all" };
        lab.isps[1].run(&format!("sysctl -qw {family}=1"));
        while answer(&two, NEVER).await.is_some() {}
        for pinger in [&one, &two] {
            pinger.send(1000).unwrap();
        }
        assert_eq!(answer(&two, NEVER).await, None, "{gateway} by wan2 is silent");
        loop {
            let answer = answer(&one, SOON).await.expect("the other uplink works");
            if answer.sequence == 1000 {
                break;
            }
        }
        lab.isps[1].run(&format!("sysctl -qw {family}=0"));
        two.send(1001).unwrap();
        assert_eq!(answer(&two, SOON).await.map(|answer| answer.sequence), Some(1001), "{gateway} is back");
    }
}

#[tokio::test]
async fn an_address_behind_the_gateway_is_reached_without_a_default_route_in_main() {
    let lab = Lab::new();
    let target = Ipv4Addr::new(203, 0, 113, 9);
    lab.isps[0].run(&format!("ip addr del {target}/32 dev lo"));
    first_answer(&pinger(&lab, 2, target.into())).await;
    let one = pinger(&lab, 1, target.into());
    let _ = one.send(1);
    assert_eq!(answer(&one, NEVER).await, None);
}

#[tokio::test]
async fn an_answer_by_another_device_or_from_another_host_is_not_taken() {
    let lab = Lab::new();
    lab.isps[0].run("sysctl -qw net.ipv4.icmp_echo_ignore_all=1");
    let pinger = pinger(&lab, 1, GATEWAY.into());
    let at_wan2 = raw_icmp(&lab.router, Some("wan2"));
    let [first, second] = [0, 1].map(|index| raw_icmp(&lab.isps[index], None));

    pinger.send(7).unwrap();
    let mut reply = receive(&first)[20..].to_vec();
    // Type 8 becomes 0; the checksum of 16-bit words grows by as much as the first word shrinks.
    reply[0] = 0;
    let checksum = u32::from(u16::from_be_bytes([reply[2], reply[3]])) + 0x0800;
    reply[2..4].copy_from_slice(&((checksum & 0xffff) as u16 + (checksum >> 16) as u16).to_be_bytes());
    let to_router = SocketAddr::from((Ipv4Addr::new(198, 18, 0, 2), 0)).into();

    second.send_to(&reply, &to_router).unwrap();
    assert_eq!(receive(&at_wan2)[20..], reply, "it did arrive by wan2");
    assert_eq!(answer(&pinger, NEVER).await, None);

    lab.isps[0].run("ip addr add 198.18.0.77/24 dev lan");
    let other = raw_icmp(&lab.isps[0], None);
    other.bind(&SocketAddr::from((Ipv4Addr::new(198, 18, 0, 77), 0)).into()).unwrap();
    other.send_to(&reply, &to_router).unwrap();
    assert_eq!(answer(&pinger, NEVER).await, None);

    first.send_to(&reply, &to_router).unwrap();
    assert_eq!(answer(&pinger, SOON).await.map(|answer| answer.sequence), Some(7));
}

fn receive(mut socket: &Socket) -> Vec<u8> {
    let mut buffer = [0; 256];
    let length = std::io::Read::read(&mut socket, &mut buffer).unwrap();
    buffer[..length].to_vec()
}

#[tokio::test]
async fn a_vanished_device_loses_probes_and_nothing_else() {
    let lab = Lab::new();
    let four = pinger(&lab, 2, GATEWAY.into());
    let six = pinger(&lab, 2, GATEWAY6.parse().unwrap());
    first_answer(&four).await;
    lab.router.run("ip link set wan2 down");
    for pinger in [&four, &six] {
        let _ = pinger.send(1);
    }
    while answer(&four, NEVER).await.is_some() {}
    lab.router.run("ip link del wan2");
    for pinger in [&four, &six] {
        assert!(pinger.send(2).is_err());
        while answer(pinger, NEVER).await.is_some() {}
    }
    let gone = lab.router.within(|| Pinger::new(Some("wan2"), 1, mark(2), GATEWAY.into()));
    assert!(gone.is_err());
}

#[tokio::test]
async fn a_neighbour_is_asked_by_arp_on_its_own_link_alone() {
    let lab = Lab::new();
    let requester = |number: u32| {
        let index = lab.router.index(&format!("wan{number}"));
        lab.router.within(|| Requester::new(index, GATEWAY).unwrap())
    };
    let (one, two) = (requester(1), requester(2));
    let heard = async |pinger: &Requester, wait| tokio::time::timeout(wait, pinger.receive()).await.ok();
    one.send(7).unwrap();
    assert_eq!(heard(&one, SOON).await.unwrap().sequence, 7);
    assert_eq!(heard(&two, NEVER).await, None, "it asked nothing, though the gateways have the same address");
    lab.isps[1].run("ip addr flush dev lan");
    two.send(1).unwrap();
    one.send(8).unwrap();
    assert_eq!(heard(&one, SOON).await.unwrap().sequence, 8);
    assert_eq!(heard(&two, NEVER).await, None, "nobody has that address any more");
    lab.router.run("ip link set wan1 down");
    assert!(one.send(9).is_err());
    assert_eq!(heard(&one, NEVER).await, None);
    lab.router.run("ip link set wan1 up");
    one.send(10).unwrap();
    assert_eq!(heard(&one, SOON).await.unwrap().sequence, 10);
    lab.router.within(|| assert!(Requester::new(9_999, GATEWAY).is_err()));
}
