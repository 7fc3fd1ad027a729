//! Ten thousand connections, and one uplink of three that dies.
#![expect(clippy::print_stdout, reason = "what was measured is shown where it fails")]

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tests::lab::address::{PORT, UDP_SERVERS, server4, server6};
use tests::lab::{Busy, Conversation, Defaults, Fault, FaultKind, Idle, Lab, Protocol, Settings, eventually};

/// Both ends of a TCP connection are in this process, which may not have more than 20,000 descriptors. With
/// [`DATAGRAMS`] it is ten thousand.
const TCP: u16 = 9_000;
/// UDP flows: one descriptor each.
const DATAGRAMS: u16 = 1_000;
/// One in so many TCP connections sends; the others only listen.
const BUSY: u16 = 10;
/// Clients that are reset learn of the end within a second; five times that is asserted.
const TOLD: Duration = Duration::from_secs(5);
/// Those that nobody tells are shown to hang for so long.
const HANGS: Duration = Duration::from_secs(3);
/// Long enough for thousands of handshakes on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connections of both families: those that will send, and those that will not.
fn crowd(lab: &Lab) -> (Vec<Conversation>, Vec<Conversation>) {
    let flow = |i: u16, hosts: u16| {
        let host = (i / 2 % hosts + 1) as u8;
        let to: IpAddr = if i.is_multiple_of(2) { server4(host).into() } else { server6(host).into() };
        (10_000 + i, SocketAddr::new(to, PORT))
    };
    let open = |protocol, count: u16, hosts: u16| {
        let flows: Vec<_> = (0..count).map(|i| flow(i, hosts)).collect();
        let opened = lab.client().open_many(protocol, &flows, 64, PATIENCE);
        let at = move |(i, it): (usize, std::io::Result<_>)| {
            it.unwrap_or_else(|error| panic!("{protocol:?} connection {i}: {error}"))
        };
        opened.into_iter().enumerate().map(at).collect::<Vec<Conversation>>()
    };
    let mut busy = open(Protocol::Udp, DATAGRAMS, UDP_SERVERS.into());
    let mut idle = Vec::new();
    for (i, opened) in (0..TCP).zip(open(Protocol::Tcp, TCP, 200)) {
        if i / 2 % BUSY == 0 { busy.push(opened) } else { idle.push(opened) }
    }
    (busy, idle)
}

/// What happened while uplink 2 died.
struct Outcome {
    /// TCP connections on it.
    on_dead: usize,
    /// Those of them that only listen.
    idle_on_dead: usize,
    /// When the last client learnt of it.
    told: Duration,
    idle: Vec<Fault>,
    busy: Vec<Fault>,
}

fn fail(reset_clients: bool, cut: fn(&Lab)) -> Outcome {
    // Two crowds do not fit into one process.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::builder().uplinks(3).defaults(Defaults::All).build();
    let keys = format!("reset_clients = {reset_clients}");
    let settings = Settings::new(&[(1, &keys), (2, &keys), (3, &keys)]);
    let pcc = settings.run(&lab, &[1, 2, 3]);
    let (busy, idle) = crowd(&lab);
    let on_dead =
        |crowd: &[Conversation]| crowd.iter().filter(|it| it.isp == 2 && it.protocol == Protocol::Tcp).count();
    let (busy_on_dead, idle_on_dead) = (on_dead(&busy), on_dead(&idle));
    for isp in 1..=3 {
        let there = busy.iter().chain(&idle).filter(|it| it.isp == isp).count();
        assert!(there > usize::from(TCP + DATAGRAMS) / 4, "{there} on isp{isp}");
    }
    let busy = Busy::start(busy, Duration::from_secs(1), PATIENCE);
    let idle = Idle::start(idle);
    sleep(Duration::from_secs(1));
    cut(&lab);
    let began = Instant::now();
    if reset_clients {
        eventually(TOLD, || {
            let ended = busy.report().faults;
            idle.ended().len() >= idle_on_dead
                && ended.iter().filter(|it| it.protocol == Protocol::Tcp).count() >= busy_on_dead
        });
    } else {
        sleep(HANGS);
    }
    let told = began.elapsed();
    pcc.wait_for("uplink wan2 IPv4: down", Duration::ZERO);
    // Others have time to be harmed.
    sleep(Duration::from_secs(1));
    let outcome = Outcome {
        on_dead: busy_on_dead + idle_on_dead,
        idle_on_dead,
        told,
        idle: idle.ended(),
        // A UDP flow of the dead uplink goes on by another one, which the server sees: it moved.
        busy: busy.report().faults.into_iter().filter(|it| it.isp != 2 || it.protocol == Protocol::Tcp).collect(),
    };
    assert!(lab.settles(TOLD, &[1, 3]), "new connections take the other uplinks");
    outcome
}

fn assert_only_of_the_dead(outcome: &Outcome) {
    let others: Vec<_> = outcome.idle.iter().chain(&outcome.busy).filter(|fault| fault.isp != 2).take(3).collect();
    assert!(others.is_empty(), "connections of other uplinks ended, such as {others:?}");
}

fn assert_all_are_reset(outcome: &Outcome) {
    assert_only_of_the_dead(outcome);
    let ended = outcome.idle.len() + outcome.busy.len();
    println!("{ended} of {} were told within {:.2?}", outcome.on_dead, outcome.told);
    assert_eq!(ended, outcome.on_dead, "connections of the dead uplink that were told within {TOLD:?}");
    let not_reset = outcome.idle.iter().chain(&outcome.busy).find(|fault| fault.kind != FaultKind::Reset);
    assert_eq!(not_reset, None, "each is told by a reset");
}

#[test]
fn clients_of_an_uplink_without_carrier_are_reset_and_no_others() {
    assert_all_are_reset(&fail(true, |lab| lab.carrier(2, false)));
}

#[test]
fn clients_of_a_silent_uplink_are_reset_and_no_others() {
    assert_all_are_reset(&fail(true, |lab| lab.silence(2, true)));
}

#[test]
fn without_resets_clients_that_only_listen_hang() {
    let outcome = fail(false, |lab| lab.carrier(2, false));
    assert_only_of_the_dead(&outcome);
    println!("{} of {} learnt of it within {HANGS:?}", outcome.idle.len(), outcome.idle_on_dead);
    assert_eq!(outcome.idle.len(), 0, "nobody tells those that do not ask");
}
