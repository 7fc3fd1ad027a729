use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const ALL: u64 = xdp::BASIC | xdp::REDIRECT | xdp::TRANSMIT;

/// A LAN device and an uplink whose drivers can everything.
struct Scene {
    mode: FastPath,
    lan: Link,
    wan: Link,
    facts: BTreeMap<u32, Facts>,
    circumstances: Circumstances,
}

impl Scene {
    fn new(mode: FastPath) -> Self {
        let able = Facts { xdp: Some(ALL), ..Facts::default() };
        Self {
            mode,
            lan: Link::card(1, "lan"),
            wan: Link::card(2, "wan1"),
            facts: [(1, able.clone()), (2, able)].into(),
            circumstances: Circumstances::default(),
        }
    }

    fn facts(&mut self, index: u32) -> &mut Facts {
        self.facts.entry(index).or_default()
    }

    fn choose(&self) -> Choice {
        choose(self.mode, &[&self.lan], &[&self.wan], &self.facts, &self.circumstances)
    }

    /// The pairs as `lan→wan1` and back, and the bits of both.
    #[track_caller]
    fn assert(&self, out: (Way, &str), back: (Way, &str), bits: [u32; 2]) {
        let choice = self.choose();
        let [first, second] = choice.pairs.as_slice() else { panic!("{choice:?}") };
        assert_eq!((first.from.as_str(), second.from.as_str()), ("lan", "wan1"));
        for (pair, (way, reason)) in [(first, out), (second, back)] {
            assert_eq!((pair.way, pair.reason.as_str()), (way, reason));
        }
        assert_eq!([choice.of(1), choice.of(2)], bits);
    }
}

const BY_DRIVER: (Way, &str) = (Way::Xdp, "the drivers of lan and wan1 can, and nothing shapes wan1");
const BACK_BY_DRIVER: (Way, &str) = (Way::Xdp, "the drivers of wan1 and lan can, and nothing shapes lan");
const ONLY_TC: u32 = TAKES | GIVES;
const EVERYTHING: u32 = TAKES | GIVES | FRAMES | XDP;

#[test]
fn cards_that_can_use_xdp() {
    Scene::new(FastPath::Auto).assert(BY_DRIVER, BACK_BY_DRIVER, [EVERYTHING; 2]);
    let forced = (Way::Xdp, "--fast-path xdp");
    Scene::new(FastPath::Xdp).assert(forced, forced, [EVERYTHING; 2]);
}

#[test]
fn the_mode_and_the_firewall_rule() {
    let tc = (Way::Tc, "--fast-path tc");
    Scene::new(FastPath::Tc).assert(tc, tc, [ONLY_TC; 2]);
    let off = (Way::Stack, "--fast-path off");
    Scene::new(FastPath::Off).assert(off, off, [0; 2]);
    let mut scene = Scene::new(FastPath::Xdp);
    let reason = "rule `queue` of table inet ips queues packets";
    scene.circumstances.lease = Lease { seconds: 0, reason: reason.into() };
    scene.assert((Way::Stack, reason), (Way::Stack, reason), [0; 2]);
}

#[test]
fn virtual_devices_use_xdp_only_when_they_must() {
    let mut scene = Scene::new(FastPath::Auto);
    scene.wan.kind = Some("veth".into());
    let reason = (Way::Tc, "wan1 is a veth, which is faster without XDP");
    scene.assert(reason, reason, [ONLY_TC | FRAMES, ONLY_TC]);
    scene.wan.kind = Some("ipvlan".into());
    assert_eq!(scene.choose().pairs[0].reason, "wan1 is an ipvlan, which is faster without XDP");
    scene.mode = FastPath::Xdp;
    let forced = (Way::Xdp, "--fast-path xdp");
    scene.assert(forced, forced, [EVERYTHING; 2]);
}

