//! A cable between two tun devices: an uplink without Ethernet header.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};

use super::namespace::Namespace;
use super::server::runtime;

/// Two tun devices and the tasks that carry packets between them. Dropping it removes the devices.
#[derive(Debug)]
pub(super) struct Tun {
    near: Arc<AsyncFd<OwnedFd>>,
    silent: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Tun {
    /// Makes the two devices, given by namespace and name.
    ///
    /// # Panics
    /// Where the machine has no tun.
    pub(super) fn new(near: (&Namespace, &str), far: (&Namespace, &str)) -> Self {
        let _reactor = runtime().enter();
        let [near, far] = [near, far].map(|(namespace, name)| {
            // SAFETY: the `OwnedFd` stays open and the same until the `AsyncFd` drops it.
            let opened = namespace.run(|| open(name)).and_then(|device| Ok(unsafe { AsyncFd::register(device) }?));
            Arc::new(opened.unwrap_or_else(|error| panic!("making tun device `{name}`: {error}")))
        });
        let silent = Arc::new(AtomicBool::new(false));
        let mut pumps = JoinSet::new();
        pumps.spawn(pump(Arc::clone(&near), Arc::clone(&far), Arc::clone(&silent)));
        pumps.spawn(pump(far, Arc::clone(&near), Arc::clone(&silent)));
        let task = tokio::spawn(async move { while pumps.join_next().await.is_some() {} });
        Self { near, silent, task }
    }

    /// Gives the near device carrier or takes it.
    pub(super) fn carrier(&self, on: bool) {
        const SET_CARRIER: Opcode = opcode::write::<c_int>(b'T', 226);
        // SAFETY: TUNSETCARRIER reads an int.
        let set = unsafe { ioctl(self.near.get_ref(), Setter::<SET_CARRIER, c_int>::new(on.into())) };
        set.unwrap_or_else(|error| panic!("setting the carrier of a tun device: {error}"));
    }

    /// Loses every packet, or stops to.
    pub(super) fn silence(&self, on: bool) {
        self.silent.store(on, Ordering::Relaxed);
    }
}

impl Drop for Tun {
    fn drop(&mut self) {
        self.task.abort();
        if Handle::try_current().is_err() {
            let _ = runtime().block_on(&mut self.task);
        }
    }
}

/// `struct ifreq` as TUNSETIFF reads it.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

fn open(name: &str) -> io::Result<OwnedFd> {
    const SET_INTERFACE: Opcode = opcode::write::<c_int>(b'T', 202);
    const TUN_WITHOUT_PACKET_INFORMATION: u16 = 0x1001;
    let device = rustix::fs::open("/dev/net/tun", OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let mut request = Request { name: [0; 16], flags: TUN_WITHOUT_PACKET_INFORMATION, rest: [0; 22] };
    for (to, from) in request.name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: TUNSETIFF reads a `struct ifreq`, whose size on 64-bit machines is that of `Request`.
    unsafe { ioctl(device.as_fd(), Setter::<SET_INTERFACE, Request>::new(request)) }?;
    Ok(device)
}

async fn pump(from: Arc<AsyncFd<OwnedFd>>, to: Arc<AsyncFd<OwnedFd>>, silent: Arc<AtomicBool>) {
    let mut packet = vec![0; 65_536];
    while let Ok(mut ready) = from.readable().await {
        let read = ready.try_io(|device| Ok(rustix::io::read(device.get_ref(), &mut packet[..])?));
        match read {
            Ok(Ok(length)) if !silent.load(Ordering::Relaxed) => {
                // A device that is down or full loses the packet, as a cable would.
                let _ = rustix::io::write(to.get_ref(), &packet[..length]);
            }
            Ok(Err(_)) => return,
            _ => {}
        }
    }
}
