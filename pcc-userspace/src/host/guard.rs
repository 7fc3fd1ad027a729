//! Keeps the kernel translating the connections that are there while somebody flushes all rules, ours with them.
//!
//! A namespace without any nat chain, or without a rule about connections, is one in which translated connections are not
//! translated any more: their packets leave with the wrong source, and answers end at the host itself, which resets them. So a
//! table stands beside ours with empty nat chains, but for a rule that looks at connections and does nothing. `nft flush ruleset` leaves it alone, because it is owned by our socket (`NFT_TABLE_F_OWNER`); it goes with it.

use anyhow::{Context, Result};
use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NetlinkSerializable};

use super::netlink::Netlink;
use crate::ruleset;

const NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = NFTABLES << 8;
const NEW_CHAIN: u16 = NFTABLES << 8 | 3;
const NEW_RULE: u16 = NFTABLES << 8 | 6;
/// `NFPROTO_INET`.
const INET: u8 = 1;
/// `NFTA_TABLE_…`, `NFTA_CHAIN_…`, `NFTA_RULE_…`, `NFTA_HOOK_…`, and so on.
const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const CT_REGISTER: u16 = 1;
const CT_KEY: u16 = 2;
const REGISTER_1: u32 = 1;
/// `NFT_CT_STATE`.
const STATE: u32 = 0;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
/// `NFT_TABLE_F_OWNER`.
const OWNER: u32 = 2;
/// The hooks that translate, by number, with the priority of translation there (`NF_IP_PRI_NAT_DST`, `…_SRC`).
const HOOKS: [(&str, u32, i32); 4] =
    [("prerouting", 0, -100), ("input", 1, 100), ("output", 3, -100), ("postrouting", 4, 100)];

/// The table, for as long as this value lives.
pub struct Guard {
    _socket: Netlink,
}

impl Guard {
    /// Puts up the table `<name>-guard` in the network namespace of the calling thread.
    ///
    /// # Errors
    /// No rights, or a kernel whose tables have no owners (before 5.12).
    pub fn hold(name: &str) -> Result<Self> {
        let table = ruleset::guard_name(name);
        let mut socket = Netlink::netfilter()?;
        let owned = vec![text(TABLE_NAME, &table), word(TABLE_FLAGS, OWNER)];
        let chains = HOOKS.map(|(chain, hook, priority)| {
            let hook = [word(HOOK_NUMBER, hook), word(HOOK_PRIORITY, priority.cast_unsigned())];
            let hook = nested(CHAIN_HOOK, &hook);
            Message::new(
                NEW_CHAIN,
                INET,
                0,
                &[text(CHAIN_TABLE, &table), text(CHAIN_NAME, chain), hook, text(CHAIN_TYPE, "nat")],
            )
        });
        // A rule that looks at the state of connections: without one, nobody tracks them.
        let state = nested(EXPRESSION_DATA, &[word(CT_REGISTER, REGISTER_1), word(CT_KEY, STATE)]);
        let expression = nested(LIST_ELEMENT, &[text(EXPRESSION_NAME, "ct"), state]);
        let (chain, ..) = HOOKS[0];
        let rule = [text(RULE_TABLE, &table), text(RULE_CHAIN, chain), nested(RULE_EXPRESSIONS, &[expression])];
        let messages = [Message::new(NEW_TABLE, INET, 0, &owned)]
            .into_iter()
            .chain(chains)
            .chain([Message::new(NEW_RULE, INET, 0, &rule)]);
        let [begin, end] = [BATCH_BEGIN, BATCH_END].map(|kind| Message::new(kind, 0, NFTABLES, &[]));
        socket.transaction(begin, messages, end).with_context(|| format!("adding table inet {table}"))?;
        Ok(Self { _socket: socket })
    }
}

/// A message of nfnetlink.
struct Message {
    kind: u16,
    body: Vec<u8>,
}

impl Message {
    fn new(kind: u16, family: u8, resource: u16, attributes: &[DefaultNla]) -> Self {
        const VERSION: u8 = 0;
        let mut body = vec![family, VERSION];
        body.extend(resource.to_be_bytes());
        body.extend(emitted(attributes));
        Self { kind, body }
    }
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.body.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.body);
    }
}

fn emitted(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    DefaultNla::new(kind | NLA_F_NESTED, emitted(attributes))
}

fn text(kind: u16, text: &str) -> DefaultNla {
    DefaultNla::new(kind, [text.as_bytes(), &[0]].concat())
}

fn word(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}
