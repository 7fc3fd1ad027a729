//! Marks in the rules of iptables, both of its bodies, which `nft` does not explain.

use std::process::{Command, Stdio};

use super::super::{Mark, MarkUse};

/// The uses that the installed programs list. A program that is missing or fails has nothing to say.
pub fn observe() -> Vec<MarkUse> {
    ["iptables", "ip6tables"]
        .into_iter()
        .flat_map(|tool| {
            // The plain name is one of the other two; its rules are found twice and merged.
            ["save", "legacy-save", "nft-save"]
                .into_iter()
                .filter_map(move |suffix| save(&format!("{tool}-{suffix}")))
                .flat_map(move |text| uses(tool, &text))
        })
        .collect()
}

/// What the installed programs print, by tool.
pub fn saved() -> Vec<(String, String)> {
    let tools = ["iptables", "ip6tables"].into_iter();
    tools.filter_map(|tool| Some((tool.to_owned(), save(&format!("{tool}-save"))?))).collect()
}

fn save(program: &str) -> Option<String> {
    let output = Command::new(program).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The uses in the output of `iptables-save`.
fn uses(tool: &str, saved: &str) -> Vec<MarkUse> {
    let mut found = Vec::new();
    let mut table = "";
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if line.starts_with("-A ") {
            let place = format!("{tool} table {table}");
            let here = marks(line).into_iter();
            found.extend(
                here.filter_map(|(mark, sets, mask)| MarkUse::new(place.clone(), line.to_owned(), mark, sets, mask)),
            );
        }
    }
    found
}

/// What one rule does with which mark and which bits.
fn marks(line: &str) -> Vec<(Mark, bool, u32)> {
    // Quoted comments may contain anything.
    let bare: Vec<&str> = line.split('"').step_by(2).flat_map(str::split_whitespace).collect();
    let mut found = Vec::new();
    let mut mark = Mark::Packet;
    let mut copied = None;
    let (mut packet_mask, mut connection_mask) = (u32::MAX, u32::MAX);
    for pair in bare.windows(2).chain([[*bare.last().unwrap_or(&""), ""].as_slice()]) {
        let [option, value] = pair else { continue };
        match *option {
            "-m" | "-j" => {
                let connection = matches!(*value, "connmark" | "CONNMARK");
                mark = if connection { Mark::Connection } else { Mark::Packet };
            }
            "--mark" => found.push((mark, false, parts(value).1)),
            "--set-xmark" | "--set-mark" | "--tproxy-mark" => {
                let (bits, mask) = parts(value);
                found.push((mark, true, bits | mask));
            }
            "--restore-skmark" => found.push((Mark::Packet, true, u32::MAX)),
            "--save-mark" => copied = Some(Mark::Connection),
            "--restore-mark" => copied = Some(Mark::Packet),
            "--nfmask" => packet_mask = parts(value).0,
            "--ctmask" => connection_mask = parts(value).0,
            _ => {}
        }
    }
    found.extend(copied.map(|mark| (mark, true, packet_mask | connection_mask)));
    found
}

/// `value/mask`, without a mask all bits; what is not a number counts as all bits.
fn parts(text: &str) -> (u32, u32) {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).unwrap_or(u32::MAX),
        None => text.parse().unwrap_or(u32::MAX),
    };
    let (value, mask) = text.split_once('/').map_or((text, u32::MAX), |(value, mask)| (value, number(mask)));
    (number(value), mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `iptables-save` prints the rules of mwan3, Tailscale, kube-proxy and a transparent proxy.
    const SAVED: &str = "\
*mangle
:PREROUTING ACCEPT [0:0]
-A PREROUTING -j CONNMARK --restore-mark --nfmask 0x3f00 --ctmask 0x3f00
-A PREROUTING -m mark --mark 0x0/0x3f00 -j mwan3_connected
-A PREROUTING -m mark --mark 0x0/0x3f00 -j MARK --set-xmark 0x100/0x3f00
-A PREROUTING -j CONNMARK --save-mark --nfmask 0x3f00 --ctmask 0x3f00
-A FORWARD -m connmark ! --mark 0x1 -m comment --comment \"not --mark 0x2/0x2\" -j DROP
-A PREROUTING -p tcp -j TPROXY --on-port 80 --on-ip 127.0.0.1 --tproxy-mark 0x1/0x1
-A OUTPUT -j CONNMARK --restore-mark
COMMIT
*filter
-A ts-forward -i tailscale0 -j MARK --set-xmark 0x40000/0xff0000
-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP
-A INPUT -p tcp -j ACCEPT
COMMIT
";

    #[test]
    fn masks_and_whole_marks_are_told_apart() {
        let found: Vec<_> = uses("iptables", SAVED).iter().map(|use_| (use_.mark, use_.sets, use_.mask)).collect();
        use Mark::{Connection, Packet};
        assert_eq!(
            found,
            [
                (Packet, true, Some(0x3f00)),
                (Packet, false, Some(0x3f00)),
                (Packet, false, Some(0x3f00)),
                (Packet, true, Some(0x3f00)),
                (Connection, true, Some(0x3f00)),
                (Connection, false, None),
                (Packet, true, Some(1)),
                (Packet, true, None),
                (Packet, true, Some(0xff0000)),
                (Packet, false, Some(0x8000)),
            ]
        );
    }

    #[test]
    fn a_use_names_its_table_and_rule() {
        let found = uses("ip6tables", SAVED);
        assert_eq!(found[0].place, "ip6tables table mangle");
        assert_eq!(found[0].text, "-A PREROUTING -j CONNMARK --restore-mark --nfmask 0x3f00 --ctmask 0x3f00");
    }

    #[test]
    fn odd_lines_do_no_harm() {
        for line in ["-A", "-A ", "-A X --mark", "-A X -m", "-A X --set-xmark /", "-A X \"--mark 1"] {
            uses("iptables", line);
        }
    }
}
