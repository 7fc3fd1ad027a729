//! Which chains packets reach, by which hooks, and what nft calls them.

use std::collections::{BTreeMap, BTreeSet};

use super::refusal::Refusal;
use crate::routeros::model::Family;
use crate::routeros::model::rule::{Action, Rule};

/// Chains in chains that the kernel follows are 16; ours take some.
const DEEPEST: usize = 12;

/// A netfilter hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Before the routing decision.
    Prerouting,
    /// To the router itself.
    Input,
    /// Through the router.
    Forward,
    /// From the router itself.
    Output,
    /// After the routing decision.
    Postrouting,
}

/// The two menus whose rules become nft rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Menu {
    /// `firewall mangle`.
    Mangle,
    /// `firewall nat`.
    Nat,
}

/// The chains of one menu and family that packets reach.
#[derive(Debug)]
pub struct Chains<'a> {
    /// Whose rules they hold.
    pub menu: Menu,
    /// Whose packets they see.
    pub family: Family,
    chains: BTreeMap<&'a str, Chain<'a>>,
    /// Jumps that cannot be made, by chain and target.
    refused: BTreeSet<(&'a str, &'a str)>,
}

/// One chain.
#[derive(Debug, Default)]
pub struct Chain<'a> {
    /// What nft calls it.
    pub identifier: String,
    /// The hooks that lead to it.
    pub hooks: BTreeSet<Hook>,
    /// Its rules in order.
    pub rules: Vec<&'a Rule>,
    /// Chains on the longest way to it, itself included.
    depth: usize,
}

impl<'a> Chains<'a> {
    /// The chains among `rules` that packets reach from `bases`, chains of a hook.
    pub fn of(rules: &'a [Rule], menu: Menu, family: Family, bases: &[(&'a str, Hook)]) -> Self {
        let mut all: BTreeMap<&str, Chain<'_>> = BTreeMap::new();
        for rule in rules.iter().filter(|rule| rule.family == family && rule.active()) {
            if let Action::Jump(target) = &rule.action {
                all.entry(target).or_default();
            }
            all.entry(&rule.chain).or_default().rules.push(rule);
        }
        let letter = match menu {
            Menu::Mangle => 'm',
            Menu::Nat => 'n',
        };
        let prefix = format!("{letter}{}", digit(family));
        for (index, (name, chain)) in all.iter_mut().enumerate() {
            chain.identifier = identifier(&prefix, index, name);
        }
        for (base, hook) in bases {
            if let Some(chain) = all.get_mut(base) {
                chain.depth = 1;
                chain.hooks.insert(*hook);
            }
        }
        let is_base = |name: &str| bases.iter().any(|(base, _)| *base == name);
        let edges: BTreeSet<(&str, &str)> = all
            .iter()
            .flat_map(|(name, chain)| chain.rules.iter().map(move |rule| (*name, &rule.action)))
            .filter_map(|(name, action)| match action {
                Action::Jump(target) => Some((name, target.as_str())),
                _ => None,
            })
            .collect();
        let mut refused: BTreeSet<_> = edges.iter().copied().filter(|(_, target)| is_base(target)).collect();
        // The longest way to every chain. A loop makes ways ever longer, until one of its jumps is refused.
        let mut changed = true;
        while changed {
            changed = false;
            for edge @ (from, to) in &edges {
                let depth = all.get(from).map_or(0, |chain| chain.depth);
                let Some(target) = all.get_mut(to).filter(|_| depth > 0 && !refused.contains(edge)) else { continue };
                if target.depth > depth {
                    continue;
                }
                changed = true;
                if depth < DEEPEST {
                    target.depth = depth + 1;
                } else {
                    refused.insert(*edge);
                }
            }
        }
        all.retain(|_, chain| chain.depth > 0);
        for depth in 1..DEEPEST {
            for edge @ (from, to) in &edges {
                let hooks = match all.get(from) {
                    Some(chain) if chain.depth == depth && !refused.contains(edge) => chain.hooks.clone(),
                    _ => continue,
                };
                if let Some(target) = all.get_mut(to) {
                    target.hooks.extend(hooks);
                }
            }
        }
        Self { menu, family, chains: all, refused }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Chain<'a>> {
        self.chains.values()
    }

    /// The chain that RouterOS calls `name`, if packets reach it.
    pub fn get(&self, name: &str) -> Option<&Chain<'a>> {
        self.chains.get(name)
    }

    /// What nft calls the target of a jump in chain `from`, or why the jump cannot be made.
    pub fn target(&self, from: &str, to: &str) -> Result<&str, Refusal> {
        match self.get(to) {
            Some(chain) if !self.refused.contains(&(from, to)) => Ok(&chain.identifier),
            _ => {
                let message = format!("chain `{to}` is built in, leads back here, or is nested deeper than {DEEPEST}");
                Err(Refusal::chain(message, "jump to a chain of its own name that ends or returns"))
            }
        }
    }
}

