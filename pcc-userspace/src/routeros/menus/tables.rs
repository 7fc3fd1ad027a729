//! The words of RouterOS.

pub const VERBS: &[&str] = &[
    "add", "comment", "disable", "edit", "enable", "export", "find", "get", "move", "print", "remove", "reset", "set",
    "unset",
];

pub const ROOT_VERBS: &[&str] = &["export", "import", "password", "ping", "quit", "redo", "undo"];

/// Commands of some menus, in full words only.
pub const MORE_VERBS: &[&str] = &[
    "bandwidth-test",
    "beep",
    "blink",
    "cable-test",
    "check-for-updates",
    "debug",
    "download",
    "error",
    "fetch",
    "flush",
    "import",
    "info",
    "install",
    "make-static",
    "monitor",
    "monitor-traffic",
    "netwatch-probe",
    "ping",
    "reboot",
    "release",
    "renew",
    "reset-configuration",
    "reset-counters",
    "reset-counters-all",
    "reset-html",
    "reset-mac-address",
    "run",
    "save",
    "scan",
    "send",
    "send-code",
    "setup",
    "shutdown",
    "sign",
    "torch",
    "traceroute",
    "upgrade",
    "warning",
    "wol",
];

/// Menus that hold only menus.
pub const DIRECTORIES: &[&str] = &[
    "interface bridge msti",
    "ip",
    "ip firewall",
    "ip hotspot",
    "ip ipsec",
    "ipv6",
    "ipv6 firewall",
    "mpls",
    "ppp",
    "routing",
    "system",
    "tool",
];