#[test]
fn without_an_ethernet_header_it_is_tc() {
    for mode in [FastPath::Auto, FastPath::Xdp] {
        let mut scene = Scene::new(mode);
        scene.wan = Link { ethernet: false, kind: Some("ppp".into()), name: "ppp0".into(), ..scene.wan };
        let pairs = scene.choose().pairs;
        for pair in &pairs {
            assert_eq!((pair.way, pair.reason.as_str()), (Way::Tc, "ppp0 has no Ethernet header"));
        }
        assert_eq!(scene.choose().of(1) & XDP, 0, "it would be there for nobody");
    }
}

#[test]
fn xdp_never_goes_around_what_shapes_or_filters_what_leaves() {
    for mode in [FastPath::Auto, FastPath::Xdp] {
        let mut scene = Scene::new(mode);
        scene.facts(2).egress = Some("flower".into());
        let back = scene.choose().pairs[1].clone();
        assert_eq!(back.way, Way::Xdp, "{back:?}");
        let tc = (Way::Tc, "wan1 has filters at egress (flower), and XDP would go around them");
        scene.assert(tc, (back.way, &back.reason), [ONLY_TC | FRAMES, ONLY_TC | XDP]);
        scene.facts(2).shaper = Some("cake".into());
        let tc = (Way::Tc, "cake shapes wan1, and XDP would go around it");
        scene.assert(tc, (back.way, &back.reason), [ONLY_TC | FRAMES, ONLY_TC | XDP]);
    }
}

#[test]
fn a_shaper_is_named_even_where_the_device_is_virtual() {
    let mut scene = Scene::new(FastPath::Auto);
    scene.wan.kind = Some("veth".into());
    scene.facts(2).shaper = Some("tbf".into());
    assert_eq!(scene.choose().pairs[0].reason, "tbf shapes wan1, and XDP would go around it");
}

#[test]
fn what_filters_look_at_when_it_comes_in_stays_in_the_stack() {
    for mode in [FastPath::Auto, FastPath::Xdp, FastPath::Tc] {
        let mut scene = Scene::new(mode);
        scene.facts(2).ingress = Some("matchall".into());
        let choice = scene.choose();
        let reason = "wan1 has filters at ingress (matchall), which shape or inspect each packet";
        assert_eq!((choice.pairs[1].way, choice.pairs[1].reason.as_str()), (Way::Stack, reason));
        assert_ne!(choice.pairs[0].way, Way::Stack, "the other direction goes on");
        assert_eq!(choice.of(2) & (TAKES | XDP | GIVES), GIVES);
    }
}

#[test]
fn what_drivers_cannot_or_nobody_tells_is_tc() {
    for mode in [FastPath::Auto, FastPath::Xdp] {
        let mut scene = Scene::new(mode);
        scene.facts(1).xdp = None;
        scene.assert(
            (Way::Tc, "the kernel does not tell whether lan runs XDP programs (Linux 6.3 does)"),
            (Way::Tc, "the kernel does not tell whether lan can send redirected frames (Linux 6.3 does)"),
            [ONLY_TC, ONLY_TC | FRAMES],
        );
        scene.facts.clear();
        scene.facts(1).xdp = Some(xdp::BASIC | xdp::TRANSMIT);
        scene.facts(2).xdp = Some(ALL);
        let back = scene.choose().pairs[1].clone();
        let tc = (Way::Tc, "the driver of lan does not run XDP programs that redirect");
        scene.assert(tc, (Way::Xdp, &back.reason), [ONLY_TC | FRAMES, EVERYTHING]);
        scene.facts.clear();
        let choice = scene.choose();
        assert!(choice.pairs.iter().all(|pair| pair.way == Way::Tc), "{choice:?}");
    }
}

#[test]
fn a_driver_that_sends_frames_only_while_it_runs_a_program_gets_one() {
    let mut scene = Scene::new(FastPath::Auto);
    for index in [1, 2] {
        scene.facts(index).xdp = Some(xdp::BASIC | xdp::REDIRECT);
    }
    let tc = |device: &str| format!("the driver of {device} does not send redirected frames");
    scene.assert((Way::Tc, &tc("wan1")), (Way::Tc, &tc("lan")), [ONLY_TC | XDP; 2]);
    scene.facts(2).xdp = Some(ALL);
    scene.assert(BY_DRIVER, (Way::Tc, &tc("lan")), [ONLY_TC | XDP, EVERYTHING]);
    scene.facts(2).xdp = Some(0);
    assert_eq!([scene.choose().of(1), scene.choose().of(2)], [ONLY_TC; 2], "it never will");
}