impl Chain<'_> {
    /// Packets come here by no other hooks than these.
    pub fn only(&self, hooks: &[Hook]) -> bool {
        self.hooks.iter().all(|hook| hooks.contains(hook))
    }
}

/// A unique nft identifier for the item `index` that RouterOS calls `name`.
pub fn identifier(prefix: &str, index: usize, name: &str) -> String {
    const LONGEST: usize = 48;
    let safe = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
    if name.len() <= LONGEST && name.chars().all(safe) {
        return format!("{prefix}_{name}");
    }
    let name: String = name.chars().take(LONGEST).map(|letter| if safe(letter) { letter } else { '_' }).collect();
    format!("{prefix}.{index}_{name}")
}

/// 4 or 6.
pub fn digit(family: Family) -> u8 {
    match family {
        Family::V4 => 4,
        Family::V6 => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::{Chains, DEEPEST, Hook, Menu, identifier};
    use crate::routeros::model::{Family, Model};
    use crate::routeros::read;

    const BASES: [(&str, Hook); 2] = [("forward", Hook::Forward), ("output", Hook::Output)];

    fn model(rules: &str) -> Model {
        Model::build(&read(format!("/ip firewall mangle\n{rules}").as_bytes())).model
    }

    fn chains(model: &Model) -> Chains<'_> {
        Chains::of(&model.mangle, Menu::Mangle, Family::V4, &BASES)
    }

    #[test]
    fn hooks_reach_chains_through_chains() {
        let model = model(
            "add chain=forward action=jump jump-target=a\nadd chain=a action=jump jump-target=b\n\
             add chain=output action=jump jump-target=b\nadd chain=lost action=accept\n\
             add chain=prerouting action=jump jump-target=early",
        );
        let chains = chains(&model);
        let hooks: Vec<_> = chains.chains.iter().map(|(name, chain)| (*name, Vec::from_iter(&chain.hooks))).collect();
        let (forward, output) = (&Hook::Forward, &Hook::Output);
        let wanted =
            [("a", vec![forward]), ("b", vec![forward, output]), ("forward", vec![forward]), ("output", vec![output])];
        assert_eq!(hooks, wanted);
        assert_eq!(chains.target("a", "b"), Ok("m4_b"));
        assert!(chains.target("a", "nowhere").is_err());
    }

    #[test]
    fn loops_and_deep_nests_are_cut() {
        let looped = model(
            "add chain=forward action=jump jump-target=a\nadd chain=a action=jump jump-target=b\n\
             add chain=b action=jump jump-target=a\nadd chain=a action=jump jump-target=output\n\
             add chain=forward action=jump jump-target=self\nadd chain=self action=jump jump-target=self",
        );
        let looped = chains(&looped);
        assert!(looped.target("a", "b").is_err() || looped.target("b", "a").is_err());
        assert!(looped.target("a", "output").is_err() && looped.target("self", "self").is_err());
        let nest: String =
            (0..30).map(|depth| format!("add chain=c{depth} action=jump jump-target=c{}\n", depth + 1)).collect();
        let nest = model(&format!("add chain=forward action=jump jump-target=c0\n{nest}"));
        let nest = chains(&nest);
        assert_eq!(nest.chains.len(), DEEPEST);
        assert!(nest.target("c9", "c10").is_ok() && nest.target("c10", "c11").is_err());
    }

    #[test]
    fn identifiers_are_safe_and_unique() {
        assert_eq!(identifier("m4", 0, "to-WAN_1"), "m4_to-WAN_1");
        assert_eq!(identifier("m4", 3, "a b{\"ü"), "m4.3_a_b___");
        assert_ne!(identifier("m4", 1, "a b"), identifier("m4", 2, "a.b"));
        assert_ne!(identifier("m4", 1, "a b"), identifier("m4", 1, "1_a_b"));
        assert!(identifier("m4", 7, &"x".repeat(500)).len() < 100);
    }
}
