//! The router's own connections: they follow main while its uplink takes connections, the others when it does not, and the
//! buckets where they are balanced.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tests::lab::address::{PORT, server4, server6};
use tests::lab::settings::READY;
use tests::lab::{Defaults, HostState, Lab, Pcc, eventually};

const SOON: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(2);

/// How a socket asks a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Tcp,
    Connected,
    Unconnected,
}

const ALL: [How; 3] = [How::Tcp, How::Connected, How::Unconnected];

/// What a socket is bound to.
#[derive(Clone, Copy, Debug)]
enum Bound {
    Nothing,
    Address(u32),
    Device(u32),
}

/// Who answered, as whom it saw us, and who we think we are.
#[derive(Clone, Debug)]
struct Answer {
    isp: u32,
    seen_as: IpAddr,
    local: IpAddr,
}

fn run(lab: &Lab, more: &[&str]) -> Pcc {
    let wans = lab.wans();
    let mut args = vec!["run", "--wan", &wans, "--lan", lab.lans(), "--hash", "both-addresses-and-ports"];
    args.extend(more);
    let pcc = lab.pcc(&args);
    pcc.wait_for("ready", READY);
    for isp in lab.isps() {
        for family in ["IPv4", "IPv6"] {
            pcc.wait_for(&format!("uplink {} {family}: up", isp.device), READY);
        }
    }
    pcc
}

fn servers(host: u8) -> [IpAddr; 2] {
    [server4(host).into(), server6(host).into()]
}

/// Asks server `to` from the router.
fn ask(lab: &Lab, how: How, bound: Bound, to: IpAddr) -> io::Result<Answer> {
    lab.router().run(|| {
        let to = SocketAddr::new(to, PORT);
        let kind = if how == How::Tcp { Type::STREAM } else { Type::DGRAM };
        let socket = Socket::new(Domain::for_address(to), kind, None)?;
        match bound {
            Bound::Nothing => {}
            Bound::Address(number) => {
                socket.bind(&SocketAddr::new(lab.isp(number).link.router(to.ip()), 0).into())?;
            }
            Bound::Device(number) => socket.bind_device(Some(lab.isp(number).device.as_bytes()))?,
        }
        socket.set_read_timeout(Some(PATIENCE))?;
        let to: SockAddr = to.into();
        match how {
            How::Tcp => socket.connect_timeout(&to, PATIENCE)?,
            How::Connected => {
                socket.connect(&to)?;
                socket.send(b"?")?;
            }
            How::Unconnected => {
                socket.send_to(b"?", &to)?;
            }
        }
        let mut text = [0; 200];
        let length = (&socket).read(&mut text)?;
        let text = String::from_utf8_lossy(&text[..length]).into_owned();
        let mut words = text.split_whitespace();
        let mut word = || words.next().unwrap_or_else(|| panic!("`{text}` is no greeting")).to_owned();
        Ok(Answer {
            isp: word().strip_prefix("isp").unwrap().parse().unwrap(),
            seen_as: word().parse().unwrap(),
            local: socket.local_addr()?.as_socket().unwrap().ip(),
        })
    })
}

/// Every kind of socket, in both families and to several servers, is answered by one of `isps` that sees its own
/// uplink's address.
fn assert_goes_by(lab: &Lab, bound: Bound, isps: &[u32]) {
    for host in 1..6 {
        for to in servers(host) {
            for how in ALL {
                let answer = ask(lab, how, bound, to).unwrap_or_else(|error| panic!("{how:?} {bound:?} {to}: {error}"));
                assert!(isps.contains(&answer.isp), "{how:?} {bound:?} {to}: {answer:?}");
                assert_eq!(answer.seen_as, lab.isp(answer.isp).link.router(to), "{how:?} {bound:?} {to}");
            }
        }
    }
}

#[test]
fn own_connections_follow_main_while_its_uplink_is_up_and_the_other_one_when_it_is_not() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let pcc = run(&lab, &[]);
    assert_goes_by(&lab, Bound::Nothing, &[1]);
    lab.silence(1, true);
    for family in ["IPv4", "IPv6"] {
        pcc.wait_for(&format!("uplink wan1 {family}: down"), SOON);
    }
    assert!(eventually(SOON, || servers(1).iter().all(|to| ask(&lab, How::Tcp, Bound::Nothing, *to).is_ok())));
    assert_goes_by(&lab, Bound::Nothing, &[2]);
    lab.silence(1, false);
    let back = || servers(1).iter().all(|to| ask(&lab, How::Tcp, Bound::Nothing, *to).is_ok_and(|it| it.isp == 1));
    assert!(eventually(SOON, back), "they return to main's uplink");
    assert_goes_by(&lab, Bound::Nothing, &[1]);
}

