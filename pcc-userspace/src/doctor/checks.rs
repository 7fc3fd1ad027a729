//! Everything that is looked at, in the order of the README.

use super::Scope::{Configuration, Host};
use super::Severity::{Advice, Problem};
use super::{Check, Scope, Severity};

mod devices;
mod firewall;
mod forwarding;
mod kernel;
mod marks;
mod others;
mod remains;
mod routes;
mod uplinks;

type Examine = fn(&super::Facts) -> Option<Vec<super::Case>>;

const fn check(id: &'static str, severity: Severity, scope: Scope, meaning: &'static str, examine: Examine) -> Check {
    Check { id, severity, scope, meaning, examine }
}

/// All checks.
pub const CHECKS: &[Check] = &[
    check("tool-missing", Problem, Host, "a program that pcc calls is not installed", kernel::tools),
    check("bpffs-missing", Problem, Host, "no BPF file system: the data path cannot be kept", kernel::bpffs),
    check(
        "btf-missing",
        Advice,
        Host,
        "the kernel tells no types (BTF); a problem if it refuses the programs",
        kernel::btf,
    ),
    check(
        "programs-refused",
        Problem,
        Host,
        "the kernel refuses pcc's programs when it is asked to load them",
        kernel::programs,
    ),
    check("table-refused", Problem, Host, "nft or the kernel lacks what pcc's table needs", kernel::table),
    check(
        "tcx-missing",
        Advice,
        Host,
        "a kernel before 6.6: filters in a clsact qdisc take the place of TCX",
        kernel::tcx,
    ),
    check("cgroup2-missing", Advice, Host, "bound sockets of the router cannot be told from others", kernel::cgroup2),
    check(
        "forwarding-off",
        Advice,
        Host,
        "the router passes nothing on unless pcc runs, or not even then (a problem)",
        forwarding::off,
    ),
    check(
        "rp-filter-strict",
        Advice,
        Configuration,
        "packets that come in by an uplink vanish if main routes their source elsewhere",
        forwarding::rp_filter,
    ),
    check(
        "ra-ignored",
        Advice,
        Configuration,
        "an uplink gets no IPv6: a router ignores router advertisements",
        forwarding::advertisements,
    ),
    check(
        "redirects-accepted",
        Advice,
        Configuration,
        "whoever is on an uplink's network may change routes",
        forwarding::redirects,
    ),
    check("mark-rule", Problem, Host, "a routing rule uses pcc's mark bits: connections take wrong ways", marks::rule),
    check("mark-nft", Problem, Host, "a rule of nftables uses pcc's mark bits", marks::nft),
    check("mark-iptables", Problem, Host, "a rule of iptables uses pcc's mark bits", marks::iptables),
    check("mark-whole", Advice, Host, "a rule matches or sets the whole mark, as wg-quick's do", marks::whole),
    check("tables-taken", Problem, Host, "somebody else's routes or rules stand where pcc's would", routes::taken),
    check(
        "rule-before",
        Advice,
        Host,
        "a routing rule sends packets elsewhere before pcc's rules are asked",
        routes::before,
    ),
    check(
        "default-elsewhere",
        Advice,
        Configuration,
        "main's default route leads over a device that is no uplink",
        routes::elsewhere,
    ),
    check(
        "default-multipath",
        Advice,
        Host,
        "the kernel balances as well: a default route has several next hops",
        routes::multipath,
    ),
    check("device-missing", Problem, Configuration, "a device of the configuration does not exist", devices::missing),
    check("device-down", Problem, Configuration, "a device is switched off, or has no carrier", devices::down),
    check(
        "device-enslaved",
        Problem,
        Configuration,
        "a device is a port of a bridge, bond or VRF, which gets its packets",
        devices::enslaved,
    ),
    check(
        "lan-without-address",
        Problem,
        Configuration,
        "a LAN device has no address that clients could use as gateway",
        devices::lan_address,
    ),
    check(
        "uplink-without-address",
        Problem,
        Configuration,
        "an uplink has no address: its DHCP or PPP has not succeeded",
        uplinks::address,
    ),
    check(
        "gateway-missing",
        Problem,
        Configuration,
        "an uplink has neither a default route nor a gateway",
        uplinks::gateway,
    ),
    check("gateway-off-link", Problem, Configuration, "a gateway is in no network of its uplink", uplinks::off_link),
    check("gateway-bypassed", Problem, Configuration, "`bypass` covers the gateway of an uplink", uplinks::bypassed),
    check(
        "gateway-shared",
        Advice,
        Configuration,
        "two uplinks lead to the same next hop: they fail together",
        uplinks::shared_gateway,
    ),
    check(
        "address-shared",
        Problem,
        Configuration,
        "two devices have the same address: answers go astray",
        uplinks::shared_address,
    ),
    check(
        "networks-overlap",
        Problem,
        Configuration,
        "a network is on two devices: main reaches it by the first alone",
        uplinks::overlap,
    ),
    check("mtu-too-small", Problem, Configuration, "an uplink with an MTU below 1280 has no IPv6", devices::small_mtu),
    check(
        "mtu-unclamped",
        Advice,
        Configuration,
        "an uplink's MTU is below a LAN's: some web pages hang",
        devices::unclamped,
    ),
    check(
        "mtu-pppoe",
        Problem,
        Configuration,
        "a PPPoE session has no room for its header: large packets are lost",
        devices::pppoe,
    ),
    check(
        "lro-on",
        Problem,
        Configuration,
        "a network card merges packets for good (LRO): they are too large to be passed on",
        devices::lro,
    ),
    check(
        "bridge-netfilter",
        Advice,
        Configuration,
        "a bridge shows packets to netfilter before pcc: no shortcuts, no flow cache",
        devices::bridge_netfilter,
    ),
    check(
        "conntrack-full",
        Problem,
        Host,
        "conntrack's table is nearly full: new connections will be dropped",
        firewall::conntrack_full,
    ),
    check(
        "conntrack-acct-off",
        Advice,
        Host,
        "conntrack counts no bytes: connections have no volume",
        firewall::accounting,
    ),
    check(
        "conntrack-loose-off",
        Advice,
        Host,
        "after fail-over clients are not told: packets of unknown connections leave untranslated",
        firewall::loose,
    ),
    check("flowtable", Advice, Host, "packets in an nftables flowtable go around pcc's rules", firewall::flowtable),
    check("forward-drops", Problem, Host, "a firewall drops all that is forwarded", firewall::forward_drops),
    check("docker-drops", Problem, Configuration, "Docker's firewall drops what comes from a LAN", firewall::docker),
    check(
        "no-shortcuts",
        Advice,
        Configuration,
        "a rule must see every packet: all of them go through the stack",
        firewall::no_shortcuts,
    ),
    check("mwan3", Problem, Host, "another balancer, mwan3, gives connections to uplinks", others::mwan3),
    check("keepalived", Advice, Host, "keepalived moves addresses and routes", others::keepalived),
    check(
        "networkd",
        Problem,
        Host,
        "systemd-networkd removes pcc's routes and rules whenever it starts",
        others::networkd,
    ),
    check(
        "network-manager",
        Advice,
        Configuration,
        "NetworkManager changes the default routes of an uplink",
        others::network_manager,
    ),
    check("journal-damaged", Problem, Host, "the note of what has to be restored cannot be read", remains::damaged),
    check(
        "controller-gone",
        Problem,
        Host,
        "a data path runs that nobody watches: its controller crashed or was stopped with `--keep`",
        remains::crashed,
    ),
    check("stale-pins", Advice, Host, "the data path of another version of pcc was left behind", remains::stale),
];
