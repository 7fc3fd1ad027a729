//! A network namespace that a test thread lives in.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Goes away with its devices.
pub struct Namespace(String);

impl Namespace {
    /// Makes it with two veth devices, `wan1` and `wan2`, whose other ends are in it too, and moves the current thread there.
    pub fn enter(name: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "needs root");
        let name = format!("pcc-{name}-{}", std::process::id());
        sh(&format!("ip netns add {name}"));
        let namespace = Self(name);
        let file = File::open(format!("/run/netns/{}", namespace.0)).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        sh("sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
            ip link set lo up
            for n in 1 2; do
                ip link add wan$n type veth peer name isp$n
                ip link set wan$n up; ip link set isp$n up
                ip addr add 198.18.$n.2/24 dev wan$n
                ip addr add 2001:db8:$n::2/64 dev wan$n nodad
            done");
        namespace
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// The output of a shell script, which must succeed.
pub fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