/// Menus and the menus right below them: those of RouterOS 6 and 7 that a multi-WAN router is likely to use, and all at
/// the root.
pub const MENUS: &[(&str, &str)] = &[
    (
        "",
        "caps-man certificate console container disk dude file interface iot ip ipv6 log lora mpls openflow \
        partitions port ppp queue radius routing rsync-daemon snmp special-login system task tool tr069-client user \
        user-manager zerotier",
    ),
    (
        "caps-man",
        "aaa access-list actual-interface-configuration channel configuration datapath interface manager provisioning \
        radio rates registration-table security",
    ),
    ("caps-man manager", "interface"),
    ("certificate", "crl scep-server settings"),
    ("container", "config envs mounts"),
    ("dude", "server"),
    ("file", "rsync-daemon sync"),
    (
        "interface",
        "6to4 amt bonding bridge detect-internet dot1x eoip eoipv6 ethernet gre gre6 ipip ipipv6 isdn-channels \
        l2tp-client l2tp-ether l2tp-server list lte macsec macvlan mesh ovpn-client ovpn-server ppp-client \
        ppp-server pppoe-client pppoe-server pptp-client pptp-server sstp-client sstp-server traffic-eng veth \
        virtual-ethernet vlan vpls vrrp vxlan w60g wifi wifiwave2 wireguard wireless",
    ),
    ("interface bridge", "calea filter host mdb msti nat port port-controller port-extender settings vlan"),
    ("interface ethernet", "poe switch"),
    ("interface ethernet switch", "acl host port port-isolation rule vlan"),
    ("interface l2tp-server", "server"),
    ("interface list", "member"),
    ("interface lte", "apn esim settings"),
    ("interface ovpn-server", "server"),
    ("interface pppoe-server", "server"),
    ("interface pptp-server", "server"),
    ("interface sstp-server", "server"),
    ("interface vxlan", "vteps"),
    (
        "interface wifi",
        "aaa access-list cap capsman channel configuration datapath provisioning registration-table security",
    ),
    ("interface wireguard", "peers"),
    (
        "interface wireless",
        "access-list align cap channels connect-list interworking-profiles manual-tx-power-table nstreme \
        registration-table security-profiles sniffer snooper",
    ),
    ("iot", "bluetooth gpio lora modbus mqtt"),
    (
        "ip",
        "accounting address api arp cloud dhcp-client dhcp-relay dhcp-server dns firewall hotspot ipsec kid-control \
        media nat-pmp neighbor packing pool proxy reverse-proxy route service settings smb socks ssh tftp \
        traffic-flow upnp vrf web-proxy",
    ),
    ("ip cloud", "advanced back-to-home-file back-to-home-user"),
    ("ip dhcp-client", "option"),
    ("ip dhcp-server", "alert config lease matcher network option option-set vendor-class-id"),
    ("ip dhcp-server option", "sets"),
    ("ip dns", "adlist cache forwarders static"),
    ("ip firewall", "address-list calea connection filter layer7-protocol mangle nat raw service-port"),
    ("ip firewall connection", "tracking"),
    ("ip hotspot", "active cookie host ip-binding profile service-port ssl user walled-garden"),
    ("ip hotspot user", "profile"),
    ("ip hotspot walled-garden", "ip"),
    (
        "ip ipsec",
        "active-peers identity installed-sa key mode-config peer policy profile proposal remote-peers settings \
        statistics user",
    ),
    ("ip ipsec policy", "group"),
    ("ip neighbor", "discovery discovery-settings"),
    ("ip pool", "used"),
    ("ip proxy", "access cache cache-contents connections direct"),
    ("ip route", "cache nexthop rule vrf"),
    ("ip service", "webserver"),
    ("ip smb", "shares users"),
    ("ip traffic-flow", "ipfix target"),
    ("ip upnp", "interfaces"),
    ("ipv6", "address dhcp-client dhcp-relay dhcp-server firewall nd neighbor pool route settings"),
    ("ipv6 dhcp-client", "option"),
    ("ipv6 dhcp-server", "binding option"),
    ("ipv6 firewall", "address-list connection filter mangle nat raw"),
    ("ipv6 nd", "prefix proxy"),
    ("ipv6 nd prefix", "default"),
    ("lora", "channels servers"),
    ("mpls", "forwarding-table interface ldp local-bindings remote-bindings settings traffic-eng vpls"),
    ("port", "firmware remote-access"),
    ("ppp", "aaa active l2tp-secret profile secret"),
    ("queue", "interface simple tree type"),
    ("radius", "incoming"),
    (
        "routing",
        "bfd bgp fantasy filter gmp id igmp-proxy isis mme nexthop ospf ospf-v3 pcep pimsm prefix-lists rip ripng \
        route router rpki rule settings stats table",
    ),
    ("routing bfd", "configuration interface neighbor session"),
    ("routing bgp", "aggregate connection evpn instance network peer session template vpls vpn"),
    (
        "routing filter",
        "chain community-ext-list community-large-list community-list num-list rule select-chain select-rule",
    ),
    ("routing igmp-proxy", "interface mfc"),
    (
        "routing ospf",
        "area area-range instance interface interface-template lsa nbma-neighbor neighbor network static-neighbor \
        virtual-link",
    ),
    ("routing ospf area", "range"),
    ("routing pimsm", "instance interface-template"),
    ("routing rip", "instance interface interface-template keys neighbor network route static-neighbor"),
    ("snmp", "community"),
    (
        "system",
        "backup clock console default-configuration device-mode gps hardware health history identity lcd leds license \
        logging note ntp package ptp resource routerboard scheduler script serial-terminal sntp special-login swos \
        telnet upgrade ups watchdog",
    ),
    ("system clock", "manual"),
    ("system console", "screen"),
    ("system leds", "settings"),
    ("system logging", "action"),
    ("system ntp", "client server"),
    ("system ntp client", "servers"),
    ("system package", "local-update update"),
    ("system resource", "cpu irq usb"),
    ("system resource irq", "rps"),
    ("system routerboard", "mode-button reset-button settings usb wps-button"),
    ("system script", "environment job"),
    ("system upgrade", "mirror upgrade-package-source"),
    (
        "tool",
        "bandwidth-server calea dns-update e-mail graphing mac-scan mac-server netwatch packet-generator profile \
        romon rpc sms sniffer speed-test traffic-generator traffic-monitor user-manager",
    ),
    ("tool graphing", "interface queue resource"),
    ("tool mac-server", "mac-winbox ping sessions"),
    ("tool romon", "port"),
    ("user", "aaa active group settings ssh-keys"),
    ("user-manager", "advanced attribute database limitation payment profile router session user"),
    ("zerotier", "controller interface peer"),
];
