//! What can happen, and how it ends.

use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;
use tests::lab::address::{CLIENT4, CLIENT6};
use tests::lab::{Lab, PATIENCE, Pcc, Settings};

use crate::dice::Dice;

/// The lab with the `pcc` in it, and what the user wants of it.
pub struct World {
    pub pcc: Pcc,
    pub settings: Settings,
    pub lab: Lab,
    /// Of uplinks 1, 2 and 3.
    pub weights: [u32; 3],
}

/// Something that happens to one uplink.
#[derive(Clone, Copy, Debug)]
pub enum Outage {
    Cut,
    Silence,
    BlackHole,
    Loss,
    Remake,
    Unplug,
    Readdress,
    Nothing,
}

/// Something that happens to the router.
#[derive(Clone, Copy, Debug)]
pub enum Deed {
    FlushRuleset,
    Kill,
    Reload,
    Weight,
    ForeignRoute,
    Nothing,
}

impl Outage {
    pub const ALL: [Self; 8] = [
        Self::Cut,
        Self::Silence,
        Self::BlackHole,
        Self::Loss,
        Self::Remake,
        Self::Unplug,
        Self::Readdress,
        Self::Nothing,
    ];

    pub fn begin(self, world: &mut World, number: u32) {
        let lab = &mut world.lab;
        match self {
            Self::Cut => lab.carrier(number, false),
            Self::Silence => lab.silence(number, true),
            Self::BlackHole => lab.black_hole(number, true),
            Self::Loss => lab.loss(number, 30),
            Self::Remake => lab.remake(number),
            Self::Unplug => lab.unplug(number),
            Self::Readdress => lab.readdress(number),
            Self::Nothing => {}
        }
    }

    pub fn end(self, world: &World, number: u32) {
        let lab = &world.lab;
        match self {
            Self::Cut => lab.carrier(number, true),
            Self::Silence => lab.silence(number, false),
            Self::BlackHole => lab.black_hole(number, false),
            Self::Loss => lab.loss(number, 0),
            Self::Unplug => lab.plug(number),
            Self::Remake | Self::Readdress | Self::Nothing => {}
        }
    }
}

impl Deed {
    pub const ALL: [Self; 6] =
        [Self::FlushRuleset, Self::Kill, Self::Reload, Self::Weight, Self::ForeignRoute, Self::Nothing];

    pub fn begin(self, world: &mut World, dice: &mut Dice) {
        match self {
            Self::FlushRuleset => world.lab.flush_ruleset(),
            Self::Kill => {
                world.pcc.signal(Signal::KILL);
                world.pcc.wait(PATIENCE);
                sleep(Duration::from_millis(dice.below(500)));
                world.pcc = world.settings.start(&world.lab, &[]);
            }
            Self::Reload => {
                world.weights = [0; 3].map(|_| dice.below(4) as u32 + 1);
                write(&world.settings, world.weights);
                world.pcc.signal(Signal::HUP);
            }
            Self::Weight => {
                let index = dice.below(3) as usize;
                let weight = dice.below(4) as u32 + 1;
                world.weights[index] = weight;
                // The file says the same and is known to, so that a restart changes nothing.
                write(&world.settings, world.weights);
                let (name, weight) = (format!("wan{}", index + 1), weight.to_string());
                let output = world.lab.pcc_output(&["uplink", &name, "weight", &weight]);
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                world.pcc.signal(Signal::HUP);
            }
            Self::ForeignRoute => foreign_routes(&world.lab, "add"),
            Self::Nothing => {}
        }
    }

    pub fn end(self, world: &World) {
        if matches!(self, Self::ForeignRoute) {
            foreign_routes(&world.lab, "del");
        }
    }
}

/// Writes the configuration.
pub fn write(settings: &Settings, weights: [u32; 3]) {
    let lines = weights.map(|weight| format!("weight = {weight}\n{CHECK}"));
    settings.change(&[(1, &lines[0]), (2, &lines[1]), (3, &lines[2])]);
}

/// Everything here flaps: without probation, so that a calm second is enough.
const CHECK: &str = "check = { target = \"gateway\", hold_down = \"0s\" }";

fn foreign_routes(lab: &Lab, verb: &str) {
    for (family, gateway) in [("-4", CLIENT4.to_string()), ("-6", CLIENT6.to_string())] {
        lab.router().ip(&format!("{family} route {verb} default via {gateway} dev lan metric 1"));
    }
}
