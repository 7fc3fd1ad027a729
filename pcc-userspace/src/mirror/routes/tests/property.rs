//! What holds for all routings, all health and all hosts.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::plan;

/// Next hops of three levels: on a link, check hosts, virtual hops; none refers to its own level.
fn script() -> impl Strategy<Value = String> {
    let links = ["198.18.1.1", "198.18.2.1", "pppoe-out1", "pppoe-out2", "198.18.9.9%ether1", "192.0.2.66"];
    let link = prop::sample::select(links.to_vec()).prop_map(str::to_owned);
    let host = (0..4_u8).prop_map(|n| format!("192.0.2.{n}"));
    let hop = (0..2_u8).prop_map(|n| format!("10.1.1.{n}"));
    let gateways = |one: BoxedStrategy<String>| prop::collection::vec(one, 1..4).prop_map(|all| all.join(","));
    let any = prop_oneof![link.clone(), host.clone(), hop.clone()].boxed();
    let second = prop_oneof![link.clone(), host.clone()].boxed();
    let options = (
        1..4_u8,
        prop::sample::select(vec!["", " check-gateway=ping", " check-gateway=arp"]),
        prop::sample::select(vec!["", " scope=10"]),
        prop::sample::select(vec!["", " target-scope=11", " target-scope=30"]),
        prop::sample::select(vec!["", "", "", " disabled=yes"]),
        prop::sample::select(vec!["a", "b"]),
    );
    let options = options.prop_map(|(distance, check, scope, target, disabled, comment)| {
        format!("distance={distance}{check}{scope}{target}{disabled} comment={comment}")
    });
    let route = prop_oneof![
        (host, gateways(link.boxed()), options.clone())
            .prop_map(|(host, gateways, options)| format!("add dst-address={host}/32 gateway={gateways} {options}")),
        (hop, gateways(second), options.clone())
            .prop_map(|(hop, gateways, options)| format!("add dst-address={hop}/32 gateway={gateways} {options}")),
        (gateways(any), options.clone(), prop::sample::select(vec!["", " TABLE=one", " TABLE=two"]))
            .prop_map(|(gateways, options, table)| format!("add gateway={gateways} {options}{table}")),
        (prop::sample::select(vec!["0.0.0.0/0", "192.0.2.1/32", "10.1.1.1/32"]), 1..6_u8)
            .prop_map(|(destination, distance)| format!("add dst-address={destination} distance={distance} BLACKHOLE")),
    ];
    let effect = prop::sample::select(vec![
        "disable [find comment=a]",
        "enable [find comment=b]",
        "set [find comment=b] distance=7",
    ]);
    let watch = (0..4_u8, effect.clone(), effect).prop_map(|(host, up, down)| {
        format!("add host=192.0.2.{host} up-script=\"/ip route {up}\" down-script=\"/ip route {down}\"")
    });
    (prop::collection::vec(route, 1..16), prop::collection::vec(watch, 0..3)).prop_map(|(routes, watches)| {
        format!("/ip route\n{}\n/tool netwatch\n{}", routes.join("\n"), watches.join("\n"))
    })
}

fn lab(script: &str, dialect: Dialect) -> Lab {
    match dialect {
        Dialect::V6 => Lab::v6(&script.replace("TABLE", "routing-mark").replace("BLACKHOLE", "type=blackhole")),
        Dialect::V7 => {
            let tables = "/routing table\nadd name=one fib\nadd name=two fib\n";
            Lab::v7(&format!("{tables}{}", script.replace("TABLE", "routing-table").replace("BLACKHOLE", "blackhole")))
        }
    }
}

/// The rules of RouterOS once more, as plain recursion over a routing without circles.
struct Oracle<'a> {
    lab: &'a Lab,
    down: &'a BTreeSet<WatchKey>,
}

type Exits = BTreeSet<(Option<IpAddr>, u32)>;

