//! The `[[rule]]` tables and `[lists]`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use pcc_ebpf::abi::POLICIES;
use pcc_ebpf::classify::HashFields;
use pcc_ebpf::flow;

use super::super::file::{At, Draft, Place, RuleDraft, Several};
use super::super::rule::{Condition, Decision, Members, Policy, Rule, Sticky};
use super::super::{Config, Uplink};
use super::{Checker, NAME_LENGTH, is_plain};
use crate::names;
use crate::routeros::model::values;
use crate::rules::{self, Fault};

const LIFETIME: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(365 * 24 * 3600);
const MAIN: &str = "main";
const ALL: &str = "all";

type Lists = BTreeMap<String, Vec<IpNet>>;

impl Checker<'_> {
    pub(super) fn rules(&mut self, draft: &Draft, uplinks: &[Uplink], hash: HashFields) -> Vec<Rule> {
        let lists = self.lists(&draft.lists);
        let lans: Vec<&str> = draft.lan.iter().map(|at| at.value.as_str()).collect();
        let rules: Vec<Rule> = draft.rule.iter().map(|rule| self.rule(rule, &lists, &lans, uplinks, hash)).collect();
        if self.problems.is_empty() {
            for fault in rules::compile(&rules, hash).1 {
                self.fault(&fault, &draft.rule);
            }
        }
        rules
    }

    fn lists(&mut self, drafts: &BTreeMap<String, Several>) -> Lists {
        let mut lists = Lists::new();
        for (name, several) in drafts {
            if !(1..=NAME_LENGTH).contains(&name.len()) || !name.bytes().all(is_plain) {
                let hint = format!("1 to {NAME_LENGTH} of letters, digits, `.`, `_` and `-`");
                self.refuse(several.place, "lists", format_args!("`{name}` cannot name a list"), hint);
            }
            if several.words.is_empty() {
                self.refuse(several.place, name, "the list is empty", "write addresses or prefixes into it");
            }
            let prefixes = several.words.iter().filter_map(|at| self.prefix(&at.value, at.place, name)).collect();
            lists.insert(name.clone(), prefixes);
        }
        lists
    }

    fn rule(&mut self, draft: &RuleDraft, lists: &Lists, lans: &[&str], uplinks: &[Uplink], hash: HashFields) -> Rule {
        let protocols = self.condition("protocol", draft.protocol.as_ref(), |checker, text, place| {
            let hint = "a name such as `tcp`, `udp`, `icmp` or `icmpv6`, or a number up to 255";
            let number = values::protocol(text);
            if number.is_none() {
                checker.refuse(place, "protocol", format_args!("`{text}` is no protocol"), hint);
            }
            number.into_iter().collect()
        });
        let interfaces = self.condition("interface", draft.interface.as_ref(), |checker, text, place| {
            let index = lans.iter().position(|lan| *lan == text);
            if index.is_none() {
                let hint = format!("rules are asked about what comes in by: {}", lans.join(", "));
                let hint = names::hint(text, lans, &hint);
                checker.refuse(place, "interface", format_args!("`{text}` is no LAN device"), hint);
            }
            index.into_iter().collect()
        });
        Rule {
            name: draft.name.as_ref().map(|at| at.value.clone()),
            source: self.addresses("source", draft.source.as_ref(), lists),
            destination: self.addresses("destination", draft.destination.as_ref(), lists),
            source_ports: self.ports("source_port", draft.source_port.as_ref(), &protocols),
            destination_ports: self.ports("destination_port", draft.destination_port.as_ref(), &protocols),
            protocols,
            interfaces,
            decision: self.decision(draft, uplinks, hash),
        }
    }

    /// Words of a condition, some with a leading `!`; `read` says what one means.
    fn condition<T>(
        &mut self,
        key: &str,
        several: Option<&Several>,
        mut read: impl FnMut(&mut Self, &str, Place) -> Vec<T>,
    ) -> Condition<T> {
        let mut condition = Condition::ANYTHING;
        let Some(Several { place, words }) = several else { return condition };
        if words.is_empty() {
            self.refuse(
                *place,
                key,
                "the list is empty, so that nothing would match",
                "leave the key out to match all",
            );
        }
        for At { value, place } in words {
            match value.strip_prefix('!') {
                Some(text) => condition.none.extend(read(self, text, *place)),
                None => condition.any.extend(read(self, value, *place)),
            }
        }
        condition
    }

    fn addresses(&mut self, key: &str, several: Option<&Several>, lists: &Lists) -> Condition<IpNet> {
        let Condition { any, none } = self.condition(key, several, |checker, text, place| {
            let Some(name) = text.strip_prefix('@') else {
                return checker.prefix(text, place, key).into_iter().collect();
            };
            let known = lists.get(name);
            if known.is_none() {
                let names: Vec<&str> = lists.keys().map(String::as_str).collect();
                let hint = if names.is_empty() {
                    format!("write it: `[lists]`, and `{name} = [\"10.0.0.0/8\"]` below it")
                } else {
                    names::hint(name, &names, &format!("`[lists]` has: {}", names.join(", ")))
                };
                checker.refuse(place, key, format_args!("no list `{name}`"), hint);
            }
            known.cloned().unwrap_or_default()
        });
        Condition { any: IpNet::aggregate(&any), none: IpNet::aggregate(&none) }
    }

    fn ports(
        &mut self,
        key: &str,
        several: Option<&Several>,
        protocols: &Condition<u8>,
    ) -> Condition<RangeInclusive<u16>> {
        let ports = self.condition(key, several, |checker, text, place| {
            let range = values::range(text);
            if range.is_none() {
                let hint = "a number up to 65535, or two such as `\"8000-8100\"`";
                checker.refuse(place, key, format_args!("`{text}` is no port"), hint);
            }
            range.into_iter().collect()
        });
        let has_ports = |protocol: &u8| flow::has_ports(u32::from(*protocol));
        if let Some(several) = several
            && !ports.any.is_empty()
            && !protocols.any.is_empty()
            && !protocols.any.iter().any(has_ports)
        {
            let hint = "TCP, UDP, UDP-Lite, SCTP and DCCP have ports";
            self.refuse(several.place, key, "the rule's protocols have no ports", hint);
        }
        ports
    }

    fn decision(&mut self, draft: &RuleDraft, uplinks: &[Uplink], hash: HashFields) -> Decision {
        let Several { place, words } = &draft.uses;
        let hash = draft.hash.as_ref().and_then(|at| self.fields(at, "hash")).unwrap_or(hash);
        let sticky = draft.sticky.as_ref().and_then(|sticky| {
            let lifetime = sticky.lifetime.as_ref().map(|at| self.duration(Some(at), "lifetime", LIFETIME));
            Some(Sticky { by: self.fields(&sticky.by, "by")?, lifetime: lifetime.flatten() })
        });
        let members = match words.as_slice() {
            [at] if at.value == MAIN || at.value == ALL => {
                if uplinks.iter().any(|uplink| uplink.name == at.value || uplink.device == at.value) {
                    let what = format!("`{}` is an uplink too", at.value);
                    self.refuse(*place, "use", what, "give that uplink another `name`");
                }
                (at.value == ALL).then_some(Members::All)
            }
            _ => Some(Members::Group(self.group(*place, words, uplinks))),
        };
        let chooses = match &members {
            None => false,
            Some(Members::All) => uplinks.len() > 1,
            Some(Members::Group(group)) => group.len() > 1,
        };
        let by = draft.sticky.as_ref().map(|sticky| (sticky.by.place, "sticky"));
        for (place, key) in draft.hash.as_ref().map(|at| (at.place, "hash")).into_iter().chain(by) {
            if !chooses {
                self.refuse(place, key, "there is nothing to choose", "leave it out, or `use` several uplinks");
            }
        }
        members.map_or(Decision::Main, |members| Decision::Policy(Policy { members, hash, sticky }))
    }

    fn group(&mut self, place: Place, words: &[At<String>], uplinks: &[Uplink]) -> Vec<(usize, u32)> {
        let names: Vec<&str> = uplinks.iter().map(|uplink| uplink.name.as_str()).collect();
        let hint = format!("`main`, `all`, or uplinks with or without a weight, such as `{}:3`", names.join("`, `"));
        if words.is_empty() {
            self.refuse(place, "use", "no uplink", &*hint);
        }
        let mut group: Vec<(usize, u32)> = Vec::new();
        for At { value, place } in words {
            let (name, weight) = value.split_once(':').map_or((value.as_str(), None), |(name, it)| (name, Some(it)));
            let by_name = || uplinks.iter().position(|uplink| uplink.name == name);
            let Some(index) = uplinks.iter().position(|uplink| uplink.device == name).or_else(by_name) else {
                let devices = uplinks.iter().map(|uplink| uplink.device.as_str());
                let known: Vec<&str> = names.iter().copied().chain(devices).chain([MAIN, ALL]).collect();
                let hint = names::hint(name, &known, &hint);
                self.refuse(*place, "use", format_args!("no uplink `{name}`"), hint);
                continue;
            };
            if group.iter().any(|(known, _)| *known == index) {
                self.refuse(*place, "use", format_args!("`{name}` is there twice"), "name each uplink once");
            }
            let most = Uplink::MAX_WEIGHT;
            match weight.map_or(Some(1), |text| text.parse().ok().filter(|weight| (1..=most).contains(weight))) {
                Some(weight) => group.push((index, weight)),
                None => {
                    let what = format!("`{}` is no weight", weight.unwrap_or_default());
                    self.refuse(*place, "use", what, format!("1 to {most}, as in `{name}:3`"));
                }
            }
        }
        group.sort_unstable();
        group
    }

    /// What is wrong with rules that are right each for itself.
    fn fault(&mut self, fault: &Fault, drafts: &[RuleDraft]) {
        let mut refuse = |index: usize, what: String, hint: &str| {
            if let Some(draft) = drafts.get(index) {
                self.refuse(draft.uses.place, "use", what, hint);
            }
        };
        let name = |index: usize| drafts.get(index).and_then(|draft| draft.name.as_ref());
        let rule = |index| name(index).map_or_else(|| "this rule".to_owned(), |at| format!("rule `{}`", at.value));
        match *fault {
            Fault::Never(index) => refuse(
                index,
                format!("{} can never match", rule(index)),
                "its conditions leave nothing over, such as an IPv4 source with an IPv6 destination",
            ),
            Fault::Shadowed(index) => refuse(
                index,
                format!("{} never decides: one before it matches everything", rule(index)),
                "the first rule that matches decides: move that one to the end",
            ),
            Fault::Policies(index) => {
                let what = format!("the rules choose among uplinks in more than {} ways", POLICIES - 1);
                refuse(index, what, "rules with equal `use`, `hash` and `sticky` are one way");
            }
            Fault::Steps(index) => {
                refuse(index, "the rules are too long".to_owned(), "lists cost less than many ports and rules");
            }
            Fault::Prefixes(index) => {
                let what = format!("the rules ask for more than {} prefixes of one family", rules::MEMBERS);
                refuse(index, what, "shorten the lists");
            }
        }
    }

    /// A set of header fields.
    pub(super) fn fields(&mut self, at: &At<String>, key: &str) -> Option<HashFields> {
        let fields = HashFields::parse(&at.value);
        if fields.is_none() {
            let words = HashFields::ALL.map(|(word, _)| word).join(", ");
            self.refuse(
                at.place,
                key,
                format_args!("`{}` names no set of fields", at.value),
                format!("one of {words}"),
            );
        }
        fields
    }

    pub(super) fn hash(&mut self, at: Option<&At<String>>) -> HashFields {
        at.and_then(|at| self.fields(at, "hash")).unwrap_or(Config::HASH)
    }
}
