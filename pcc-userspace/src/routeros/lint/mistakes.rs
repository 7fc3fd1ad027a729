//! Mistakes to put into a correct configuration.

use crate::routeros::Severity::{self, Error, Warning};

/// One mistake: what is added behind or replaced in the example, and what must be found where.
pub struct Mistake {
    /// What is replaced in the example.
    pub edits: &'static [(&'static str, &'static str)],
    /// What is added behind it.
    pub added: &'static str,
    /// What must be found.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Part of the line of the finding.
    pub at: &'static str,
}

const fn edit(
    edits: &'static [(&'static str, &'static str)],
    id: &'static str,
    severity: Severity,
    at: &'static str,
) -> Mistake {
    Mistake { edits, added: "", id, severity, at }
}

const fn add(added: &'static str, id: &'static str, severity: Severity, at: &'static str) -> Mistake {
    Mistake { edits: &[], added, id, severity, at }
}

/// Every mistake of the catalogue that is more than information.
pub const MISTAKES: &[Mistake] = &[
    add("/ip firewall filter add chain=forward action=fasttrack-connection", "lint-7.1", Error, "fasttrack"),
    edit(&[("both-addresses:", "both-addresses-and-ports:")], "lint-7.2", Warning, ":2/0"),
    edit(&[("check-gateway=ping routing-table", "routing-table")], "lint-7.4", Error, "to-fibre comment=\"fibre\""),
    edit(&[("check-gateway=ping distance=1", "distance=1")], "lint-7.4", Warning, "comment=\"unmarked\""),
    edit(&[("add gateway=198.18.1.1 ", "add gateway=fibre ")], "lint-7.4", Error, "to-fibre comment=\"fibre\""),
    edit(
        &[(
            "gateway=198.18.1.1 check-gateway=ping routing-table=to-fibre",
            "gateway=203.0.113.1 target-scope=11 check-gateway=ping routing-table=to-fibre",
        )],
        "lint-7.4",
        Error,
        "203.0.113.1",
    ),
    add(
        "/ip dhcp-client\nadd interface=fibre add-default-route=no\nadd interface=cable add-default-route=no",
        "lint-7.5",
        Warning,
        "interface=cable add",
    ),
    edit(&[("/ip route", "/ip dns set servers=198.18.1.53\n/ip route")], "lint-7.5", Warning, "198.18.1.53"),
    edit(
        &[
            ("in-interface=fibre connection-mark=no-mark", "disabled=yes in-interface=fibre connection-mark=no-mark"),
            ("in-interface=cable connection-mark=no-mark", "disabled=yes in-interface=cable connection-mark=no-mark"),
        ],
        "lint-7.6",
        Error,
        "in-interface=lan connection-mark=no-mark dst-address-type=!local",
    ),
    edit(
        &[("in-interface=lan connection-mark=no-mark", "in-interface=lan")],
        "lint-7.6",
        Error,
        "in-interface=lan dst-address-type",
    ),
    edit(
        &[
            ("chain=prerouting in-interface=lan connection-mark=no-mark", "chain=split"),
            (
                "# The router's own",
                "add chain=prerouting in-interface=lan action=jump jump-target=split place-before=1\n# The router's own",
            ),
        ],
        "lint-7.6",
        Error,
        "chain=split dst-address-type",
    ),
    edit(
        &[
            ("chain=prerouting in-interface=fibre", "chain=input in-interface=fibre"),
            ("chain=prerouting in-interface=cable", "chain=input in-interface=cable"),
        ],
        "lint-7.6",
        Warning,
        "chain=input in-interface=fibre",
    ),
    edit(
        &[
            ("chain=prerouting in-interface=fibre", "chain=input in-interface=fibre"),
            (
                "/ip firewall nat",
                "/ip firewall nat\nadd chain=dstnat in-interface=fibre protocol=tcp dst-port=25 action=dst-nat to-addresses=192.0.2.5",
            ),
        ],
        "lint-7.6",
        Error,
        "chain=input in-interface=fibre",
    ),
    edit(
        &[("add chain=prerouting in-interface=lan dst-address-list", "add chain=prerouting dst-address-list")],
        "lint-7.6",
        Error,
        "not balanced",
    ),
    edit(
        &[(
            "add chain=output connection-mark=by-cable",
            "add chain=output connection-mark=by-fibre dst-address=0.0.0.0/0",
        )],
        "lint-7.6",
        Error,
        "in-interface=cable connection-mark=no-mark",
    ),
    edit(
        &[(
            "new-connection-mark=by-cable comment=\"other half\"",
            "new-connection-mark=By-Cable comment=\"other half\"",
        )],
        "lint-7.7",
        Error,
        "By-Cable",
    ),
    edit(
        &[
            ("output connection-mark=by-cable", "output connection-mark=by-fibre"),
            ("to-fibre passthrough=no", "to-fibre"),
        ],
        "lint-7.7",
        Error,
        "output connection-mark=by-fibre action=mark-routing new-routing-mark=to-cable",
    ),
    edit(
        &[(
            "connection-mark=by-cable action=mark-routing new-routing-mark=to-cable",
            "connection-mark=by-cable action=mark-routing new-routing-mark=to-fibre",
        )],
        "lint-7.7",
        Error,
        "by-cable action=mark-routing new-routing-mark=to-fibre",
    ),
    edit(&[("add name=to-cable fib", "")], "lint-7.8", Error, "to-cable"),
    edit(&[("add name=to-cable fib", "add name=to-cable")], "lint-7.8", Error, "add name=to-cable"),
    edit(
        &[("routing-table=to-cable comment=\"cable\"", "routing-mark=to-cable comment=\"cable\"")],
        "lint-7.8",
        Error,
        "routing-mark=to-cable comment",
    ),
    edit(
        &[("dst-address-type=!local", ""), ("add list=connected address=192.0.2.0/24", "")],
        "lint-7.9",
        Error,
        "connection-mark=no-mark",
    ),
    edit(
        &[("/routing table", "add address=10.30.0.1/24 interface=ether4\n/routing table")],
        "lint-7.10",
        Error,
        "in-interface=lan connection-mark=no-mark",
    ),
    edit(
        &[("add list=connected address=198.18.2.0/24", ""), ("198.18.2", "192.168.7")],
        "lint-7.10",
        Warning,
        "in-interface=lan connection-mark=no-mark",
    ),
    edit(
        &[("in-interface=lan connection-mark=by-fibre", "connection-mark=by-fibre")],
        "lint-7.11",
        Error,
        "prerouting connection-mark=by-fibre",
    ),
    edit(
        &[("chain=output connection-mark=by-fibre", "chain=forward connection-mark=by-fibre")],
        "lint-7.11",
        Error,
        "chain=forward",
    ),
    edit(
        &[("out-interface=fibre action=masquerade", "out-interface=fibre action=src-nat to-addresses=198.18.1.2")],
        "lint-7.12",
        Warning,
        "src-nat",
    ),
    add(
        "/tool netwatch add host=203.0.113.9 down-script=\"/ip route disable [find comment=fibre]\"",
        "lint-7.14",
        Warning,
        "netwatch",
    ),
    edit(
        &[(
            "/ip firewall nat",
            "add dst-address=203.0.113.1/32 gateway=198.18.1.1\nadd gateway=203.0.113.1 target-scope=30 check-gateway=ping distance=7\n/ip firewall nat",
        )],
        "lint-7.14",
        Warning,
        "add dst-address=203.0.113.1/32",
    ),
    add(
        "/ip dns set servers=9.9.9.9\n/ip route add dst-address=9.9.9.9/32 gateway=198.18.1.1\n/tool netwatch add host=9.9.9.9 down-script=\"/ip route disable [find comment=fibre]\"",
        "lint-7.15",
        Warning,
        "netwatch",
    ),
    add(
        "/ip firewall mangle add chain=forward protocol=tcp tcp-flags=syn action=change-mss new-mss=1440",
        "lint-7.16",
        Warning,
        "change-mss",
    ),
    add(
        "/ppp profile add name=plain change-tcp-mss=no\n/interface pppoe-client add name=dsl interface=ether7 profile=plain disabled=no",
        "lint-7.16",
        Warning,
        "name=dsl",
    ),
    add(
        "/ip ipsec policy add dst-address=10.99.0.0/24 src-address=192.0.2.0/24 tunnel=yes",
        "lint-7.17",
        Warning,
        "out-interface=fibre",
    ),
    add(
        "/ip firewall nat add chain=dstnat dst-address=198.18.1.2 protocol=tcp dst-port=80 action=dst-nat to-addresses=192.0.2.5",
        "lint-7.18",
        Warning,
        "dstnat",
    ),
    add("/ip settings set rp-filter=strict", "lint-7.19", Warning, "rp-filter"),
    edit(&[("both-addresses:2/1", "both-addresses:3/1")], "lint-7.20", Warning, "3/1"),
    edit(&[("both-addresses:2/1", "both-addresses:2/0")], "lint-7.20", Warning, "2/0"),
    edit(&[("both-addresses:2/1", "both-addresses:2/2")], "lint-7.20", Warning, "2/2"),
    edit(&[("both-addresses:2/1", "src-address:2/1")], "lint-7.20", Warning, "src-address:2/1"),
    edit(&[("both-addresses:", "both-ports:")], "lint-7.20", Warning, "both-ports:2/0"),
    edit(
        &[(
            "add chain=prerouting in-interface=lan dst-address-list",
            "add chain=prerouting in-interface=cable action=accept\nadd chain=prerouting in-interface=lan dst-address-list",
        )],
        "lint-7.21",
        Warning,
        "in-interface=cable connection-mark=no-mark",
    ),
    edit(
        &[(
            "new-connection-mark=by-fibre comment=\"half\"",
            "new-connection-mark=by-fibre passthrough=no comment=\"half\"",
        )],
        "lint-7.21",
        Warning,
        "in-interface=lan connection-mark=no-mark",
    ),
    add("/ip firewall mangle add chain=spare action=accept", "lint-7.21", Warning, "chain=spare"),
    edit(
        &[("distance=2 comment=\"unmarked, backup\"", "comment=\"unmarked, backup\"")],
        "lint-7.22",
        Warning,
        "unmarked, backup",
    ),
    add("/ip firewall mangle add chain=forward in-interface=ether1 action=log", "lint-7.24", Warning, "action=log"),
    add(
        "/interface bridge add name=br\n/interface bridge port add bridge=br interface=ether9\n/ip firewall mangle add chain=forward in-interface=ether9 action=log",
        "lint-7.24",
        Warning,
        "action=log",
    ),
    add(
        "/interface list add name=LAN\n/ip firewall mangle add chain=forward in-interface-list=Lan action=log",
        "lint-7.24",
        Warning,
        "action=log",
    ),
    edit(
        &[("out-interface=fibre action=masquerade", "action=masquerade")],
        "lint-7.25",
        Warning,
        "chain=srcnat action=masquerade",
    ),
    add("/ip hotspot add name=hs interface=lan", "lint-7.26", Warning, "hotspot"),
    edit(
        &[(
            "add gateway=198.18.2.1 check-gateway=ping routing-table=to-cable",
            "add gateway=198.18.1.1 check-gateway=ping routing-table=to-cable",
        )],
        "lint-7.28",
        Warning,
        "routing-table=to-fibre comment=\"fibre\"",
    ),
    edit(
        &[(
            "add address=198.18.2.2/24 interface=cable",
            "/ip dhcp-client add interface=cable add-default-route=no use-peer-dns=no",
        )],
        "lint-7.28",
        Warning,
        "198.18.2.1 ",
    ),
    edit(
        &[("dst-address-type=!local \\\n    per", "dst-address-type=!local protocol=tcp \\\n    per")],
        "lint-7.29",
        Warning,
        "protocol=tcp",
    ),
    add("/ip firewall nat remove [find]", "lint-7.30", Warning, "remove"),
];
