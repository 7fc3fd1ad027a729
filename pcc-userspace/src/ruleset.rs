//! Pure: our nftables table.
//!
//! Its rules never change while it stands; only elements of named sets and maps do. Replacing rules that hold anonymous
//! verdict maps lets packets slip past them.

use std::fmt::Write as _;

use crate::config::{Config, Mss, Nat};
use crate::host::Family;
use crate::own_traffic::{self, Taking};
use crate::plan::Live;
use crate::sources::UsualSources;
use crate::topology::{Topology, Uplink};

/// Raised whenever the rules below change, so that a start replaces a table of another version.
pub const VERSION: u32 = 4;

/// Name of the table in family `inet`.
pub fn table_name(instance: &str) -> String {
    if instance == "default" { "pcc".to_owned() } else { format!("pcc-{instance}") }
}

/// The comment that tells whether a table that stands there has the rules that [`create`] would make.
pub fn fingerprint(config: &Config, topology: &Topology) -> String {
    let ids: Vec<String> = topology.uplinks.iter().map(|uplink| uplink.id.to_string()).collect();
    let clamp = if clamps(config) { " clamp" } else { "" };
    format!("pcc {VERSION} mask {:#x} uplinks {}{clamp}", config.marks.mask(), ids.join(","))
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

fn clamps(config: &Config) -> bool {
    config.uplinks.iter().any(|uplink| uplink.mss.is_some())
}

/// A route's MTU says nothing about answers, so sizes are given, for both directions. The kernel never raises one.
const CLAMP: &str = " map mss4 { typeof oifname : tcp option maxseg size; }
 map mss6 { typeof oifname : tcp option maxseg size; }
 chain clamp {
  meta nfproto ipv4 tcp option maxseg size set oifname map @mss4
  meta nfproto ipv4 tcp option maxseg size set iifname map @mss4
  meta nfproto ipv6 tcp option maxseg size set oifname map @mss6
  meta nfproto ipv6 tcp option maxseg size set iifname map @mss6
 }
 chain forward { type filter hook forward priority mangle + 1; policy accept;
  tcp flags & (syn | rst) == syn jump clamp
 }
";

/// One transaction that replaces the table of the instance, whatever stands there, with all its elements.
pub fn create(config: &Config, topology: &Topology, live: &Live, taking: Taking<'_>, sources: &UsualSources) -> String {
    let name = table_name(&config.instance);
    let marks = config.marks;
    let (mask, id_mask) = (marks.mask(), marks.id_mask());
    let mut text = format!("table inet {name}\ndelete table inet {name}\ntable inet {name} {{\n");
    let mut line = |text_line: String| {
        text.push_str(&text_line);
        text.push('\n');
    };
    line(format!(" comment \"{}\"", fingerprint(config, topology)));
    line(" set wans { type ifname; }".into());
    line(" set masqueraded { type ifname; }".into());
    line(" map commit_id { type ifname : verdict; }".into());
    line(" map in_id { type ifname : verdict; }".into());
    line(" map forwarded { type mark : verdict; }".into());
    line(" map own { type mark : verdict; }".into());
    line(" map usual_source4 { type ifname : ipv4_addr; }".into());
    line(" map usual_source6 { type ifname : ipv6_addr; }".into());
    line(" set connected4 { type ifname . ipv4_addr; flags interval; }".into());
    line(" set connected6 { type ifname . ipv6_addr; flags interval; }".into());
    if clamps(config) {
        line(CLAMP.trim_end().into());
    }
    for uplink in &topology.uplinks {
        let id = uplink.id;
        line(format!(" chain save{id} {{ ct mark set ct mark & {:#x} | {:#x}; }}", !mask, marks.of(id)));
        // The bit `missed` stays: egress tells a lost cache entry from a new connection by it.
        line(format!(
            " chain restore{id} {{ meta mark set meta mark & {:#x} | {:#x}; }}",
            !(id_mask | marks.confirmed()),
            marks.of(id) | marks.confirmed()
        ));
        line(format!(" chain begin{id} {{ meta mark set meta mark & {:#x} | {:#x}; }}", !mask, marks.of(id)));
    }
    line(own_traffic::sets().trim_end().into());
    line(format!(
        " chain from_uplink {{
  ct mark & {ours:#x} == 0 iifname vmap @commit_id
  iifname vmap @in_id
 }}
 chain prerouting {{ type filter hook prerouting priority mangle + 1; policy accept;
  iifname @wans goto from_uplink
  ct mark & {id_mask:#x} vmap @forwarded
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
 }}
 chain translate {{ type nat hook postrouting priority srcnat; policy accept;
  oifname @masqueraded masquerade
 }}
}}",
        ours = marks.ours(),
        keep = !mask,
        own_new = own_traffic::rules(marks),
    ));
    text.push_str(&elements(config, topology, live, taking, sources));
    text
}

/// One transaction that replaces the elements, and touches no rule.
pub fn update(config: &Config, topology: &Topology, live: &Live, taking: Taking<'_>, sources: &UsualSources) -> String {
    let name = table_name(&config.instance);
    let mut text = String::new();
    for set in ["wans", "masqueraded", "connected4", "connected6"].iter().chain(&own_traffic::SETS) {
        let _ = writeln!(text, "flush set inet {name} {set}");
    }
    let clamp: &[&str] = if clamps(config) { &["mss4", "mss6"] } else { &[] };
    for map in ["commit_id", "in_id", "forwarded", "own", "usual_source4", "usual_source6"]
        .iter()
        .chain(&own_traffic::MAPS)
        .chain(clamp)
    {
        let _ = writeln!(text, "flush map inet {name} {map}");
    }
    text + &elements(config, topology, live, taking, sources)
}

/// Removes the table. It is created first, so that its absence is no error.
pub fn remove(instance: &str) -> String {
    let name = table_name(instance);
    format!("table inet {name}\ndelete table inet {name}\n")
}

fn elements(config: &Config, topology: &Topology, live: &Live, taking: Taking<'_>, sources: &UsualSources) -> String {
    let name = table_name(&config.instance);
    let mut text = String::new();
    let mut add = |target: &str, element: String| {
        let _ = writeln!(text, "add element inet {name} {target} {{ {element} }}");
    };
    for uplink in &topology.uplinks {
        let (id, device, mark) = (uplink.id, &uplink.config.device, config.marks.of(uplink.id));
        add("wans", format!("\"{device}\""));
        if uplink.config.nat == Nat::Masquerade {
            add("masqueraded", format!("\"{device}\""));
        }
        add("commit_id", format!("\"{device}\" : jump save{id}"));
        add("in_id", format!("\"{device}\" : jump restore{id}"));
        // A connection of a dead uplink follows main until its entry is deleted.
        if Family::BOTH.iter().any(|family| live.has(*family, id)) {
            add("forwarded", format!("{mark:#x} : goto restore{id}"));
            add("own", format!("{mark:#x} : goto restore{id}"));
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
    for (target, element) in own_traffic::elements(config, topology, live, taking, sources) {
        add(target, element);
    }
    for (device, sizes) in segment_sizes(topology) {
        for (map, size) in ["mss4", "mss6"].into_iter().zip(sizes) {
            add(map, format!("\"{device}\" : {size}"));
        }
    }
    text
}
