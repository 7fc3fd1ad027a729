//! Interface matchers.

use super::Context;
use super::case::{Cases, among};
use super::chains::{Chain, Hook};
use super::refusal::Refusal;
use crate::mirror::names::{is_member, members};
use crate::routeros::{Note, Severity, Span};

/// Which interface of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that it came in by.
    In,
    /// The one that it leaves by.
    Out,
}

impl Side {
    fn key(self) -> &'static str {
        match self {
            Self::In => "iifname",
            Self::Out => "oifname",
        }
    }

    /// The hooks where it is known.
    fn hooks(self) -> [Hook; 3] {
        match self {
            Self::In => [Hook::Prerouting, Hook::Input, Hook::Forward],
            Self::Out => [Hook::Forward, Hook::Output, Hook::Postrouting],
        }
    }

    /// Packets of `chain` have such an interface.
    pub fn known(self, chain: &Chain<'_>) -> Result<(), Refusal> {
        if chain.only(&self.hooks()) {
            return Ok(());
        }
        let (word, chains) = match self {
            Self::In => ("incoming", "prerouting, input, forward or dstnat"),
            Self::Out => ("outgoing", "forward, output, postrouting or srcnat"),
        };
        let message = format!("packets that come here by some chain have no {word} interface");
        Err(Refusal::matcher(message, format!("match it in a chain of {chains}")))
    }
}

/// The interface `name` or one of a kind: `all-ppp`, `all-ethernet`, …
pub fn interface(
    context: &Context<'_>,
    side: Side,
    name: &str,
    (negated, span): (bool, Span),
    notes: &mut Vec<Note>,
) -> Result<Cases, Refusal> {
    let model = context.model;
    let kinds: &[&str] = match name {
        "all-ppp" => &["pppoe-", "pptp-", "l2tp-", "sstp-", "ovpn-", "ppp-"],
        "all-ethernet" => &["ethernet"],
        "all-vlan" => &["vlan"],
        "all-wireless" => &["wireless", "wifi"],
        _ => {
            let port = model.bridge_ports.iter().find(|port| port.interface == name && !port.item.disabled());
            if let Some(bridge) = port.map(|port| &port.group) {
                let message = format!("never matches: packets of the port `{name}` come in by its bridge `{bridge}`");
                let fix = if side == Side::In { "in-interface" } else { "out-interface" };
                notes.push(Refusal::interface(message, format!("{fix}={bridge}")).note(Severity::Warning, span));
                return Ok(Cases::constant(negated));
            }
            let disabled = model.interface(name).is_some_and(|interface| interface.item.disabled());
            if disabled && context.devices.get(name).is_none() {
                let message = format!("never matches: interface `{name}` is disabled");
                notes.push(Note::new(Severity::Info, "mirror-interface", span, message));
                return Ok(Cases::constant(negated));
            }
            return Ok(among(side.key(), &[device(context, name)?], negated));
        }
    };
    let is_one = |name: &str| {
        let kind = model.interface(name).map_or("", |interface| interface.kind.as_str());
        kinds.iter().any(|known| kind.starts_with(known))
    };
    let names = context.devices.iter().map(|device| device.interface.as_str()).filter(|name| is_one(name));
    let devices = names.map(|name| device(context, name)).collect::<Result<Vec<_>, _>>()?;
    if devices.is_empty() {
        let message = format!("no interface with a Linux device is one of `{name}`");
        return Err(Refusal::interface(message, "--map INTERFACE=DEVICE"));
    }
    Ok(among(side.key(), &devices, negated))
}

/// A member of the interface list `name`.
pub fn list(
    context: &Context<'_>,
    side: Side,
    name: &str,
    (negated, span): (bool, Span),
    notes: &mut Vec<Note>,
) -> Result<Cases, Refusal> {
    let model = context.model;
    if name == "all" {
        return Ok(Cases::constant(!negated));
    }
    let Some(known) = members(model, name) else {
        let message = format!("only a running router knows the members of interface list `{name}`");
        return Err(Refusal::interface(message, format!("/interface list add name={name}, and its members")));
    };
    let names = context.devices.iter().map(|device| device.interface.as_str());
    let names = names.filter(|interface| is_member(model, name, interface));
    let devices = names.map(|name| device(context, name)).collect::<Result<Vec<_>, _>>()?;
    let enabled = |name: &&String| !model.interface(name).is_some_and(|known| known.item.disabled());
    for missing in known.iter().filter(enabled).filter(|name| context.devices.get(name).is_none()) {
        let message = format!("`{missing}` of interface list `{name}` has no Linux device; its packets are not seen");
        let refusal = Refusal::interface(message, format!("--map {missing}=DEVICE"));
        if devices.is_empty() {
            // Without any device the rule would be lost.
            return Err(refusal);
        }
        notes.push(refusal.note(Severity::Warning, span));
    }
    Ok(among(side.key(), &devices, negated))
}

/// The Linux device of the interface `name`, quoted.
fn device(context: &Context<'_>, name: &str) -> Result<String, Refusal> {
    let Some(device) = context.devices.get(name) else {
        let message = format!("interface `{name}` has no Linux device");
        return Err(Refusal::interface(message, format!("--map {name}=DEVICE")));
    };
    let linux = &device.linux;
    // nft has no escapes, and a star at the end is a pattern.
    if linux.is_empty() || linux.len() > 15 || linux.contains(|letter: char| "\"*\\ /".contains(letter)) {
        return Err(Refusal::interface(format!("nft cannot name the device `{linux}`"), "rename the device"));
    }
    Ok(format!("\"{linux}\""))
}
