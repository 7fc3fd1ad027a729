//! What the uplinks are good for, given their states. Pure.

use super::uplink::State;
use crate::config::OnDown;
use crate::host::Family;
use crate::plan::{Live, Standing};

/// One uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: u32,
    /// Its weight in force.
    pub weight: u32,
    /// Its tier.
    pub tier: u32,
    /// What becomes of its connections when it is down.
    pub on_down: OnDown,
    /// It is being emptied.
    pub draining: bool,
    /// By [`Family`]; `None` if packets of the family have no way by it: no device, address or next hop.
    pub health: [Option<Health>; 2],
}

/// How one family of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// By its checks.
    pub state: State,
    /// Passive health would withhold new connections.
    pub suspended: bool,
}

/// Who carries connections, who takes new ones, and who takes fewer.
///
/// - Those that are not down carry, and those that are down but keep their connections.
/// - Those that are usable and neither drained nor suspended take. Suspensions count for nothing in a family in which they
///   would leave none that takes by its weight.
/// - One that has not answered yet takes nothing while another of its tier has: so an uplink that was dead before the start
///   gets nothing.
pub fn standing(members: &[Member]) -> Standing {
    let mut standing = Standing::default();
    for family in Family::BOTH {
        let of = |list: &dyn Fn(&Member, Health) -> bool| -> Vec<u32> {
            let health = |member: &Member| member.health[family as usize];
            members.iter().filter(|it| health(it).is_some_and(|health| list(it, health))).map(|it| it.id).collect()
        };
        let carrying = of(&|member, health| {
            health.state.is_usable() || (matches!(health.state, State::Down(_)) && member.on_down == OnDown::Keep)
        });
        let taking = taking(members, family);
        let degraded = of(&|member, health| matches!(health.state, State::Degraded(_)) && taking.contains(&member.id));
        *of_family(&mut standing.carrying, family) = carrying;
        *of_family(&mut standing.degraded, family) = degraded;
        *of_family(&mut standing.taking, family) = taking;
    }
    standing
}

fn taking(members: &[Member], family: Family) -> Vec<u32> {
    let able: Vec<(&Member, Health)> = members
        .iter()
        .filter(|member| !member.draining)
        .filter_map(|member| Some((member, member.health[family as usize]?)))
        .filter(|(_, health)| health.state.is_usable())
        .collect();
    let mut taking: Vec<(&Member, Health)> = able.iter().copied().filter(|(_, health)| !health.suspended).collect();
    if taking.iter().all(|(member, _)| member.weight == 0) {
        taking = able;
    }
    let known: Vec<u32> = taking
        .iter()
        .filter(|(member, health)| member.weight > 0 && health.state.is_known_up())
        .map(|(member, _)| member.tier)
        .collect();
    taking.retain(|(member, health)| health.state != State::Unknown || !known.contains(&member.tier));
    taking.into_iter().map(|(member, _)| member.id).collect()
}

fn of_family(live: &mut Live, family: Family) -> &mut Vec<u32> {
    match family {
        Family::V4 => &mut live.ipv4,
        Family::V6 => &mut live.ipv6,
    }
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