impl Oracle<'_> {
    fn state(&self, index: usize) -> (bool, u8) {
        let route = &self.lab.routing.routes[index];
        let mut state = (route.enabled, route.distance);
        for down in [false, true] {
            for rule in self.lab.routing.health.iter().filter(|rule| self.down.contains(&rule.watch) == down) {
                for (target, effect) in if down { &rule.down } else { &rule.up } {
                    match effect {
                        _ if *target != index => {}
                        Effect::Enable => state.0 = true,
                        Effect::Disable => state.0 = false,
                        Effect::Distance(distance) => state.1 = *distance,
                    }
                }
            }
        }
        state
    }

    fn link(&self, name: &str) -> Option<u32> {
        let link = self.lab.host.link(name)?;
        let addressed = self
            .lab
            .host
            .addresses
            .iter()
            .any(|address| address.ifindex == link.index && address.network.addr().is_ipv4());
        (link.carrier && addressed).then_some(link.index)
    }

    fn exits(&self, route: &Candidate) -> Exits {
        let mut exits = Exits::new();
        for hop in route.hops.iter().filter(|hop| !hop.watches.iter().any(|watch| self.down.contains(watch))) {
            match &hop.via {
                Via::Device(device) => exits.extend(self.link(device).map(|index| (None, index))),
                Via::OnLink { address, device } => exits.extend(self.link(device).map(|index| (Some(*address), index))),
                Via::Resolved { address, .. } => exits.extend(self.resolve(*address, route.target_scope)),
                Via::Learned { .. } => unreachable!(),
            }
        }
        exits
    }

    fn resolve(&self, address: IpAddr, scope: u8) -> Exits {
        for (prefix, device) in [("198.18.1.", "wan1"), ("198.18.2.", "wan2")] {
            if address.to_string().starts_with(prefix) {
                return self.link(device).map(|index| (Some(address), index)).into_iter().collect();
            }
        }
        let best = self.best((BASE + MAIN, IpNet::from(address)));
        let fit = best.into_iter().filter(|index| self.lab.routing.routes[*index].scope <= scope);
        fit.flat_map(|index| self.exits(&self.lab.routing.routes[index])).collect()
    }

    /// The active routes of a slot.
    fn best(&self, slot: (u32, IpNet)) -> Vec<usize> {
        let routes = &self.lab.routing.routes;
        let alive: Vec<usize> = (0..routes.len())
            .filter(|index| (routes[*index].table, routes[*index].destination) == slot && self.state(*index).0)
            .filter(|index| routes[*index].kind != RouteKind::Unicast || !self.exits(&routes[*index]).is_empty())
            .collect();
        let least = alive.iter().map(|index| self.state(*index).1).min();
        alive.into_iter().filter(|index| Some(self.state(*index).1) == least).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn active_routes_are_those_that_lead_somewhere(
        script in script(),
        old in any::<bool>(),
        silent in prop::collection::vec(any::<bool>(), 32),
        cut in prop::sample::subsequence(vec!["wan1", "wan2", "ppp1", "ppp2"], 0..3),
    ) {
        let mut lab = lab(&script, if old { Dialect::V6 } else { Dialect::V7 });
        cut.iter().for_each(|device| lab.cut(device));
        let keys: BTreeSet<_> =
            watched(&lab.routing, &lab.host, &|_| false).into_iter().map(|watch| watch.key).collect();
        let down: BTreeSet<_> =
            keys.into_iter().zip(silent.iter().cycle()).filter(|(_, silent)| **silent).map(|(key, _)| key).collect();
        let active = active(&lab.routing, &lab.host, &|key| down.contains(key));
        let oracle = Oracle { lab: &lab, down: &down };
        let slots: BTreeSet<_> = lab.routing.routes.iter().map(|route| (route.table, route.destination)).collect();
        for slot in slots {
            let best = oracle.best(slot);
            let found: Vec<_> = active.iter().filter(|route| (route.table, route.destination) == slot).collect();
            prop_assert_eq!(found.len(), usize::from(!best.is_empty()), "{}\n{:?}", script, slot);
            let Some(route) = found.first() else { continue };
            prop_assert_eq!(route.metric, best.first().map(|index| u32::from(oracle.state(*index).1)));
            let exits: Exits =
                best.iter().flat_map(|index| oracle.exits(&lab.routing.routes[*index])).collect();
            let hops: Exits = route.next_hops.iter().map(|hop| (hop.gateway, hop.ifindex)).collect();
            prop_assert_eq!(hops, exits, "{}\n{}", script, route);
        }
        prop_assert!(active.iter().all(|route| (BASE + 1..=BASE + MAIN).contains(&route.table)));
        // No probe leaves by a device that is not its own.
        for watch in watched(&lab.routing, &lab.host, &|key| down.contains(key)) {
            if let (WatchKey::Gateway { via: Via::Resolved { .. }, .. }, Egress::Device(device)) = (&watch.key, &watch.egress) {
                prop_assert!(!cut.contains(&device.as_str()));
            }
        }
        prop_assert!(plan::reconcile(&active, &[], BASE, 100, &lab.host).len() == active.len());
    }

    #[test]
    fn no_text_makes_it_panic_or_hang(lines in prop::collection::vec(
        "(add (dst-address=[12]\\.[01]\\.0\\.[0-3]/(0|8|31|32) )?gateway=[12]\\.[01]\\.0\\.[0-3](,[12]\\.[01]\\.0\\.[0-3]|%ether1|@main)?( target-scope=(11|40|255))?( scope=(0|10|255))?( check-gateway=ping)?( distance=[0-9]{1,3})?)",
        0..24,
    ), old in any::<bool>()) {
        let text = format!("/ip route\n{}", lines.join("\n"));
        let lab = Lab::new(if old { Dialect::V6 } else { Dialect::V7 }, &text);
        let _ = lab.active(&[]);
        let _ = watched(&lab.routing, &lab.host, &|_| true);
    }
}
