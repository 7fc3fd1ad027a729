//! A PPPoE session: `pppoe-server` at the ISP, `pppd` with the kernel's PPPoE in the router.

use std::env;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::address::Link;
use super::namespace::{Namespace, eventually};
use super::server::lock;

/// A session over a veth. Dropping it kills the router's `pppd`; the ISP's programs end with their namespace.
#[derive(Debug)]
pub(super) struct Session {
    router: Side,
    isp: Side,
    ipv6: bool,
    link: Link,
    /// `pppd`'s messages, and beside them the options of the ISP's.
    log: PathBuf,
    client: Mutex<Option<Child>>,
}

/// One end.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) namespace: Arc<Namespace>,
    /// The PPP device.
    pub(super) device: String,
    /// The veth below it.
    pub(super) port: String,
    /// `ip -batch` once the session stands: what IPCP does not hand out.
    pub(super) script: String,
}

/// Discovery, LCP, IPCP and IPv6CP take a second where nothing is emulated.
const PATIENCE: Duration = Duration::from_secs(30);
/// What both ends say: no authentication, no compression, no route.
const OPTIONS: [&str; 6] = ["noauth", "noccp", "novj", "nodefaultroute", "lcp-echo-interval", "0"];

impl Session {
    /// Starts the server and dials.
    ///
    /// # Panics
    /// Where the kernel has no PPP, `pppd` or `pppoe-server` is missing, or no session comes up.
    pub(super) fn new(router: Side, isp: Side, link: Link, ipv6: bool) -> Self {
        assert!(
            File::open("/dev/ppp").is_ok(),
            "a PPPoE uplink needs a kernel with PPP (`/dev/ppp`); `cargo xtask vm` boots one"
        );
        let log = env::temp_dir().join(format!("{}-{}.log", router.namespace.name(), router.device));
        for side in [&router, &isp] {
            side.namespace.ip(&format!("link set {} up", side.port));
        }
        let session = Self { router, isp, ipv6, link, log, client: Mutex::new(None) };
        session.serve();
        session.dial();
        session
    }

    /// Makes the devices anew.
    pub(super) fn dial(&self) {
        self.hang_up();
        if let Some(mut client) = lock(&self.client).take() {
            let gone = || [&self.router, &self.isp].iter().all(|side| !side.exists());
            assert!(eventually(PATIENCE, gone), "the last PPPoE session does not end\n{}", self.messages());
            let _ = client.wait();
        }
        let Link { router4, gateway4, .. } = self.link;
        let words = format!(
            "plugin pppoe.so nic-{} nodetach persist maxfail 5 holdoff 1 ifname {} {router4}:{gateway4} {}",
            self.router.port,
            self.router.device,
            self.options("::2,::1")
        );
        let log = File::create(&self.log).unwrap_or_else(|error| panic!("{}: {error}", self.log.display()));
        let mut command = self.router.namespace.command("pppd", words.split_whitespace());
        let spawned = command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null()).spawn();
        *lock(&self.client) = Some(spawned.unwrap_or_else(|error| panic!("{command:?}: {error}")));
        let stands =
            eventually(PATIENCE, || [&self.router, &self.isp].iter().all(|side| side.has_addresses(self.ipv6)));
        assert!(stands, "no PPPoE session within {PATIENCE:?}\n{}", self.messages());
        for side in [&self.router, &self.isp] {
            side.namespace.ip_batch(&side.script);
        }
    }

    /// Lets the router's `pppd` end the session, and does not wait for it.
    pub(super) fn hang_up(&self) {
        if let Some(client) = &*lock(&self.client) {
            let _ = kill_process(Pid::from_child(client), Signal::TERM);
        }
    }

    fn serve(&self) {
        let options = self.log.with_extension("options");
        fs::write(&options, format!("ifname {} {}\n", self.isp.device, self.options("::1,::2")))
            .unwrap_or_else(|error| panic!("{}: {error}", options.display()));
        let Link { router4, gateway4, .. } = self.link;
        // One session: a second would get the next address.
        let words = format!("-I {} -L {gateway4} -R {router4} -N 1 -O {}", self.isp.port, options.display());
        let mut command = self.isp.namespace.command("pppoe-server", words.split(' '));
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(started.is_ok_and(|status| status.success()), "{command:?} failed: Debian's package `pppoe` has it");
    }

    fn options(&self, identifiers: &str) -> String {
        let ipv6 = if self.ipv6 { format!("ipv6 {identifiers}") } else { "noipv6".to_owned() };
        format!("{} {ipv6}", OPTIONS.join(" "))
    }

    fn messages(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(mut client) = lock(&self.client).take() {
            let _ = client.kill();
            let _ = client.wait();
        }
        for file in [&self.log, &self.log.with_extension("options")] {
            let _ = fs::remove_file(file);
        }
    }
}

impl Side {
    fn exists(&self) -> bool {
        let key = format!("net/ipv4/conf/{}/forwarding", self.device);
        self.namespace.sysctl(&key).is_ok()
    }

    /// Those that PPP hands out: an IPv4 address and a link-local one.
    fn has_addresses(&self, ipv6: bool) -> bool {
        let shown = self.namespace.command("ip", ["-o", "addr", "show", "dev", &self.device]).output();
        let addresses = shown.map(|it| String::from_utf8_lossy(&it.stdout).into_owned()).unwrap_or_default();
        addresses.contains(" inet ") && (!ipv6 || addresses.contains(" inet6 fe80:"))
    }
}
