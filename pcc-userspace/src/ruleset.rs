//! Pure: our nftables table.
//!
//! Its rules never change while it stands; only elements of named sets and maps do. Replacing rules that hold anonymous
//! verdict maps lets packets slip past them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::config::{Config, Mss, Nat};
use crate::host::Family;
use crate::own_traffic;
use crate::plan::Standing;
use crate::sources::UsualSources;
use crate::topology::{Topology, Uplink};

/// Raised whenever the rules below change, so that a start replaces a table of another version.
pub const VERSION: u32 = 7;

/// What the elements follow from.
#[derive(Clone, Copy, Debug)]
pub struct State<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// It laid over the host.
    pub topology: &'a Topology,
    /// What the uplinks are good for.
    pub standing: &'a Standing,
    /// Uplinks, by id, whose TCP connections are answered by a reset.
    pub ending: &'a BTreeSet<(u32, Family)>,
    /// Weights in force by uplink id.
    pub weights: &'a BTreeMap<u32, u32>,
    /// Where answers of the router come from.
    pub sources: &'a UsualSources,
}

/// Name of the table in family `inet`.
pub fn table_name(instance: &str) -> String {
    if instance == "default" { "pcc".to_owned() } else { format!("pcc-{instance}") }
}

/// The table that [`crate::host::guard`] puts beside the table called `table`.
pub fn guard_name(table: &str) -> String {
    format!("{table}-guard")
}

/// The table called `name` is the one called `table`, which is ours, or the one that guards it.
pub fn is_own(table: &str, family: &str, name: &str) -> bool {
    family == "inet" && (name == table || name.strip_prefix(table) == Some("-guard"))
}

/// A table of that name guards one of ours, or one of another instance.
pub fn is_guard(family: &str, name: &str) -> bool {
    family == "inet" && name.starts_with("pcc") && name.ends_with("-guard")
}

/// The comment that tells whether a table that stands there has the rules that [`create`] would make, but for the chains of
/// each uplink, which [`extend`] adds.
pub fn fingerprint(config: &Config) -> String {
    format!("pcc {VERSION} mask {:#x}", config.marks.mask())
}

/// Devices and the largest TCP segments of what is forwarded by them, in IPv4 and IPv6.
pub fn segment_sizes(topology: &Topology) -> Vec<(&str, [u32; 2])> {
    /// Bytes of the headers of IP and TCP.
    const HEADERS: [u32; 2] = [40, 60];
    let size = |uplink: &Uplink| match uplink.config.mss? {
        Mss::Clamp => uplink.link.as_ref().map(|link| HEADERS.map(|bytes| link.mtu.saturating_sub(bytes))),
        Mss::Bytes(bytes) => Some(HEADERS.map(|headers| bytes.saturating_sub(headers - HEADERS[0]))),
    };
    // The option has 16 bits.
    let fits = |sizes: [u32; 2]| sizes.map(|size| size.min(u32::from(u16::MAX)));
    topology.uplinks.iter().filter_map(|it| Some((it.config.device.as_str(), fits(size(it)?)))).collect()
}

/// A chain of our table.
struct Chain {
    name: String,
    /// Where it hangs, if the kernel itself calls it.
    hook: &'static str,
    rules: String,
}

/// What clamps TCP segments. A route's MTU says nothing about answers, so sizes are given, for both directions. The kernel never
/// raises one. Packets pay for it only where it is asked for.
fn clamp() -> [Chain; 2] {
    let rules = [("ipv4", "mss4"), ("ipv6", "mss6")].map(|(family, map)| {
        let [out, back] = ["oifname", "iifname"]
            .map(|device| format!("meta nfproto {family} tcp option maxseg size set {device} map @{map}"));
        format!("{out}; {back}")
    });
    let hook = "type filter hook forward priority mangle + 1; policy accept; ";
    let forward = "tcp flags & (syn | rst) == syn jump clamp".to_owned();
    [
        Chain { name: "clamp".into(), hook: "", rules: rules.join("; ") },
        Chain { name: "forward".into(), hook, rules: forward },
    ]
}

/// Room of a set by device or by uplink. With a size the kernel takes a table that is faster to look up.
const ROOM: u32 = 64;

/// Bits of the status of connections whose packets a helper may change, or whose sequence numbers were moved (`IPS_HELPER`,
/// `IPS_SEQ_ADJUST`). Once they are answered, nothing is learned from them.
const TOUCHED: u32 = 0x2000 | 0x40;

