//! The matcher `per-connection-classifier`. nft's `jhash` scales where RouterOS takes the remainder, so a connection is in
//! another part than on a router; the parts of one denominator are as large, and exclude each other, all the same.

use pcc_ebpf::flow::has_ports;

use super::case::{Cases, word};
use super::header::PORTS;
use crate::routeros::model::Family;
use crate::routeros::model::values::Pcc;

/// Fixed, so that connections stay in their part when the table is replaced.
const SEED: u32 = 0x70_6363;
/// What lookup3 makes of nothing.
const NOTHING: u32 = 0xdead_beef;

/// The packets of `pcc` among those of `protocol`, if the rule names one.
pub fn cases(pcc: &Pcc, family: Family, protocol: Option<u8>, negated: bool) -> Cases {
    let Pcc { denominator, remainder, .. } = *pcc;
    if remainder >= denominator || denominator == 1 {
        return Cases::constant((remainder < denominator) != negated);
    }
    let (ip, bits) = (word(family), pcc.fields.bits());
    let keys = |with_ports: bool| {
        let chosen =
            [(1, format!("{ip} saddr")), (2, format!("{ip} daddr")), (4, "th sport".into()), (8, "th dport".into())];
        let chosen = chosen.into_iter().filter(|(bit, _)| bits & bit != 0 && (*bit < 4 || with_ports));
        chosen.map(|(_, key)| key).collect::<Vec<String>>().join(" . ")
    };
    let part = |with_ports: bool| {
        let keys = keys(with_ports);
        if keys.is_empty() {
            return Cases::constant((NOTHING % denominator == remainder) != negated);
        }
        let relation = if negated { "!=" } else { "==" };
        Cases::one(format!("jhash {keys} mod {denominator} seed {SEED:#x} {relation} {remainder}"))
    };
    // Ports of packets that have none would be random bytes.
    match protocol {
        _ if bits & 12 == 0 => part(false),
        Some(number) => part(has_ports(u32::from(number))),
        None => {
            let guarded = |guard: &str, part: &Cases| Cases::one(format!("meta l4proto {guard}{PORTS}")).and(part);
            let (with, without) = (guarded("", &part(true)), guarded("!= ", &part(false)));
            Cases::of(with.iter().chain(without.iter()).map(str::to_owned))
        }
    }
}
