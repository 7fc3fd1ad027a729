//! The properties of the menus in which abbreviations and typing errors matter.

/// Properties that many menus share.
pub const ALWAYS: &str = "comment copy-from disabled numbers place-before";

/// Those of [`ALWAYS`] that only some commands take.
pub const SOMETIMES: &[&str] = &["copy-from", "numbers", "place-before"];

const MATCHERS: &str = "action address-list address-list-timeout chain connection-bytes connection-limit \
    connection-mark connection-nat-state connection-rate connection-state connection-type content dscp dst-address \
    dst-address-list dst-address-type dst-limit dst-port fragment headers hop-limit hotspot icmp-options \
    in-bridge-port in-bridge-port-list in-interface in-interface-list ingress-priority ipsec-policy ipv4-options \
    jump-target layer7-protocol limit log log-prefix nth out-bridge-port out-bridge-port-list out-interface \
    out-interface-list p2p packet-mark packet-size per-connection-classifier port priority protocol psd random realm \
    routing-mark routing-table src-address src-address-list src-address-type src-mac-address src-port tcp-flags \
    tcp-mss time tls-host ttl";

const MANGLE: &str = "dst-prefix new-connection-mark new-dscp new-hop-limit new-mss new-packet-mark new-priority \
    new-routing-mark new-ttl passthrough route-dst sniff-id sniff-target sniff-target-port src-prefix";

const NAT: &str = "randomise-ports same-not-by-dst socks5-password socks5-port socks5-server socks5-username \
    to-address to-addresses to-ports";

const ROUTE: &str = "bgp-as-path bgp-atomic-aggregate bgp-communities bgp-local-pref bgp-med bgp-origin bgp-prepend \
    blackhole check-gateway distance dst-address gateway pref-src route-tag routing-mark routing-table scope \
    suppress-hw-offload target-scope type vrf-interface";

const RULE: &str = "action chain dst-address interface min-prefix routing-mark src-address table";

/// Menu, its properties, and whether these are all, so that another one is a mistake.
pub const PROPERTIES: &[(&str, &[&str], bool)] = &[
    ("interface", &["l2mtu mtu name"], false),
    ("interface bridge", &["admin-mac arp auto-mac fast-forward mtu name protocol-mode vlan-filtering"], false),
    ("interface bridge port", &["bridge hw interface pvid"], false),
    ("interface ethernet", &["arp auto-negotiation default-name l2mtu mac-address mtu name speed"], false),
    ("interface list", &["exclude include name"], true),
    ("interface list member", &["interface list"], true),
    (
        "interface pppoe-client",
        &["ac-name add-default-route allow default-route-distance dial-on-demand \
        host-uniq interface keepalive-timeout max-mru max-mtu mrru name password profile service-name use-peer-dns user"],
        true,
    ),
    ("interface vlan", &["arp interface mtu name use-service-tag vlan-id"], false),
    (
        "interface vrrp",
        &["arp authentication interface interval mtu name on-backup on-fail on-master password preemption-mode \
        priority version vrid"],
        false,
    ),
    ("ip address", &["address broadcast interface netmask network vrf"], true),
    (
        "ip dhcp-client",
        &[
            "add-default-route allow-reconfigure-messages check-gateway client-id default-route-distance default-route-tables \
        dhcp-options dscp host-name interface name script use-broadcast use-peer-dns use-peer-ntp vlan-priority",
        ],
        true,
    ),
    (
        "ip dns",
        &["address-list-extra-time allow-remote-requests cache-max-ttl cache-size doh-max-concurrent-queries \
        doh-max-server-connections doh-timeout max-concurrent-queries max-concurrent-tcp-sessions max-udp-packet-size \
        mdns-repeat-ifaces query-server-timeout query-total-timeout servers use-doh-server verify-doh-cert vrf"],
        false,
    ),
    ("ip firewall address-list", &["address dynamic list timeout"], true),
    ("ip firewall filter", &[MATCHERS, "hw-offload reject-with"], true),
    ("ip firewall mangle", &[MATCHERS, MANGLE], true),
    ("ip firewall nat", &[MATCHERS, NAT], true),
    ("ip firewall raw", &[MATCHERS], true),
    ("ip route", &[ROUTE], true),
    ("ip route rule", &[RULE], true),
    ("ip route vrf", &["export-route-targets import-route-targets interfaces route-distinguisher routing-mark"], true),
    (
        "ip settings",
        &[
            "accept-redirects accept-source-route allow-fast-path arp-timeout icmp-errors-use-inbound-interface-address \
        icmp-rate-limit icmp-rate-mask ip-forward ipv4-multipath-hash-policy max-neighbor-entries route-cache rp-filter secure-redirects \
        send-redirects tcp-syncookies tcp-timestamps",
        ],
        false,
    ),
    ("ip vrf", &["interfaces name"], true),
    ("ipv6 address", &["address advertise auto-link-local eui-64 from-pool interface no-dad"], false),
    ("ipv6 firewall address-list", &["address dynamic list timeout"], true),
    ("ipv6 firewall filter", &[MATCHERS, "reject-with"], true),
    ("ipv6 firewall mangle", &[MATCHERS, MANGLE], true),
    ("ipv6 firewall nat", &[MATCHERS, NAT], true),
    ("ipv6 firewall raw", &[MATCHERS], true),
    ("ipv6 route", &[ROUTE], true),
    (
        "ppp profile",
        &["change-tcp-mss dns-server local-address name on-down on-up only-one remote-address use-encryption"],
        false,
    ),
    ("routing rule", &[RULE], true),
    (
        "routing settings",
        &["check-gateway-ping-count check-gateway-ping-interval check-gateway-ping-timeout policy-rules \
        single-process"],
        false,
    ),
    ("routing table", &["fib name"], true),
    ("system scheduler", &["interval name on-event policy start-date start-time"], true),
    ("system script", &["dont-require-permissions name owner policy source"], true),
    (
        "tool netwatch",
        &["accept-icmp-time-exceeded certificate check-certificate dns-server down-script early-failure-detection \
        early-success-detection host http-codes http-method ignore-initial-down ignore-initial-up interval name packet-count packet-interval packet-size port record-type src-address \
        start-delay startup-delay test-script thr-avg thr-http-time thr-jitter thr-loss-count thr-loss-percent thr-max \
        thr-stdev thr-tcp-conn-time timeout ttl type up-script"],
        true,
    ),
];