#[test]
fn what_the_kernel_refused_is_not_tried_again() {
    let mut scene = Scene::new(FastPath::Xdp);
    scene.circumstances.refused.insert(2, "MTU is too large".into());
    let tc = (Way::Tc, "the kernel refused XDP on wan1: MTU is too large");
    scene.assert((Way::Xdp, "--fast-path xdp"), tc, [EVERYTHING, ONLY_TC | FRAMES]);
}

fn links() -> impl Strategy<Value = (Link, Facts)> {
    let word = || proptest::option::weighted(0.3, Just("x".to_owned()));
    (
        proptest::option::weighted(0.3, Just("veth".to_owned())),
        any::<bool>(),
        proptest::option::of(0..8_u64),
        word(),
        word(),
        word(),
    )
        .prop_map(|(kind, ethernet, xdp, shaper, ingress, egress)| {
            (Link { kind, ethernet, ..Link::card(0, "") }, Facts { xdp, shaper, ingress, egress })
        })
}

proptest! {
    /// Whatever the devices are: the ways are those that the bits make the programs go, and none goes around a shaper.
    #[test]
    fn ways_and_bits_agree(
        mode in select(FastPath::WORDS.map(|(_, mode)| mode).to_vec()),
        devices in proptest::collection::vec(links(), 3..6),
        lans in 1..3_usize,
        seconds in 0..2_u32,
        refused in proptest::option::of(1..6_u32),
    ) {
        let mut facts = BTreeMap::new();
        let links: Vec<Link> = (1..).zip(devices).map(|(index, (link, known))| {
            facts.insert(index, known);
            Link { index, name: format!("e{index}"), ..link }
        }).collect();
        let (lans, uplinks) = links.split_at(lans);
        let circumstances = Circumstances {
            lease: Lease { seconds, reason: "because".into() },
            refused: refused.map(|index| (index, "no".to_owned())).into_iter().collect(),
        };
        let choice =
            choose(mode, &lans.iter().collect::<Vec<_>>(), &uplinks.iter().collect::<Vec<_>>(), &facts, &circumstances);
        prop_assert_eq!(choice.pairs.len(), 2 * lans.len() * uplinks.len());
        let by_name = |name: &str| links.iter().find(|link| link.name == name).unwrap();
        for pair in &choice.pairs {
            let (from, to) = (by_name(&pair.from), by_name(&pair.to));
            let (takes, gives) = (choice.of(from.index), choice.of(to.index));
            let way = match (takes & TAKES != 0 && gives & GIVES != 0, takes & XDP != 0 && gives & FRAMES != 0) {
                (false, _) => Way::Stack,
                (true, true) => Way::Xdp,
                (true, false) => Way::Tc,
            };
            prop_assert_eq!(pair.way, way, "{:?} {:?}", pair, choice.bits);
            prop_assert!(!pair.reason.is_empty());
            let known = &facts[&to.index];
            if way == Way::Xdp {
                prop_assert!(known.shaper.is_none() && known.egress.is_none() && to.ethernet && from.ethernet);
                prop_assert!(refused != Some(from.index) && matches!(mode, FastPath::Auto | FastPath::Xdp));
                prop_assert!(mode == FastPath::Xdp || from.kind.is_none() && to.kind.is_none());
            }
            prop_assert_eq!(way == Way::Stack, mode == FastPath::Off || seconds == 0 || facts[&from.index].ingress.is_some());
        }
        prop_assert_eq!(choice.bits.is_empty(), mode == FastPath::Off || seconds == 0);
        let runs = choice.bits.values().any(|bits| bits & XDP != 0);
        prop_assert!(!runs || matches!(mode, FastPath::Auto | FastPath::Xdp));
    }
}
