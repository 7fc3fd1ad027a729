//! Much data, whatever happens to the controller meanwhile, arrives as it was sent.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use rustix::process::Signal;
use tests::lab::address::{SERVER4, SERVER6};
use tests::lab::{Defaults, Lab, Pcc, Settings};

const PORT: u16 = 5001;
/// Streams in each direction and family.
const STREAMS: u64 = 2;
const BLOCK: usize = 1 << 20;

/// Gigabytes in all: `PCC_TRANSFER_GIGABYTES`, else 10.
fn gigabytes() -> u64 {
    std::env::var("PCC_TRANSFER_GIGABYTES").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

#[test]
fn by_the_stack() {
    let (tc, xdp) = transfer("off");
    assert_eq!((tc, xdp), (0, 0));
}

#[test]
fn by_shortcuts_in_tc() {
    let (tc, xdp) = transfer("tc");
    assert!(tc > 1_000_000 && xdp == 0, "{tc} packets took it, {xdp} in XDP");
}

#[test]
fn by_shortcuts_in_xdp() {
    let (_, xdp) = transfer("xdp");
    assert!(xdp > 1_000_000, "{xdp} packets took it");
}

/// What is sent: the same bytes in every block, but for its number.
struct Blocks {
    bytes: Vec<u8>,
    number: u64,
}

impl Blocks {
    fn of(stream: u64) -> Self {
        let mut state = stream + 1;
        let mut random = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 33).to_le_bytes()
        };
        Self { bytes: (0..BLOCK / 8).flat_map(|_| random()).collect(), number: 0 }
    }

    fn next(&mut self) -> &[u8] {
        self.bytes[..8].copy_from_slice(&self.number.to_le_bytes());
        self.number += 1;
        &self.bytes
    }
}

fn send(stream: &mut TcpStream, number: u64, blocks: u64) {
    let mut data = Blocks::of(number);
    for _ in 0..blocks {
        stream.write_all(data.next()).unwrap();
    }
    // Until the other end has seen all of it.
    assert_eq!(stream.read(&mut [0]).unwrap(), 1);
}

fn receive(stream: &mut TcpStream, number: u64, blocks: u64) {
    let (mut data, mut received) = (Blocks::of(number), vec![0; BLOCK]);
    for block in 0..blocks {
        stream.read_exact(&mut received).unwrap();
        assert!(received == data.next(), "block {block} of stream {number} is not what was sent");
    }
    stream.write_all(&[1]).unwrap();
}

/// Sends data both ways under changes of weights, reloads and kills of the controller. Returns the packets that took a shortcut
/// in tc and in XDP.
fn transfer(mode: &str) -> (u64, u64) {
    let builder = Lab::builder().defaults(Defaults::All);
    let lab = if mode == "xdp" { builder.whole_frames() } else { builder }.build();
    let settings = Settings::new(&[(1, ""), (2, "")]);
    let start = || settings.start(&lab, &["--fast-path", mode]);
    let mut pcc = start();
    let servers = [IpAddr::from(SERVER4), SERVER6.into()];
    let blocks = gigabytes() * 1_000_000_000 / BLOCK as u64 / (2 * 2 * STREAMS);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for isp in lab.isps() {
            for server in servers {
                let listener = isp.namespace().run(|| TcpListener::bind((server, PORT)).unwrap());
                // It ends with the test program: nobody knows how many streams come to it.
                thread::spawn(move || {
                    for mut stream in listener.incoming().map_while(Result::ok) {
                        be_patient(&stream);
                        thread::spawn(move || serve(&mut stream));
                    }
                });
            }
        }
        let streams: Vec<_> = (0..2 * STREAMS).flat_map(|number| servers.map(|server| (number, server))).collect();
        let clients: Vec<_> = streams
            .into_iter()
            .map(|(number, server)| {
                let stream =
                    lab.client().namespace().run(|| TcpStream::connect(SocketAddr::new(server, PORT)).unwrap());
                scope.spawn(move || ask(stream, number, blocks))
            })
            .collect();
        let trouble = scope.spawn(|| {
            let mut turn = 0;
            while !done.load(Ordering::Relaxed) {
                turn += 1;
                disturb(&lab, &mut pcc, turn, &start);
                sleep(Duration::from_millis(200));
            }
        });
        let outcomes: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        trouble.join().unwrap();
        assert!(outcomes.iter().all(Result::is_ok), "some streams broke");
    });
    lab.shortcuts_taken()
}

/// The number of the stream, its blocks, and then the blocks: those of even streams go to the client.
fn ask(mut stream: TcpStream, number: u64, blocks: u64) {
    be_patient(&stream);
    stream.write_all(&[number.to_le_bytes(), blocks.to_le_bytes()].concat()).unwrap();
    if number.is_multiple_of(2) { receive(&mut stream, number, blocks) } else { send(&mut stream, number, blocks) }
}

/// A stream that stands still for longer is broken.
fn be_patient(stream: &TcpStream) {
    const LONGEST: Option<Duration> = Some(Duration::from_secs(20));
    stream.set_read_timeout(LONGEST).unwrap();
    stream.set_write_timeout(LONGEST).unwrap();
}

fn serve(stream: &mut TcpStream) {
    let mut header = [0; 16];
    stream.read_exact(&mut header).unwrap();
    let [number, blocks] = [0, 8].map(|at| u64::from_le_bytes(header[at..at + 8].try_into().unwrap()));
    if number.is_multiple_of(2) { send(stream, number, blocks) } else { receive(stream, number, blocks) }
}

fn disturb(lab: &Lab, pcc: &mut Pcc, turn: u32, start: &impl Fn() -> Pcc) {
    let weight = (turn % 5 + 1).to_string();
    match turn % 10 {
        4 => assert!(lab.pcc_output(&["reload"]).status.success()),
        9 => {
            pcc.signal(Signal::KILL);
            pcc.wait(Duration::from_secs(5));
            *pcc = start();
        }
        _ => assert!(lab.pcc_output(&["uplink", "wan1", "weight", &weight]).status.success()),
    }
}
