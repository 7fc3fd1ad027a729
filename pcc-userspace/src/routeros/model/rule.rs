//! Firewall rules: mangle, NAT, filter and raw.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::Family;
use super::item::Item;
use super::matcher::{self, Matcher, Reading, Test};
use super::values::{AddressRange, Pcc, duration, range};
use crate::routeros::menus::similar;
use crate::routeros::{Note, Severity, Span};

/// One rule of a firewall menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its properties as written.
    pub item: Item,
    /// Of `/ip` or of `/ipv6`.
    pub family: Family,
    /// The chain it stands in.
    pub chain: String,
    /// All of them must hold.
    pub matchers: Vec<Matcher>,
    /// What it does then.
    pub action: Action,
    /// Go on with the next rule after a marking or changing action. Default yes.
    pub passthrough: bool,
    /// A value of it was lost or cannot be read, so that what it does is not known.
    pub broken: bool,
}

/// What a [`Rule`] does with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ends the walk through this hook.
    Accept,
    /// Drops the packet: `drop`, `reject`, `tarpit`.
    Drop,
    /// Goes to a user chain.
    Jump(String),
    /// Goes back to the calling chain.
    Return,
    /// Counts, logs or samples only: `passthrough`, `log`, `sniff-…`, `notrack`.
    Watch,
    /// Sets the connection mark.
    MarkConnection(String),
    /// Sets the packet mark.
    MarkPacket(String),
    /// Sets the routing mark.
    MarkRouting(String),
    /// Sets the MSS of a SYN, in bytes; `None` clamps it to the path MTU.
    ChangeMss(Option<u16>),
    /// Sets the DSCP.
    ChangeDscp(u8),
    /// Adds an address to an address list.
    AddToAddressList {
        /// The source address, not the destination.
        source: bool,
        /// The list.
        list: String,
        /// How long it stays; `None` for ever.
        timeout: Option<Duration>,
    },
    /// Lets the connection's packets skip the firewall, mangle included.
    Fasttrack,
    /// Forces a next hop.
    Route(IpAddr),
    /// Source NAT to the address of the outgoing interface.
    Masquerade,
    /// Source NAT to given addresses.
    SourceNat(Translation),
    /// Destination NAT to given addresses.
    DestinationNat(Translation),
    /// Destination NAT to the router itself.
    Redirect(Translation),
    /// Another action, by its name; the properties are in [`Rule::item`].
    Other(String),
}

/// Where NAT translates to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// `to-addresses`.
    pub addresses: Option<AddressRange>,
    /// First and last of `to-ports`.
    pub ports: Option<(u16, u16)>,
}

impl Rule {
    /// The rule that `item` describes, with notes about what cannot be read.
    pub fn read(item: Item, family: Family, notes: &mut Vec<Note>) -> Self {
        let mut faults = Vec::new();
        let mut bad = |span: Span, id: &'static str, message: String| {
            faults.push(Note::new(Severity::Error, id, span, message));
        };
        let mut matchers = Vec::new();
        for property in &item.properties {
            match matcher::read(property) {
                Reading::Matcher(matcher) => {
                    notes.extend(host_bits(
                        property.span,
                        item.text(&property.name).unwrap_or_default(),
                        &matcher.test,
                    ));
                    matchers.push(matcher);
                }
                Reading::Bad(reason) => bad(property.span, "value-bad", reason),
                Reading::NotAMatcher if is_known(&property.name) => {}
                Reading::NotAMatcher => {
                    bad(property.span, "unknown-property", format!("a rule has no property `{}`", property.name));
                }
                Reading::Absent => {}
            }
        }
        if let Some(text) = item.text("action")
            && let Some(meant) = misspelt(text)
        {
            bad(item.place("action"), "value-bad", format!("`{text}` is no action; perhaps `{meant}`"));
        }
        let action = action(&item).unwrap_or_else(|property| {
            let name = item.text("action").unwrap_or("accept").to_owned();
            // A value that was lost has a note already.
            if !item.lost(property) {
                bad(item.place(property), "value-bad", format!("action `{name}` needs a valid `{property}`"));
            }
            Action::Other(name)
        });
        let chain = item.text("chain").unwrap_or_default().to_owned();
        if chain.is_empty() && !item.lost("chain") {
            bad(item.span, "value-bad", "a rule needs a `chain`".into());
        }
        let lost = item.properties.iter().any(|property| item.lost(&property.name) && property.name != "comment");
        let broken = lost || !faults.is_empty();
        notes.append(&mut faults);
        let passthrough = !matches!(item.text("passthrough"), Some("no" | "false"));
        Self { broken, item, family, chain, matchers, action, passthrough }
    }

    /// The `add` that made it.
    pub fn span(&self) -> Span {
        self.item.span
    }

    /// It is evaluated: neither disabled nor broken.
    pub fn active(&self) -> bool {
        !self.item.disabled() && !self.broken
    }

    /// A packet that matches goes no further in this hook.
    pub fn ends(&self) -> bool {
        match &self.action {
            Action::Accept
            | Action::Drop
            | Action::Masquerade
            | Action::SourceNat(_)
            | Action::DestinationNat(_)
            | Action::Redirect(_) => true,
            Action::Jump(_) | Action::Return | Action::Watch | Action::AddToAddressList { .. } | Action::Fasttrack => {
                false
            }
            Action::MarkConnection(_)
            | Action::MarkPacket(_)
            | Action::MarkRouting(_)
            | Action::ChangeMss(_)
            | Action::ChangeDscp(_)
            | Action::Route(_)
            | Action::Other(_) => !self.passthrough,
        }
    }

    /// Its PCC matcher, with whether it is negated.
    pub fn pcc(&self) -> Option<(Pcc, bool)> {
        self.matchers.iter().find_map(|matcher| match matcher.test {
            Test::Pcc(pcc) => Some((pcc, matcher.negated)),
            _ => None,
        })
    }

    /// It tests the connection mark.
    pub fn connection_mark(&self) -> Option<(&Option<String>, bool)> {
        self.matchers.iter().find_map(|matcher| match &matcher.test {
            Test::ConnectionMark(mark) => Some((mark, matcher.negated)),
            _ => None,
        })
    }

    /// Some matcher is as `wanted` says.
    pub fn tests(&self, wanted: impl Fn(&Test) -> bool) -> bool {
        self.matchers.iter().any(|matcher| wanted(&matcher.test))
    }
}

