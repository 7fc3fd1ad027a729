//! Programs of others and their settings.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Facts;

/// Names of programs as the kernel cuts them, to 15 bytes.
pub const MWAN3: &[&str] = &["mwan3track", "mwan3rtmon"];
/// The one that moves addresses by VRRP.
pub const KEEPALIVED: &[&str] = &["keepalived"];
/// systemd-networkd.
pub const NETWORKD: &[&str] = &["systemd-network"];
const NETWORK_MANAGER: &str = "NetworkManager";

/// Settings of systemd-networkd about what others made, in the order of [`Facts::networkd`].
pub const FOREIGN: [&str; 2] = ["ManageForeignRoutes", "ManageForeignRoutingPolicyRules"];
/// Where its settings are, the strongest first.
const FOLDERS: [&str; 4] = ["/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"];

/// Looks for programs, and asks NetworkManager for its devices.
pub(super) fn look(facts: &mut Facts) {
    match programs() {
        Some((programs, all)) => {
            if !all {
                facts.miss(
                    "in which network namespace some programs are",
                    "run as root; they count as if they were here",
                );
            }
            if programs.contains(NETWORK_MANAGER) {
                facts.managed = managed();
            }
            facts.programs = Some(programs);
        }
        None => facts.miss("which programs run", "mount /proc"),
    }
}

/// The names of the programs in the network namespace of this thread, and whether that was told of all of them. Where it was
/// not, they count.
fn programs() -> Option<(BTreeSet<String>, bool)> {
    let here = fs::read_link("/proc/thread-self/ns/net").ok()?;
    let (mut names, mut all) = (BTreeSet::new(), true);
    for entry in fs::read_dir("/proc").ok()?.filter_map(Result::ok) {
        // What is no process has no name.
        let Ok(name) = fs::read_to_string(entry.path().join("comm")) else { continue };
        match fs::read_link(entry.path().join("ns/net")) {
            Ok(there) if there == here => {}
            Err(error) if error.kind() == ErrorKind::PermissionDenied => all = false,
            // Elsewhere, or it ended.
            Ok(_) | Err(_) => continue,
        }
        names.insert(name.trim_end().to_owned());
    }
    Some((names, all))
}

fn managed() -> BTreeSet<String> {
    let asked = Command::new("nmcli")
        .args(["-t", "-f", "DEVICE,STATE", "device"])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    asked.map(|output| devices_of(&String::from_utf8_lossy(&output.stdout))).unwrap_or_default()
}

/// The devices in nmcli's answer that it manages.
fn devices_of(answer: &str) -> BTreeSet<String> {
    let lines = answer.lines().filter_map(|line| line.rsplit_once(':'));
    // A colon in a name is escaped.
    lines
        .filter(|(_, state)| !matches!(*state, "unmanaged" | "unavailable"))
        .map(|(name, _)| name.replace("\\:", ":"))
        .collect()
}

/// Devices below the PPPoE sessions of this network namespace.
pub(super) fn below_pppoe() -> Vec<String> {
    fs::read_to_string("/proc/thread-self/net/pppoe").map(|text| sessions(&text)).unwrap_or_default()
}

fn sessions(text: &str) -> Vec<String> {
    text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(2)).map(str::to_owned).collect()
}

/// What systemd-networkd is told, or does by default.
pub(super) fn networkd() -> [bool; 2] {
    let read = |path: PathBuf| fs::read_to_string(path).ok();
    let main = FOLDERS.iter().find_map(|folder| read(Path::new(folder).join("networkd.conf")));
    // Of files with the same name the one in the strongest folder counts; all are read in the order of their names.
    let mut parts: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
    for folder in FOLDERS.iter().rev() {
        let entries =
            fs::read_dir(Path::new(folder).join("networkd.conf.d")).into_iter().flatten().filter_map(Result::ok);
        let files = entries.filter(|it| it.path().extension().is_some_and(|extension| extension == "conf"));
        parts.extend(files.map(|entry| (entry.file_name(), entry.path())));
    }
    manages(main.into_iter().chain(parts.into_values().filter_map(read)).collect::<Vec<_>>().iter().map(String::as_str))
}

/// The last word of `texts` about each of [`FOREIGN`].
fn manages<'a>(texts: impl Iterator<Item = &'a str>) -> [bool; 2] {
    let mut manages = [true; 2];
    for text in texts {
        let mut section = "";
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                section = line;
            } else if let Some((key, value)) = line.split_once('=')
                && section == "[Network]"
                && let Some(at) = FOREIGN.iter().position(|it| *it == key.trim())
            {
                manages[at] =
                    !matches!(value.trim().to_ascii_lowercase().as_str(), "no" | "false" | "off" | "0" | "n" | "f");
            }
        }
    }
    manages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_about_foreign_routes_counts() {
        let main = "[Network]\n#ManageForeignRoutes=no\nSpeedMeter=no\n";
        assert_eq!(manages([main].into_iter()), [true, true]);
        let part = "[Network]\nManageForeignRoutes = no\n[DHCPv4]\nManageForeignRoutingPolicyRules=no\n";
        assert_eq!(manages([main, part].into_iter()), [false, true]);
        let last = "[Network]\nManageForeignRoutes=yes\nManageForeignRoutingPolicyRules=False\n";
        assert_eq!(manages([main, part, last].into_iter()), [true, false]);
    }

    #[test]
    fn answers_of_tools_are_read() {
        let devices =
            devices_of("eth0:connected\ndocker0:connected (externally)\neth1:unmanaged\nwl\\:an:disconnected\n");
        assert_eq!(devices.into_iter().collect::<Vec<_>>(), ["docker0", "eth0", "wl:an"]);
        let text = "Id       Address              Device\n00000100 02:00:00:00:02:02      port2\n";
        assert_eq!(sessions(text), ["port2"]);
        assert!(sessions("").is_empty());
    }

    #[test]
    fn this_very_program_is_among_those_that_run() {
        let (programs, _) = programs().unwrap();
        let own = fs::read_to_string("/proc/self/comm").unwrap();
        assert!(programs.contains(own.trim_end()), "{programs:?}");
    }
}
