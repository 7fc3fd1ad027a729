//! Who carries and who takes. What holds for any states is in [`super::super::weather`].

use super::super::machine;
use super::super::uplink::{Cause, Reason};
use super::*;

const DEGRADED: State = State::Degraded(Cause::Loss(20));
const DOWN: State = State::Down(Reason::Check(machine::Reason::Silent));

fn member(id: u32, state: State) -> Member {
    let health = Some(Health { state, suspended: false });
    Member { id, weight: 1, tier: 1, on_down: OnDown::Release, draining: false, health: [health, None] }
}

fn suspended(id: u32) -> Member {
    Member { health: [Some(Health { state: State::Up, suspended: true }), None], ..member(id, State::Up) }
}

/// Carrying, taking, degraded of IPv4.
fn of(members: &[Member]) -> [Vec<u32>; 3] {
    let Standing { carrying, taking, degraded } = standing(members);
    assert!([&carrying, &taking, &degraded].iter().all(|live| live.ipv6.is_empty()));
    [carrying.ipv4, taking.ipv4, degraded.ipv4]
}

#[test]
fn states_decide() {
    let members = [member(1, State::Up), member(2, DEGRADED), member(3, DOWN), member(4, State::AdminDown)];
    assert_eq!(of(&members), [vec![1, 2], vec![1, 2], vec![2]]);
    let keep = |id, state| Member { on_down: OnDown::Keep, ..member(id, state) };
    assert_eq!(of(&[keep(1, DOWN), keep(2, State::AdminDown)]), [vec![1], vec![], vec![]]);
    assert_eq!(of(&[Member { draining: true, ..member(1, DEGRADED) }]), [vec![1], vec![], vec![]]);
}

#[test]
fn suspensions_never_remove_the_last() {
    assert_eq!(of(&[suspended(1), member(2, State::Up)])[1], [2]);
    assert_eq!(of(&[suspended(1), member(2, DOWN)])[1], [1]);
    assert_eq!(of(&[suspended(1), suspended(2)])[1], [1, 2]);
    // One that takes nothing by its weight is none.
    assert_eq!(of(&[suspended(1), Member { weight: 0, ..member(2, State::Up) }])[1], [1, 2]);
    // Another tier can take over.
    assert_eq!(of(&[suspended(1), Member { tier: 2, ..member(2, State::Up) }])[1], [2]);
}

#[test]
fn who_has_not_answered_yet_waits_for_nobody_but_its_tier() {
    let unknown = member(2, State::Unknown);
    assert_eq!(of(&[member(1, State::Unknown), unknown.clone()])[1], [1, 2]);
    assert_eq!(of(&[member(1, DEGRADED), unknown.clone()]), [vec![1, 2], vec![1], vec![1]]);
    assert_eq!(of(&[Member { tier: 2, ..member(1, State::Up) }, unknown.clone()])[1], [1, 2]);
    assert_eq!(of(&[Member { weight: 0, ..member(1, State::Up) }, unknown])[1], [1, 2]);
}