/// One transaction that replaces the table of the instance, whatever stands there, with all its elements.
pub fn create(state: &State<'_>) -> String {
    let config = state.config;
    let name = table_name(&config.instance);
    let marks = config.marks;
    let mut text = format!(
        "table inet {name}
delete table inet {name}
table inet {name} {{
 comment \"{comment}\"
 set wan_links {{ type iface_index; size {ROOM}; }}
 set wans {{ type ifname; size {ROOM}; }}
 set masqueraded {{ type ifname; size {ROOM}; }}
 map commit_id {{ type ifname : verdict; size {ROOM}; }}
 map in_id {{ type ifname : verdict; size {ROOM}; }}
 map forwarded {{ type mark : verdict; size {ROOM}; }}
 map own {{ type mark : verdict; size {ROOM}; }}
 map usual_source4 {{ type ifname : ipv4_addr; }}
 map usual_source6 {{ type ifname : ipv6_addr; }}
 set connected4 {{ type ifname . ipv4_addr; flags interval; }}
 set connected6 {{ type ifname . ipv6_addr; flags interval; }}
 map mss4 {{ typeof oifname : tcp option maxseg size; }}
 map mss6 {{ typeof oifname : tcp option maxseg size; }}
{own_sets}{chains} chain kill {{
  meta l4proto tcp ct status seen-reply tcp flags & rst == 0 reject with tcp reset
 }}
 chain from_uplink {{
  ct mark & {ours:#x} == 0 iifname vmap @commit_id
  iifname vmap @in_id
 }}
 chain untracked {{ type filter hook output priority raw; policy accept;
  meta mark & {mask:#x} == {wake:#x} notrack
 }}
 chain prerouting {{ type filter hook prerouting priority mangle + 1; policy accept;
  iif @wan_links goto from_uplink
  ct mark & {id_mask:#x} vmap @forwarded
  iifname @wans goto from_uplink
  meta mark & {ours:#x} != 0 ct state established meta mark set meta mark & {keep:#x}
 }}
 chain wildcard_udp {{ type nat hook prerouting priority dstnat + 10; policy accept;
  iifname @wans meta l4proto udp fib daddr type local udp dport != {{ 500, 4500 }} jump usual_source
 }}
 chain usual_source {{
  iifname . ip saddr @connected4 return
  iifname . ip6 saddr @connected6 return
  meta nfproto ipv4 socket wildcard 1 dnat ip to iifname map @usual_source4
  meta nfproto ipv6 ip6 daddr != fe80::/10 socket wildcard 1 dnat ip6 to iifname map @usual_source6
 }}
 chain output {{ type route hook output priority mangle + 1; policy accept;
  ct mark & {id_mask:#x} vmap @own
{own_new} }}
 chain commit {{ type filter hook postrouting priority mangle + 1; policy accept;
  ct mark & {ours:#x} == 0 oifname vmap @commit_id
  ct status & {TOUCHED:#x} != 0 ct status seen-reply meta mark set meta mark & {keep:#x}
 }}
 chain translate {{ type nat hook postrouting priority srcnat; policy accept;
  oifname @masqueraded masquerade
 }}
}}
",
        comment = fingerprint(config),
        mask = marks.mask(),
        wake = wake_mark(config),
        id_mask = marks.id_mask(),
        ours = marks.ours(),
        keep = !marks.mask(),
        own_sets = own_traffic::sets(),
        chains = chains(state).iter().map(Chain::whole).collect::<String>(),
        own_new = own_traffic::rules(marks),
    );
    elements(&mut text, state);
    text
}

/// One transaction that gives a table that stands the chains of new uplinks, and replaces the elements.
pub fn extend(state: &State<'_>) -> String {
    let name = table_name(&state.config.instance);
    let chains = chains(state);
    let all = |line: &dyn Fn(&Chain) -> String| -> String { chains.iter().map(line).collect() };
    // A chain that is declared twice would have its rules twice. The new rules are the same words, and plain rules are never
    // missed by a packet.
    format!(
        "table inet {name} {{\n{}}}\n{}table inet {name} {{\n{}}}\n{}",
        all(&Chain::empty),
        all(&|chain| format!("flush chain inet {name} {}\n", chain.name)),
        all(&Chain::whole),
        update(state)
    )
}

impl Chain {
    fn empty(&self) -> String {
        format!(" chain {} {{ {}}}\n", self.name, self.hook)
    }

    fn whole(&self) -> String {
        format!(" chain {} {{ {}{}; }}\n", self.name, self.hook, self.rules)
    }
}

/// One transaction that replaces the elements, and touches no rule.
pub fn update(state: &State<'_>) -> String {
    let name = table_name(&state.config.instance);
    let mut text = String::new();
    for set in ["wan_links", "wans", "masqueraded", "connected4", "connected6"].iter().chain(&own_traffic::SETS) {
        let _ = writeln!(text, "flush set inet {name} {set}");
    }
    let maps = ["commit_id", "in_id", "forwarded", "own", "usual_source4", "usual_source6", "mss4", "mss6"];
    for map in maps.iter().chain(&own_traffic::MAPS) {
        let _ = writeln!(text, "flush map inet {name} {map}");
    }
    elements(&mut text, state);
    text
}

/// The mark of packets that wake clients ([`crate::host::Change::EndConnections`]): conntrack must not see them, and no rule
/// leads them anywhere.
pub fn wake_mark(config: &Config) -> u32 {
    config.marks.ours() | config.marks.confirmed()
}

/// The chains of each uplink, and those that only some configurations need.
fn chains(state: &State<'_>) -> Vec<Chain> {
    let marks = state.config.marks;
    let foreign = !marks.mask();
    let of = |Uplink { id, .. }: &Uplink| {
        let mark = marks.of(*id);
        // The bit `missed` stays: egress tells a lost cache entry from a new connection by it.
        let (kept, restored) = (!(marks.id_mask() | marks.confirmed()), mark | marks.confirmed());
        [
            (format!("save{id}"), format!("ct mark set ct mark & {foreign:#x} | {mark:#x}")),
            (format!("begin{id}"), format!("meta mark set meta mark & {foreign:#x} | {mark:#x}")),
            (format!("restore{id}"), format!("meta mark set meta mark & {kept:#x} | {restored:#x}")),
            (format!("kill4_{id}"), format!("meta nfproto ipv4 goto kill; goto restore{id}")),
            (format!("kill6_{id}"), format!("meta nfproto ipv6 goto kill; goto restore{id}")),
        ]
        .map(|(name, rules)| Chain { name, hook: "", rules })
    };
    let uplinks = &state.topology.uplinks;
    let clamps = uplinks.iter().any(|uplink| uplink.config.mss.is_some());
    uplinks.iter().flat_map(of).chain(clamps.then(clamp).into_iter().flatten()).collect()
}

/// Removes the table. It is created first, so that its absence is no error.
pub fn remove(instance: &str) -> String {
    let name = table_name(instance);
    format!("table inet {name}\ndelete table inet {name}\n")
}

fn elements(text: &mut String, state: &State<'_>) {
    let State { config, topology, standing, ending, sources, .. } = state;
    let name = table_name(&config.instance);
    let mut add = |target: &str, element: String| {
        let _ = writeln!(text, "add element inet {name} {target} {{ {element} }}");
    };
    for uplink in &topology.uplinks {
        let (id, device, mark) = (uplink.id, &uplink.config.device, config.marks.of(uplink.id));
        add("wans", format!("\"{device}\""));
        if let Some(link) = &uplink.link {
            add("wan_links", link.index.to_string());
        }
        if uplink.config.nat == Nat::Masquerade {
            add("masqueraded", format!("\"{device}\""));
        }
        add("commit_id", format!("\"{device}\" : jump save{id}"));
        add("in_id", format!("\"{device}\" : jump restore{id}"));
        let carrying = Family::BOTH.iter().any(|family| standing.carrying.has(*family, id));
        let way = match Family::BOTH.map(|family| ending.contains(&(id, family))) {
            [true, true] => Some("kill".to_owned()),
            [true, false] => Some(format!("kill4_{id}")),
            [false, true] => Some(format!("kill6_{id}")),
            // A connection of a dead uplink follows main until its entry is deleted.
            [false, false] => carrying.then(|| format!("restore{id}")),
        };
        if let Some(chain) = way {
            add("forwarded", format!("{mark:#x} : goto {chain}"));
            add("own", format!("{mark:#x} : goto {chain}"));
        }
        for source in &sources.usual {
            let address = source.address;
            if address.is_ipv4() {
                add("usual_source4", format!("\"{device}\" : {address}"));
            } else if source.uplink != Some(id) {
                // Among several IPv6 addresses of one device the kernel's choice depends on the destination.
                add("usual_source6", format!("\"{device}\" : {address}"));
            }
        }
        for (_, network) in sources.connected.iter().filter(|(uplink, _)| *uplink == id) {
            let set = if network.addr().is_ipv4() { "connected4" } else { "connected6" };
            add(set, format!("\"{device}\" . {network}"));
        }
    }
    for (target, element) in own_traffic::elements(state) {
        add(target, element);
    }
    for (device, sizes) in segment_sizes(topology) {
        for (map, size) in ["mss4", "mss6"].into_iter().zip(sizes) {
            add(map, format!("\"{device}\" : {size}"));
        }
    }
}