/// The action, or the property that it lacks.
fn action(item: &Item) -> Result<Action, &'static str> {
    let named = |property: &'static str| item.text(property).map(str::to_owned).ok_or(property);
    Ok(match item.text("action").unwrap_or("accept") {
        "accept" => Action::Accept,
        "drop" | "reject" | "tarpit" => Action::Drop,
        "jump" => Action::Jump(named("jump-target")?),
        "return" => Action::Return,
        "passthrough" | "log" | "sniff-tzsp" | "sniff-pc" | "notrack" => Action::Watch,
        "mark-connection" => Action::MarkConnection(named("new-connection-mark")?),
        "mark-packet" => Action::MarkPacket(named("new-packet-mark")?),
        "mark-routing" => Action::MarkRouting(named("new-routing-mark")?),
        "change-mss" => match named("new-mss")?.as_str() {
            "clamp-to-pmtu" => Action::ChangeMss(None),
            text => Action::ChangeMss(Some(text.parse().ok().filter(|mss| *mss >= 40).ok_or("new-mss")?)),
        },
        "change-dscp" => {
            Action::ChangeDscp(named("new-dscp")?.parse().ok().filter(|dscp| *dscp < 64).ok_or("new-dscp")?)
        }
        name @ ("add-src-to-address-list" | "add-dst-to-address-list") => Action::AddToAddressList {
            source: name.starts_with("add-src"),
            list: named("address-list")?,
            timeout: item.text("address-list-timeout").and_then(duration).filter(|time| !time.is_zero()),
        },
        "fasttrack-connection" => Action::Fasttrack,
        "route" => Action::Route(named("route-dst")?.parse().map_err(|_| "route-dst")?),
        "masquerade" => Action::Masquerade,
        "src-nat" => Action::SourceNat(translation(item)?),
        "dst-nat" => Action::DestinationNat(translation(item)?),
        "redirect" => Action::Redirect(translation(item)?),
        other => Action::Other(other.to_owned()),
    })
}

/// The action that `text` looks like, if it is none.
fn misspelt(text: &str) -> Option<&'static str> {
    const ACTIONS: &str = "accept add-dst-to-address-list add-src-to-address-list change-dscp change-hop-limit change-mss \
        change-ttl clear-df dnpt drop dst-nat endpoint-independent-nat fasttrack-connection jump log mark-connection \
        mark-packet mark-routing masquerade netmap notrack passthrough redirect reject return route same set-priority \
        sniff-pc sniff-tzsp snpt socksify src-nat strip-ipv4-options tarpit";
    let actions = || ACTIONS.split_ascii_whitespace();
    if actions().any(|action| action == text) {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    actions().find(|action| *action == lower).or_else(|| similar(&lower, actions()))
}

/// RouterOS masks the host bits away; whoever wrote them may have meant one host.
fn host_bits(span: Span, text: &str, test: &Test) -> Option<Note> {
    let net: IpNet = match test {
        Test::SourceAddress(_) | Test::DestinationAddress(_) => text.trim_start_matches('!').parse().ok()?,
        _ => return None,
    };
    let message = format!("`{net}` has host bits; it matches all of `{}`", net.trunc());
    (net != net.trunc()).then(|| Note::new(Severity::Warning, "host-bits", span, message))
}

fn translation(item: &Item) -> Result<Translation, &'static str> {
    let addresses = match item.text("to-addresses") {
        Some(text) => Some(AddressRange::parse(text).ok_or("to-addresses")?),
        None if item.lost("to-addresses") => return Err("to-addresses"),
        None => None,
    };
    let ports = match item.text("to-ports") {
        Some(text) => Some(range::<u16>(text).ok_or("to-ports")?.into_inner()),
        None => None,
    };
    Ok(Translation { addresses, ports })
}

fn is_known(property: &str) -> bool {
    const KNOWN: [&str; 27] = [
        "action",
        "address-list",
        "address-list-timeout",
        "chain",
        "comment",
        "disabled",
        "dynamic",
        "invalid",
        "jump-target",
        "log",
        "log-prefix",
        "new-connection-mark",
        "new-dscp",
        "new-mss",
        "new-packet-mark",
        "new-priority",
        "new-routing-mark",
        "new-ttl",
        "passthrough",
        "randomise-ports",
        "reject-with",
        "route-dst",
        "same-not-by-dst",
        "sniff-id",
        "sniff-target",
        "sniff-target-port",
        "to-addresses",
    ];
    const ALSO: [&str; 7] =
        ["to-ports", "hw-offload", "new-hop-limit", "to-address", "src-prefix", "dst-prefix", "randomize-ports"];
    KNOWN.contains(&property) || ALSO.contains(&property)
}
