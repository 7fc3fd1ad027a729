//! Interface matchers.

use super::Context;
use super::case::{Cases, among};
use super::chains::{Chain, Hook};
use crate::mirror::names::members;

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
    pub fn known(self, chain: &Chain<'_>) -> Result<(), String> {
        if chain.hooks.iter().all(|hook| self.hooks().contains(hook)) {
            return Ok(());
        }
        let word = if self == Self::In { "incoming" } else { "outgoing" };
        Err(format!("the {word} interface is not known in every chain that leads here"))
    }
}

/// The interface `name` or one of a kind: `all-ppp`, `all-ethernet`, …
pub fn interface(
    context: &Context<'_>,
    chain: &Chain<'_>,
    side: Side,
    name: &str,
    negated: bool,
) -> Result<Cases, String> {
    side.known(chain)?;
    let kinds: &[&str] = match name {
        "all-ppp" => &["pppoe-", "pptp-", "l2tp-", "sstp-", "ovpn-", "ppp-"],
        "all-ethernet" => &["ethernet"],
        "all-vlan" => &["vlan"],
        "all-wireless" => &["wireless", "wifi"],
        _ => return Ok(among(side.key(), &[device(context, name)?], negated)),
    };
    let is_one = |name: &str| {
        let kind = context.model.interface(name).map_or("", |interface| interface.kind.as_str());
        kinds.iter().any(|known| kind.starts_with(known))
    };
    let devices: Vec<&str> =
        context.devices.iter().map(|device| device.interface.as_str()).filter(|name| is_one(name)).collect();
    if devices.is_empty() {
        return Err(format!("no interface with a Linux device is one of `{name}`"));
    }
    let devices = devices.into_iter().map(|name| device(context, name)).collect::<Result<Vec<_>, _>>()?;
    Ok(among(side.key(), &devices, negated))
}

/// A member of the interface list `name`.
pub fn list(context: &Context<'_>, chain: &Chain<'_>, side: Side, name: &str, negated: bool) -> Result<Cases, String> {
    side.known(chain)?;
    if name == "all" {
        return Ok(Cases::constant(!negated));
    }
    let members = members(context.model, name)
        .ok_or_else(|| format!("the members of interface list `{name}` are not in the script"))?;
    let devices = members.iter().map(|member| device(context, member)).collect::<Result<Vec<_>, _>>()?;
    Ok(among(side.key(), &devices, negated))
}

/// The Linux device of the interface `name`, quoted.
fn device(context: &Context<'_>, name: &str) -> Result<String, String> {
    let device = context.devices.get(name).ok_or_else(|| format!("interface `{name}` has no Linux device"))?;
    let linux = &device.linux;
    // nft has no escapes, and a star at the end is a pattern.
    if linux.is_empty() || linux.len() > 15 || linux.contains(|letter: char| "\"*\\ /".contains(letter)) {
        return Err(format!("nft cannot name the device `{linux}`"));
    }
    Ok(format!("\"{linux}\""))
}
