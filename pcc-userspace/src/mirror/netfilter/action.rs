//! What a rule does, as nft statements.

use super::Context;
use super::case::word;
use super::chains::{Chain, Chains, Hook, Menu};
use super::conntrack::set;
use super::refusal::Refusal;
use super::{nat, text};
use crate::mirror::names::Numbers;
use crate::routeros::model::Family;
use crate::routeros::model::route::MAIN;
use crate::routeros::model::rule::{Action, Rule};

/// The statements of `rule`, or why there are none.
pub fn statements(
    context: &Context<'_>,
    chains: &Chains<'_>,
    chain: &Chain<'_>,
    rule: &Rule,
) -> Result<String, Refusal> {
    let action = rule.item.text("action").unwrap_or("accept");
    let what = match (&rule.action, chains.menu) {
        (Action::Accept, _) => "accept".to_owned(),
        (Action::Return, _) => "return".to_owned(),
        (Action::Jump(target), _) => format!("jump {}", chains.target(&rule.chain, target)?),
        (Action::Drop, Menu::Mangle) if action == "drop" => "drop".to_owned(),
        (Action::Watch, _) if action == "passthrough" => "counter".to_owned(),
        // The log statement itself comes below.
        (Action::Watch, _) if action == "log" => String::new(),
        (Action::AddToAddressList { source, list, timeout }, _) => {
            let set = context.lists.added(rule.family, list);
            let set = set.ok_or_else(|| Refusal::list("the address list is not there", "address-list=NAME"))?;
            let side = if *source { "saddr" } else { "daddr" };
            let timeout = timeout.map_or_else(String::new, |time| format!(" timeout {}s", time.as_secs().max(1)));
            format!("update {set} {{ {} {side}{timeout} }}", word(rule.family))
        }
        (_, Menu::Mangle) => change(context, chain, rule, action)?,
        (_, Menu::Nat) => nat::statement(chain, rule, action)?,
    };
    let logs = rule.item.flag("log") || action == "log";
    let log = if logs { text::log(rule.item.text("log-prefix")) } else { String::new() };
    let blank = if log.is_empty() || what.is_empty() { "" } else { " " };
    Ok(format!("{log}{blank}{what}"))
}

/// An action of mangle that goes on with the next rule unless `passthrough=no`.
fn change(context: &Context<'_>, chain: &Chain<'_>, rule: &Rule, action: &str) -> Result<String, Refusal> {
    let (names, fields, ip) = (context.names, context.fields, word(rule.family));
    let named = |name: &str, numbers: &Numbers| match name {
        "no-mark" => Ok(0),
        name => {
            numbers.get(name).ok_or_else(|| Refusal::action(format!("mark `{name}` has no number"), "use another name"))
        }
    };
    let statement = match &rule.action {
        Action::MarkConnection(mark) if mark == "no-mark" => {
            // The walk's cache would bring it back.
            let message = "a connection mark cannot be taken away";
            return Err(Refusal::action(message, "exclude the packets from the rules that mark"));
        }
        Action::MarkConnection(mark) => {
            let number = named(mark, &names.connection)?;
            // Where there is no connection these chains change nothing, and the rule ends all the same.
            return Ok(if rule.passthrough {
                format!("jump mark_connection{number}")
            } else {
                format!("goto mark_connection{number}_end")
            });
        }
        Action::MarkPacket(mark) => match fields.packet.mask() {
            0 => String::new(),
            _ => set("meta", fields.packet, named(mark, &names.packet)?),
        },
        Action::MarkRouting(_) if !chain.only(&[Hook::Output]) => {
            let message = "packets that come here by some chain are routed already";
            return Err(Refusal::action(message, "chain=prerouting or chain=output"));
        }
        Action::MarkRouting(mark) => match fields.routing.mask() {
            0 => String::new(),
            _ => {
                let number = if mark == MAIN { 0 } else { named(mark, &names.routing)? };
                // Routing rules look for the bit "ours" too, which the router's own packets lack so far.
                let bits = fields.ours() | fields.routing.of(number);
                format!("meta mark set meta mark & {:#x} | {bits:#x}", !fields.routing.mask())
            }
        },
        Action::ChangeMss(Some(size)) => format!("tcp option maxseg size set {size}"),
        Action::ChangeMss(None) if !chain.only(&[Hook::Forward, Hook::Output, Hook::Postrouting]) => {
            let message = "the path MTU is not known in every chain that leads here";
            return Err(Refusal::action(message, "chain=forward or chain=postrouting"));
        }
        Action::ChangeMss(None) => "tcp option maxseg size set rt mtu".into(),
        Action::ChangeDscp(dscp) => format!("{ip} dscp set {dscp}"),
        Action::Other(_) if matches!(action, "change-ttl" | "change-hop-limit") => {
            let (property, field) =
                if rule.family == Family::V4 { ("new-ttl", "ip ttl") } else { ("new-hop-limit", "ip6 hoplimit") };
            let text = rule.item.text(property).unwrap_or_default();
            let value = text.strip_prefix("set:").unwrap_or(text);
            let value: u8 = value.parse().map_err(|_| {
                Refusal::action("nftables can set the value, but not count from it", format!("{property}=set:64"))
            })?;
            format!("{field} set {value}")
        }
        Action::Fasttrack => {
            let message = "connections are not exempted from the rules; later packets are fast by themselves";
            return Err(Refusal::action(message, "remove the rule"));
        }
        Action::Route(_) => {
            let fix = "action=mark-routing with a table whose default route has this gateway";
            return Err(Refusal::action("a next hop cannot be forced by a rule", fix));
        }
        _ => return Err(Refusal::action(format!("`{action}` is not possible in mangle"), "remove the rule")),
    };
    let end = if rule.passthrough { "" } else { "accept" };
    let blank = if statement.is_empty() || end.is_empty() { "" } else { " " };
    Ok(format!("{statement}{blank}{end}"))
}
