//! What is refused or noted, and where.

use super::compiled;
use crate::routeros::Severity::{Error, Info, Warning};

#[test]
fn what_cannot_be_done_is_refused_at_its_line() {
    let about = |rule: &str| {
        let compiled = compiled(&format!(
            "/ip firewall mangle add chain=prerouting {rule}\n/ip firewall address-list add list=named address=example.com"
        ));
        compiled.notes.iter().map(|note| (note.severity, note.id)).collect::<Vec<_>>()
    };
    for (rule, severity, id) in [
        ("action=drop", Error, "mirror-action"),
        ("action=fasttrack-connection", Error, "mirror-action"),
        ("action=route route-dst=192.0.2.1", Error, "mirror-action"),
        ("action=change-mss new-mss=1400 protocol=tcp tcp-flags=syn", Error, "mirror-action"),
        ("action=change-dscp new-dscp=1", Error, "mirror-action"),
        ("action=change-ttl new-ttl=set:3", Error, "mirror-action"),
        ("action=add-src-to-address-list address-list=x", Error, "mirror-action"),
        ("action=mark-connection new-connection-mark=no-mark", Error, "mirror-action"),
        ("action=mark-routing new-routing-mark=no-mark", Error, "mirror-action"),
        ("action=accept tcp-mss=1-2", Error, "mirror-matcher"),
        ("action=accept connection-nat-state=dstnat", Error, "mirror-matcher"),
        ("action=accept dst-address-type=blackhole", Error, "mirror-matcher"),
        ("action=accept ipsec-policy=in,ipsec", Error, "mirror-matcher"),
        ("action=accept out-interface=fibre", Error, "mirror-matcher"),
        ("action=accept connection-rate=1M-2M", Error, "mirror-matcher"),
        ("action=accept dst-address=2001:db8::1", Error, "mirror-matcher"),
        ("action=accept dst-address-list=named", Error, "mirror-list"),
        ("action=accept connection-state=!related", Error, "mirror-state"),
        ("action=mark-connection", Error, "mirror-broken"),
        ("action=accept connection-state=invalid", Warning, "mirror-state"),
        ("action=accept connection-state=established,related", Warning, "mirror-state"),
        ("action=accept dst-address-list=none", Warning, "mirror-list"),
        ("action=accept ipsec-policy=in,none", Info, "mirror-matcher"),
        ("action=accept ipsec-policy=!in,ipsec", Info, "mirror-matcher"),
        ("action=log", Info, "mirror-action"),
        ("action=accept log=yes", Info, "mirror-action"),
    ] {
        assert_eq!(about(rule), [(severity, id)], "{rule}");
    }
    assert_eq!(about("action=mark-routing new-routing-mark=main"), []);
}
