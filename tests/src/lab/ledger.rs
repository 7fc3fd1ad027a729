//! Who sends what into a namespace, written down by its kernel.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use super::PATIENCE;
use super::namespace::{Namespace, eventually};

/// Every IP packet that arrived at the device `eth0` of a namespace, whoever it was for: one entry for all packets of
/// the same sender, receiver and protocol. Neighbour discovery and multicast listener reports are left out.
#[derive(Debug)]
pub struct Ledger {
    namespace: Arc<Namespace>,
}

/// Packets of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entry {
    /// Sender.
    pub source: IpAddr,
    /// Receiver.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
}

/// How long a packet may be on its way through a busy machine.
const STRAGGLERS: Duration = Duration::from_millis(30);

const SETS: [&str; 2] = ["v4", "v6"];

impl Ledger {
    /// Opens a ledger in `namespace` that leaves out what one of `except`, nft matches, describes.
    ///
    /// # Panics
    /// Where nft refuses.
    pub fn open(namespace: &Arc<Namespace>, except: &[String]) -> Self {
        let except: String = except.iter().map(|it| format!("{it} return\n")).collect();
        namespace.nft(&format!(
            "table inet ledger
             delete table inet ledger
             table inet ledger {{
              set v4 {{ type ipv4_addr . ipv4_addr . inet_proto; flags dynamic; size 65535; }}
              set v6 {{ type ipv6_addr . ipv6_addr . inet_proto; flags dynamic; size 65535; }}
              chain in {{ type filter hook prerouting priority raw;
               iifname != \"eth0\" return
               icmpv6 type {{ nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert,
                mld-listener-query, mld-listener-report, mld2-listener-report }} return
               {except}               update @v4 {{ ip saddr . ip daddr . ip protocol }}
               update @v6 {{ ip6 saddr . ip6 daddr . meta l4proto }}
              }}
             }}"
        ));
        Self { namespace: Arc::clone(namespace) }
    }

    /// All entries.
    ///
    /// # Panics
    /// Where nft does not print what it was given.
    pub fn entries(&self) -> BTreeSet<Entry> {
        SETS.iter().flat_map(|set| self.read(set)).collect()
    }

    /// Forgets all entries, and waits for stragglers: the last packets of a connection that was closed before.
    ///
    /// # Panics
    /// Where the ledger has gone, or where packets keep coming.
    pub fn clear(&self) {
        let quiet = eventually(PATIENCE, || {
            self.namespace.nft("flush set inet ledger v4\nflush set inet ledger v6");
            sleep(STRAGGLERS);
            self.entries().is_empty()
        });
        assert!(quiet, "packets keep coming: {:?}", self.entries());
    }

    fn read(&self, set: &str) -> Vec<Entry> {
        let text = self.namespace.exec("nft", ["-j", "-n", "list", "set", "inet", "ledger", set]);
        let listed: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let elements = listed["nftables"].as_array().into_iter().flatten().find_map(|it| it["set"]["elem"].as_array());
        let entry = |element: &Value| {
            let value = if element["elem"].is_object() { &element["elem"]["val"] } else { element };
            let [source, destination, protocol] = value["concat"].as_array()?.as_slice() else { return None };
            Some(Entry {
                source: source.as_str()?.parse().ok()?,
                destination: destination.as_str()?.parse().ok()?,
                protocol: protocol.as_u64().or_else(|| protocol.as_str()?.parse().ok())?.try_into().ok()?,
            })
        };
        let parsed = |element| entry(element).unwrap_or_else(|| panic!("not an entry of a ledger: {element}"));
        elements.into_iter().flatten().map(parsed).collect()
    }
}
