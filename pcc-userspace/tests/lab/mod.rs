//! Namespaces for tests of the nftables table.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use pcc_ebpf::abi::MarkFields;
use pcc_userspace::mirror::names::{Devices, Names};
use pcc_userspace::mirror::netfilter::table;
use pcc_userspace::routeros::dialect::Dialect;
use pcc_userspace::routeros::model::Model;
use pcc_userspace::routeros::{Severity, read};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A router between a client and a server, each in a namespace, which go with the value.
pub struct Lab(String);

impl Lab {
    pub fn new(test: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "needs root");
        let lab = Self(format!("pcc-nf-{test}-{}", std::process::id()));
        let name = |part: &str| lab.name(part);
        let (client, router, server) = (name("client"), name("router"), name("server"));
        sh(&format!(
            "for n in {client} {router} {server}; do ip netns add $n; ip -n $n link set lo up; done
             ip -n {client} link add eth type veth peer name lan netns {router}
             ip -n {server} link add eth type veth peer name wan netns {router}
             ip netns exec {router} sysctl -qw net.ipv4.ip_forward=1
             ip -n {client} addr add 10.0.0.2/24 dev eth; ip -n {server} addr add 198.18.1.9/24 dev eth
             ip -n {router} addr add 10.0.0.1/24 dev lan; ip -n {router} addr add 198.18.1.1/24 dev wan
             for n in {client} {server}; do ip -n $n link set eth up; done
             ip -n {router} link set lan up; ip -n {router} link set wan up
             ip -n {client} route add default via 10.0.0.1; ip -n {server} route add default via 198.18.1.1"
        ));
        lab
    }

    fn name(&self, part: &str) -> String {
        format!("{}-{part}", self.0)
    }

    /// A socket in the namespace `part`.
    pub fn socket(&self, part: &str, address: &str) -> UdpSocket {
        let file = File::open(format!("/run/netns/{}", self.name(part))).unwrap();
        let address = address.to_owned();
        let thread = std::thread::spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            UdpSocket::bind(address).unwrap()
        });
        let socket = thread.join().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    pub fn nft(&self, script: &str) -> String {
        nft(&self.name("router"), &["-f", "-"], script).unwrap_or_else(|error| panic!("{error}\n{script}"))
    }

    /// The marks of the packets (and of their connections) that passed the hook of set `set` since the last call.
    pub fn seen(&self, set: &str) -> BTreeSet<(u32, u32)> {
        let text = self.nft(&format!("list set inet lab {set}"));
        self.nft(&format!("flush set inet lab {set}"));
        let elements = text.split_once("elements = {").map_or("", |(_, rest)| rest.split('}').next().unwrap());
        let hex = |text: &str| u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).unwrap();
        let pair = |element: &str| element.split_once(" . ").map(|(packet, connection)| (hex(packet), hex(connection)));
        elements.split(',').filter(|element| !element.trim().is_empty()).map(|element| pair(element).unwrap()).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for part in ["client", "router", "server"] {
            let _ = Command::new("ip").args(["netns", "del", &self.name(part)]).status();
        }
    }
}

fn sh(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

fn nft(namespace: &str, arguments: &[&str], script: &str) -> Result<String, String> {
    let mut child = Command::new("ip")
        .args(["netns", "exec", namespace, "nft"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The table of `script`, which must be mirrored without an error.
pub fn made(script: &str) -> (String, MarkFields) {
    let model = Model::build(&read(script.as_bytes())).model;
    let names = Names::of(&model, &Names::default());
    let fields = names.fields(Some(0xff000)).unwrap();
    let map = BTreeMap::from([("ether1", "wan"), ("bridge", "lan")].map(|(a, b)| (a.into(), b.into())));
    let devices = Devices::of(&model, &map, &BTreeMap::new());
    let (text, notes) = table("pcc-test", &model, &names, &fields, &devices, Dialect::V7, "pcc test");
    assert!(notes.iter().all(|note| note.severity < Severity::Error), "{notes:?}");
    (text, fields)
}

/// Sends one packet, which must arrive.
pub fn pass(from: &UdpSocket, to: &UdpSocket) {
    from.send_to(b"x", to.local_addr().unwrap()).unwrap();
    to.recv_from(&mut [0; 8]).unwrap();
}