#[test]
fn bound_sockets_stay_on_their_uplink() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let pcc = run(&lab, &[]);
    for number in [1, 2] {
        assert_goes_by(&lab, Bound::Address(number), &[number]);
        for host in 1..6 {
            for to in servers(host) {
                for how in [How::Tcp, How::Connected] {
                    let answer = ask(&lab, how, Bound::Device(number), to);
                    assert_eq!(answer.unwrap_or_else(|error| panic!("{how:?} {to}: {error}")).isp, number);
                }
            }
        }
    }
    lab.silence(1, true);
    pcc.wait_for("uplink wan1 IPv4: down", SOON);
    assert!(eventually(SOON, || ask(&lab, How::Tcp, Bound::Nothing, server4(1).into()).is_ok()));
    for how in [How::Tcp, How::Connected] {
        for bound in [Bound::Address(1), Bound::Device(1)] {
            assert!(ask(&lab, how, bound, server4(1).into()).is_err(), "{how:?} {bound:?} has left its uplink");
        }
    }
    assert_goes_by(&lab, Bound::Address(2), &[2]);
}

#[test]
fn balanced_own_connections_have_the_source_of_their_uplink_without_translation() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let pcc = run(&lab, &["--balance-router", "--weights", "3,1"]);
    assert_goes_by(&lab, Bound::Nothing, &[1, 2]);
    for family in [0, 1] {
        for how in ALL {
            let mut counts = [0; 2];
            for host in 0..200_u8 {
                let to = servers(host % 60 + 1)[family];
                let answer = ask(&lab, how, Bound::Nothing, to).unwrap_or_else(|error| panic!("{how:?} {to}: {error}"));
                counts[answer.isp as usize - 1] += 1;
                if how != How::Unconnected {
                    assert_eq!(answer.local, lab.isp(answer.isp).link.router(to), "{how:?} {to}");
                }
            }
            // Binomial with mean 150 and deviation 6.1.
            assert!((113..188).contains(&counts[0]), "{how:?}: {counts:?}");
        }
    }
    for number in [1, 2] {
        assert_goes_by(&lab, Bound::Address(number), &[number]);
        for to in servers(1) {
            for how in [How::Tcp, How::Connected] {
                let answer = ask(&lab, how, Bound::Device(number), to);
                assert_eq!(answer.unwrap_or_else(|error| panic!("{how:?} {to}: {error}")).isp, number);
            }
        }
    }
    lab.silence(2, true);
    for family in ["IPv4", "IPv6"] {
        pcc.wait_for(&format!("uplink wan2 {family}: down"), SOON);
    }
    let all = || (1..20).flat_map(servers).all(|to| ask(&lab, How::Connected, Bound::Nothing, to).is_ok());
    assert!(eventually(SOON, all));
    assert_goes_by(&lab, Bound::Nothing, &[1]);
}

/// A socket that was connected while its uplink was up sends by another one when it is not.
#[test]
fn a_connected_datagram_socket_leaves_a_dead_uplink() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let pcc = run(&lab, &["--balance-router", "--weights", "1,0"]);
    let sockets: Vec<Socket> = servers(1)
        .map(|to| {
            lab.router().run(|| {
                let to = SocketAddr::new(to, PORT);
                let socket = Socket::new(Domain::for_address(to), Type::DGRAM, None).unwrap();
                socket.connect(&to.into()).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                socket
            })
        })
        .into();
    let answered_by = |socket: &Socket| {
        let mut text = [0; 200];
        socket.send(b"?").ok()?;
        let length = {
            let mut socket = socket;
            socket.read(&mut text).ok()?
        };
        Some(String::from_utf8_lossy(&text[..length]).split(' ').next().unwrap().to_owned())
    };
    for socket in &sockets {
        assert_eq!(answered_by(socket).as_deref(), Some("isp1"));
        assert_eq!(socket.mark().unwrap(), 0x81);
    }
    assert!(lab.pcc_output(&["uplink", "wan2", "weight", "1"]).status.success());
    lab.silence(1, true);
    for family in ["IPv4", "IPv6"] {
        pcc.wait_for(&format!("uplink wan1 {family}: down"), SOON);
    }
    for socket in &sockets {
        assert!(eventually(SOON, || answered_by(socket).as_deref() == Some("isp2")), "{socket:?}");
    }
}

#[test]
fn the_end_leaves_the_host_as_it_was() {
    let lab = Lab::builder().defaults(Defaults::All).build();
    let before = lab.host_state();
    let pcc = run(&lab, &["--balance-router"]);
    let answer = ask(&lab, How::Tcp, Bound::Nothing, server4(1).into()).unwrap();
    assert_eq!(answer.local, lab.isp(answer.isp).link.router(answer.local));
    drop(pcc);
    assert!(lab.pcc_output(&["down"]).status.success());
    assert_eq!(HostState::diff(&before, &lab.host_state()), "");
    let mark = lab.router().run(|| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        socket.connect(&SocketAddr::new(server4(1).into(), PORT).into()).unwrap();
        socket.mark().unwrap()
    });
    assert_eq!(mark, 0, "the programs of sockets are gone");
}
