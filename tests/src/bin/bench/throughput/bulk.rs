//! TCP streams through the router, everything on one processor.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Scope, scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tests::lab::{Namespace, PATIENCE, address};

use super::stand::{Stand, features, measured, pin};

const PORT: u16 = 10;
const BUFFER: usize = 128 * 1024;
/// Until windows are open.
const BEGIN: Duration = Duration::from_millis(400);
/// What a sender can leave to the device, and what it takes to receive in large pieces.
const OFFLOADS: [&str; 3] = ["tx", "tso", "gso"];

/// Counts, and the end of it.
#[derive(Default)]
struct Shared {
    received: AtomicU64,
    over: AtomicBool,
}

/// Gbit/s of `streams` streams for about `time`.
pub fn measure(stand: &mut Stand, streams: u32, offloads: bool, time: Duration) -> Result<f64> {
    stand.close_sinks();
    set_offloads(stand, offloads);
    let rate = transfer(stand, streams, time).with_context(|| format!("{}: TCP", stand.candidate));
    set_offloads(stand, true);
    stand.open_sinks()?;
    rate
}

fn transfer(stand: &Stand, streams: u32, time: Duration) -> Result<f64> {
    let target = SocketAddr::from((address::SERVER4, PORT));
    let shared = Shared::default();
    let processor = measured()?;
    let listen = |namespace: &Namespace| namespace.run(|| TcpListener::bind(target));
    let listeners = stand.lab.isps().iter().map(|isp| listen(isp.namespace())).collect::<Result<Vec<_>, _>>()?;
    for listener in &listeners {
        listener.set_nonblocking(true)?;
    }
    scope(|threads| {
        let over = OnDrop(&shared.over);
        for listener in &listeners {
            let shared = &shared;
            threads.spawn(move || accept(threads, listener, shared, processor));
        }
        for _ in 0..streams {
            let stream = stand.lab.client().namespace().run(|| TcpStream::connect_timeout(&target, PATIENCE))?;
            let over = &shared.over;
            threads.spawn(move || send(stream, over, processor));
        }
        sleep(BEGIN);
        let (start, before) = (Instant::now(), shared.received.load(Ordering::Relaxed));
        sleep(time);
        let (took, after) = (start.elapsed(), shared.received.load(Ordering::Relaxed));
        drop(over);
        Ok((after - before) as f64 * 8.0 / took.as_secs_f64() / 1e9)
    })
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn accept<'a>(threads: &'a Scope<'a, '_>, listener: &TcpListener, shared: &'a Shared, processor: usize) {
    while !shared.over.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => drop(threads.spawn(move || receive(stream, shared, processor))),
            Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(Duration::from_millis(10)),
            Err(_) => return,
        }
    }
}

fn receive(mut stream: TcpStream, shared: &Shared, processor: usize) {
    let mut buffer = vec![0; BUFFER];
    if pin(processor).is_err() || stream.set_nonblocking(false).is_err() {
        return;
    }
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        shared.received.fetch_add(length as u64, Ordering::Relaxed);
    }
}

fn send(mut stream: TcpStream, over: &AtomicBool, processor: usize) {
    let buffer = vec![0; BUFFER];
    if pin(processor).is_err() || stream.set_write_timeout(Some(Duration::from_millis(200))).is_err() {
        return;
    }
    while !over.load(Ordering::Relaxed) && stream.write_all(&buffer).is_ok() {}
}

fn set_offloads(stand: &Stand, on: bool) {
    let lab = &stand.lab;
    for device in ["lan", "wan1", "wan2"] {
        features(lab.router(), device, &OFFLOADS, on);
        features(lab.router(), device, &["gro"], on);
    }
    for end in lab.isps().iter().map(tests::lab::Isp::namespace).chain([lab.client().namespace()]) {
        features(end, "eth0", &OFFLOADS, on);
    }
}
