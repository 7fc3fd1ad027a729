//! What others do without pcc, as text that `nft`, `iptables-restore` and `ip` take.

use std::fmt::Write as _;

use tests::lab::{Lab, Namespace};

use super::case::Family;

const MASQUERADE: &str = "table ip nat { chain post { type nat hook postrouting priority srcnat
    oifname \"wan*\" masquerade\n}\n}
table ip6 nat { chain post { type nat hook postrouting priority srcnat
    oifname \"wan*\" masquerade\n}\n}\n";

/// The router forwards.
pub fn forwarding(router: &Namespace) {
    router.set_sysctls(&[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")]);
}

/// The router only forwards: ISPs know the way to the LAN, as nothing is translated.
pub fn plain(lab: &Lab) {
    for isp in lab.isps() {
        let (v4, v6) = (isp.link.router4, isp.link.router6);
        isp.namespace().ip_batch(&format!("route add 192.0.2.0/24 via {v4}\nroute add 2001:db8:a::/64 via {v6}\n"));
    }
}

/// RouterOS's recipe: what comes in new is marked, by the uplink or by the hash; the LAN's packets get the routing mark
/// of their connection.
pub fn nftables(lab: &Lab) {
    lab.router().nft(&format!(
        "table inet pcc_recipe {{
           chain wan1 {{ ct mark set 1\n}}
           chain wan2 {{ ct mark set 2\n}}
           chain prerouting {{ type filter hook prerouting priority mangle
             iifname wan1 ct mark 0 ct state new ct mark set 1
             iifname wan2 ct mark 0 ct state new ct mark set 2
             iifname lan ct mark 0 ct state new meta nfproto ipv4 jhash ip saddr . ip daddr mod 2 vmap {{
               0 : jump wan1, 1 : jump wan2 }}
             iifname lan ct mark 0 ct state new meta nfproto ipv6 jhash ip6 saddr . ip6 daddr mod 2 vmap {{
               0 : jump wan1, 1 : jump wan2 }}
             iifname lan ct mark != 0 meta mark set ct mark
           }}
         }}
         {MASQUERADE}"
    ));
    let mut rules = String::new();
    for number in [1, 2] {
        let _ = writeln!(rules, "rule add fwmark {number} lookup 10{number} priority 100{number}");
    }
    tables(lab, &rules);
}

/// mwan3's chains, and its rules by device and mark.
pub fn iptables(lab: &Lab) {
    for (family, program) in [(Family::V4, "iptables-restore"), (Family::V6, "ip6tables-restore")] {
        let networks = match family {
            Family::V4 => ["192.0.2.0/24", "198.18.1.0/24", "198.18.2.0/24"],
            Family::V6 => ["2001:db8:a::/64", "2001:db8:1::/64", "2001:db8:2::/64"],
        };
        lab.router().feed(program, &[], &mwan3(&networks));
    }
    let mut rules = String::new();
    for number in [1, 2] {
        let _ = writeln!(
            rules,
            "rule add iif wan{number} lookup 10{number} priority 100{number}
             rule add fwmark 0x{number}00/0x3f00 lookup 10{number} priority 200{number}"
        );
    }
    tables(lab, &rules);
}

/// One route with two next hops; the hash takes the ports as well, so that connections spread.
pub fn ecmp(lab: &Lab) {
    let router = lab.router();
    router.nft(MASQUERADE);
    router.set_sysctls(&[("net/ipv4/fib_multipath_hash_policy", "1"), ("net/ipv6/fib_multipath_hash_policy", "1")]);
    let hops = |family: Family| {
        let hop = |isp: &tests::lab::Isp| match family {
            Family::V4 => format!("nexthop via {} dev {}", isp.link.gateway4, isp.device),
            Family::V6 => format!("nexthop via {} dev {}", isp.link.gateway6, isp.device),
        };
        lab.isps().iter().map(hop).collect::<Vec<_>>().join(" ")
    };
    router.ip_batch(&format!(
        "route add 0.0.0.0/0 metric 10 {}\nroute add ::/0 metric 10 {}\n",
        hops(Family::V4),
        hops(Family::V6)
    ));
}

/// Tables 101 and 102 with the ways out and home, and `rules` in both families.
fn tables(lab: &Lab, rules: &str) {
    let mut script = String::new();
    for (isp, table) in lab.isps().iter().zip(101..) {
        let (device, link) = (&isp.device, &isp.link);
        let _ = writeln!(
            script,
            "route add default via {} dev {device} table {table}
             route add 192.0.2.0/24 dev lan table {table}
             route add default via {} dev {device} table {table}
             route add 2001:db8:a::/64 dev lan table {table}",
            link.gateway4, link.gateway6
        );
    }
    lab.router().ip_batch(&script);
    lab.router().ip_batch(rules);
    lab.router().feed("ip", &["-6", "-batch", "-"], rules);
}

/// The mangle table of mwan3 with two members of equal weight in one policy.
fn mwan3(networks: &[&str]) -> String {
    let mut text = String::from("*mangle\n");
    for chain in ["hook", "ifaces_in", "iface_in_wan1", "iface_in_wan2", "connected", "rules", "policy_balanced"] {
        let _ = writeln!(text, ":mwan3_{chain} - [0:0]");
    }
    let unmarked = "-m mark --mark 0x0/0x3f00";
    for network in networks {
        let _ = writeln!(text, "-A mwan3_connected -d {network} -j MARK --set-xmark 0x3f00/0x3f00");
    }
    for number in [1, 2] {
        let _ = writeln!(
            text,
            "-A mwan3_iface_in_wan{number} -i wan{number} {unmarked} -j MARK --set-xmark 0x{number}00/0x3f00
-A mwan3_ifaces_in {unmarked} -j mwan3_iface_in_wan{number}"
        );
    }
    let _ = write!(
        text,
        "-A mwan3_policy_balanced {unmarked} -m statistic --mode random --probability 0.5 -j MARK --set-xmark 0x100/0x3f00
-A mwan3_policy_balanced {unmarked} -j MARK --set-xmark 0x200/0x3f00
-A mwan3_rules {unmarked} -j mwan3_policy_balanced
-A mwan3_hook -j CONNMARK --restore-mark --nfmask 0x3f00 --ctmask 0x3f00
-A mwan3_hook {unmarked} -j mwan3_ifaces_in
-A mwan3_hook {unmarked} -j mwan3_connected
-A mwan3_hook {unmarked} -j mwan3_rules
-A mwan3_hook -j CONNMARK --save-mark --nfmask 0x3f00 --ctmask 0x3f00
-A mwan3_hook -m mark ! --mark 0x3f00/0x3f00 -j mwan3_connected
-A PREROUTING -j mwan3_hook
-A OUTPUT -j mwan3_hook
COMMIT
*nat
-A POSTROUTING -o wan1 -j MASQUERADE
-A POSTROUTING -o wan2 -j MASQUERADE
COMMIT
"
    );
    text
}
