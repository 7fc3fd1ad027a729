//! Scripts in pieces, for a lab with any number of uplinks, and how they are run.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use pcc_ebpf::abi::FlowKey;
use pcc_ebpf::classify::{HashFields, hash};
use tests::lab::address::{PORT, server4};
pub use tests::lab::settings::READY;
use tests::lab::{Lab, PATIENCE, Pcc, Protocol, Trial};

pub const SEED: u32 = 0x1234_5678;

/// Names and addresses of the lab, uplink n being `ispN`.
pub fn interfaces(uplinks: u32) -> String {
    let mut text = String::from("/ip address\nadd address=192.0.2.1/24 interface=bridge\n");
    for n in 1..=uplinks {
        let _ = writeln!(text, "add address=198.18.{n}.2/24 interface=isp{n}");
    }
    text + "/routing settings set check-gateway-ping-interval=300ms check-gateway-ping-timeout=300ms\n"
}

/// Tables `to_ispN`, each with its ISP and, behind it, the next one; and main, which prefers the first.
pub fn tables(uplinks: u32) -> String {
    let mut text = String::new();
    for n in 1..=uplinks {
        let next = n % uplinks + 1;
        let _ = writeln!(
            text,
            "/routing table add name=to_isp{n} fib\n\
             /ip route add gateway=198.18.{n}.1 routing-table=to_isp{n} check-gateway=ping\n\
             /ip route add gateway=198.18.{next}.1 routing-table=to_isp{n} distance=2 check-gateway=ping\n\
             /ip route add gateway=198.18.{n}.1 distance={n} check-gateway=ping"
        );
    }
    text
}

/// Masquerade on every uplink, and TCP and UDP 8080 forwarded to the client.
pub fn nat(uplinks: u32) -> String {
    let mut text = String::from("/ip firewall nat\n");
    for n in 1..=uplinks {
        let _ = writeln!(
            text,
            "add chain=srcnat out-interface=isp{n} action=masquerade\n\
             add chain=dstnat in-interface=isp{n} protocol=tcp dst-port=8080 action=dst-nat to-addresses=192.0.2.2\n\
             add chain=dstnat in-interface=isp{n} protocol=udp dst-port=8080 action=dst-nat to-addresses=192.0.2.2"
        );
    }
    text
}

/// Marks of what comes in from outside.
pub fn inbound(uplinks: u32) -> String {
    each(
        uplinks,
        "add chain=prerouting in-interface=ispN connection-mark=no-mark action=mark-connection new-connection-mark=ispN",
    )
}

/// Routing by the connection's mark, of the LAN and of the router itself.
pub fn routing(uplinks: u32) -> String {
    each(
        uplinks,
        "add chain=prerouting in-interface=bridge connection-mark=ispN action=mark-routing new-routing-mark=to_ispN\n\
         add chain=output connection-mark=ispN action=mark-routing new-routing-mark=to_ispN",
    )
}

/// A PCC rule for each remainder: `remainders[r]` is the uplink that gets remainder r.
pub fn pcc(fields: &str, remainders: &[u32], more: &str) -> String {
    let mut text = String::from("/ip firewall mangle\n");
    for (remainder, n) in remainders.iter().enumerate() {
        let _ = writeln!(
            text,
            "add chain=prerouting in-interface=bridge dst-address-type=!local {more} \
             per-connection-classifier={fields}:{}/{remainder} action=mark-connection new-connection-mark=isp{n}",
            remainders.len()
        );
    }
    text
}

fn each(uplinks: u32, rules: &str) -> String {
    let of = |n: u32| rules.replace("ispN", &format!("isp{n}")) + "\n";
    format!("/ip firewall mangle\n{}", (1..=uplinks).map(of).collect::<String>())
}

/// A script in a file that goes with the value.
pub struct Script {
    folder: tempfile::TempDir,
}

impl Script {
    pub fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("router.rsc"), text).unwrap();
        Self { folder }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("router.rsc")
    }

    /// Runs it in the lab.
    pub fn run(&self, lab: &Lab) -> Pcc {
        run(lab, &self.path(), "bridge", "isp")
    }
}

/// Runs the script at `path`; its LAN is `lan`, its uplinks are `<uplink>1`, `<uplink>2`, …
pub fn run(lab: &Lab, path: &Path, lan: &str, uplink: &str) -> Pcc {
    let mut map = format!("{lan}=lan");
    for isp in lab.isps() {
        let _ = write!(map, ",{uplink}{}={}", isp.number, isp.device);
    }
    start(lab, path, &map)
}

/// Runs the script at `path` with this mapping.
pub fn start(lab: &Lab, path: &Path, map: &str) -> Pcc {
    let pcc = lab.pcc(&["run", "--config", &path.display().to_string(), "--map", map, "--seed", &SEED.to_string()]);
    pcc.wait_for("ready", READY);
    pcc
}

/// The remainder that PCC gives a connection.
pub fn remainder(fields: HashFields, protocol: Protocol, trial: &Trial, denominator: u32) -> u32 {
    let number = match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Icmp => 1,
    };
    hash(&FlowKey::new(trial.source, trial.destination, number), fields, SEED) % denominator
}

/// `count` connections to 50 servers, with source ports from `from` on.
pub fn flows(from: u16, count: u16) -> Vec<(u16, SocketAddr)> {
    (0..count).map(|i| (from + i, SocketAddr::new(IpAddr::V4(server4((i % 50 + 1) as u8)), PORT))).collect()
}

/// Opens them; the ISP of each.
pub fn isps(lab: &Lab, protocol: Protocol, flows: &[(u16, SocketAddr)]) -> Vec<(Trial, u32)> {
    let trials = lab.client().try_many(protocol, flows, 8, PATIENCE);
    let isp = |trial: Trial| {
        let isp = trial.isp.clone().unwrap_or_else(|error| panic!("{trial:?}: {error}"));
        (trial, isp)
    };
    trials.into_iter().map(isp).collect()
}
