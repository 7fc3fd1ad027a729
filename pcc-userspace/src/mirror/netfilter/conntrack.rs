//! What ties the eBPF walk to conntrack: the packet's marks are saved in the connection, or taken from it.
//!
//! nft cannot combine two marks that both vary. So each number has small chains with constants, and maps lead there. Bits
//! outside the mask stay as they are in both marks. A packet whose guess was saved or was right stays *tentative*.

use std::fmt::Write as _;

use pcc_ebpf::abi::{Field, MarkFields};

use super::super::names::{Names, Numbers};

/// The maps of marks, and the chains that their elements lead to.
pub fn maps(names: &Names, fields: &MarkFields) -> String {
    let mut text = String::new();
    let mut map = |name: &str, numbers: &Numbers, key: Field, target: &str| {
        let elements: Vec<String> =
            numbers.map().values().map(|number| format!("{:#x} : {target}{number}", key.of(*number))).collect();
        let elements =
            if elements.is_empty() { String::new() } else { format!(" elements = {{ {} }};", elements.join(", ")) };
        let _ = writeln!(text, " map {name} {{ type mark : verdict;{elements} }}");
    };
    let MarkFields { connection, routing, reply, .. } = *fields;
    map("save_connection", &names.connection, connection, "jump save_connection");
    map("recall_connection", &names.connection, connection, "jump recall_connection");
    map("compare_connection", &names.connection, connection, "goto compare_connection");
    map("save_original", &names.routing, routing, "goto save_original");
    map("save_reply", &names.routing, routing, "goto save_reply");
    map("recall_original", &names.routing, routing, "goto recall_routing");
    map("recall_reply", &names.routing, reply, "goto recall_routing");
    for number in names.connection.map().values() {
        let (of, mask) = (connection.of(*number), connection.mask());
        let _ = write!(
            text,
            " chain save_connection{number} {{ {}; }}
 chain recall_connection{number} {{ {}; }}
 chain compare_connection{number} {{
  meta mark & {mask:#x} != {of:#x} goto restore
  goto recall_routing
 }}
",
            set("ct", connection, *number),
            set("meta", connection, *number),
        );
        // For the script's rules. Connections that were there before us, and packets without one, stay as they are; such a
        // rule ends all the same.
        let both = format!("{} {}", set("ct", connection, *number), set("meta", connection, *number));
        let foreign = format!("ct mark & {:#x} == 0", fields.ours());
        let _ = writeln!(text, " chain mark_connection{number} {{ {foreign} return; {both}; }}");
        let _ = writeln!(text, " chain mark_connection{number}_end {{ {foreign} accept; {both}; accept; }}");
    }
    for number in names.routing.map().values() {
        let _ = write!(
            text,
            " chain save_original{number} {{ {}; }}
 chain save_reply{number} {{ {}; }}
 chain recall_routing{number} {{ {}; }}
",
            set("ct", routing, *number),
            set("ct", reply, *number),
            set("meta", routing, *number),
        );
    }
    text
}

/// The chains of hook prerouting.
pub fn prerouting(fields: &MarkFields) -> String {
    let (ours, tentative) = (fields.ours(), fields.tentative());
    let (c, r, reply) = (fields.connection.mask(), fields.routing.mask(), fields.reply.mask());
    let kept = !(tentative | c | r);
    // Packets of known connections whose marks rest on no guess come first.
    format!(
        " chain prerouting {{ type filter hook prerouting priority mangle + 1; policy accept;
  meta mark & {both:#x} != {ours:#x} goto uncertain
  ct mark & {ours:#x} == 0 jump unknown
  goto save
 }}
 chain uncertain {{
  meta mark & {ours:#x} == 0 goto foreign
  ct mark & {ours:#x} == 0 jump unknown
  goto check
 }}
 chain unknown {{
  ct state new ct mark set ct mark | {ours:#x} return
  meta mark set meta mark & {foreign:#x} accept
 }}
 chain foreign {{
  ct mark & {ours:#x} == 0 jump unknown
  goto restore
 }}
 chain check {{
{check} }}
 chain save {{
{save} }}
 chain restore {{
  meta mark set meta mark & {kept:#x} | {ours:#x}
{recall}  goto recall_routing
 }}
 chain recall_routing {{
{recall_routing} }}
",
        both = ours | tentative,
        foreign = !fields.mask(),
        check = {
            // Only of a connection that was not answered yet can the guess "new and without a mark" be right. The last line
            // is not for packets without a connection.
            let compare = format!("  ct mark & {c:#x} vmap @compare_connection\n");
            format!(
                "  ct state new ct mark & {c:#x} == 0 goto save
{}  ct mark & {ours:#x} != 0 goto restore
",
                if c == 0 { "" } else { &compare }
            )
        },
        save = {
            let connection = format!(
                "  meta mark & {c:#x} vmap @save_connection
  meta mark & {c:#x} == 0 ct mark & {c:#x} vmap @recall_connection
"
            );
            let routing = format!(
                "  meta mark & {r:#x} == 0 accept
  ct direction original meta mark & {r:#x} vmap @save_original
  ct direction reply meta mark & {r:#x} vmap @save_reply
"
            );
            let part = |mask: u32, text: String| if mask == 0 { String::new() } else { text };
            part(c, connection) + &part(r, routing)
        },
        recall = if c == 0 { String::new() } else { format!("  ct mark & {c:#x} vmap @recall_connection\n") },
        recall_routing = if r == 0 {
            String::new()
        } else {
            format!(
                "  ct direction original ct mark & {r:#x} vmap @recall_original
  ct direction reply ct mark & {reply:#x} vmap @recall_reply
"
            )
        },
    )
}

/// The base chains of hook output around `rules`, the script's: what comes before them, and what the egress programs learn
/// from.
pub fn output(fields: &MarkFields, rules: &str) -> String {
    let (ours, both) = (fields.ours(), fields.ours() | fields.tentative());
    let c = fields.connection.mask();
    let recall = if c == 0 { String::new() } else { format!("  ct mark & {c:#x} vmap @recall_connection\n") };
    format!(
        " chain output {{ type route hook output priority mangle + 1; policy accept;
  meta mark & {both:#x} == {both:#x} accept
  ct state new ct mark set ct mark | {ours:#x}
  ct mark & {ours:#x} == 0 accept
{rules} }}
 chain output_mark {{ type filter hook output priority mangle + 2; policy accept;
  meta mark & {both:#x} == {both:#x} accept
  ct mark & {ours:#x} == 0 accept
  meta mark set meta mark & {kept:#x} | {ours:#x}
{recall} }}
",
        kept = !c,
    )
}

/// The statement that gives `field` of the packet mark (`meta`) or of the conntrack mark (`ct`) its number.
pub fn set(mark: &str, field: Field, number: u32) -> String {
    format!("{mark} mark set {mark} mark & {:#x} | {:#x}", !field.mask(), field.of(number))
}
