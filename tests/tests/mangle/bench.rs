//! The walk in the kernel: scripts go in as text, packets as bytes, and marks come out by name.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use aya::maps::{Array, HashMap};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use ipnet::IpNet;
use pcc_ebpf::abi::{Counter, Device, Flow, FlowKey, MarkFields, Settings, knowledge, map, program};
use pcc_userspace::config::Paths;
use pcc_userspace::dataplane::{self, DataPlane, Sizes};
use pcc_userspace::mirror::compile::{Program, compile};
use pcc_userspace::mirror::names::{Devices, Names, Numbers};
use pcc_userspace::routeros::model::Model;
use pcc_userspace::routeros::{Severity, read};
use rustix::time::{ClockId, clock_gettime};
use tests::lab::Namespace;

use crate::reference::{Mark, Marks};
use crate::world::{BROADCAST, CONNECTION_MARKS, INTERFACES, LOCAL, PACKET_MARKS, ROUTING_MARKS, address};

/// Index of the first of [`INTERFACES`].
const FIRST: u32 = 20;
const TC_ACT_UNSPEC: u32 = u32::MAX;
/// `sizeof(struct __sk_buff)`.
const SKB: usize = 192;

/// The programs in the kernel.
pub struct Bench {
    pub plane: DataPlane,
    settings: Settings,
    pins: PathBuf,
}

/// A compiled script.
pub struct Loaded {
    pub program: Program,
    pub sets: Vec<(u32, Vec<IpNet>)>,
    names: Names,
    fields: MarkFields,
}

/// What the kernel did to a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    pub marks: Marks,
    pub tentative: bool,
    /// The bits of the mark that are not ours.
    pub foreign: u32,
}

/// Runs `work` with the programs in a namespace of their own that has a device for each of [`INTERFACES`].
pub fn with_bench<T: Send>(work: impl FnOnce(&mut Bench) -> T + Send) -> T {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("pcc{}-mangle{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let namespace = Namespace::new(&name);
    namespace.ip_batch(&format!(
        "link add port1 index {} type veth peer name port2 index {}\nlink add port3 index {} type veth peer name port4 index {}\n",
        FIRST,
        FIRST + 1,
        FIRST + 2,
        FIRST + 3
    ));
    namespace.run(|| work(&mut Bench::new(&name)))
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = dataplane::remove(&self.pins, &[], &[]);
    }
}

/// The way from text to steps, with our bits at `place`. What is refused or not understood is an error.
pub fn load(script: &str, place: u32) -> Result<Loaded, String> {
    let read = read(script.as_bytes());
    let built = Model::build(&read);
    let names = Names::of(&built.model, &Names::default());
    let least = names.fields(None).unwrap().mask();
    let fields = names.fields(Some(least << (place % (least.leading_zeros() + 1)))).unwrap();
    let mapping: BTreeMap<String, String> = INTERFACES.map(|name| (name.into(), format!("linux-{name}"))).into();
    let devices = Devices::of(&built.model, &mapping, &BTreeMap::new());
    for (number, name) in (1..).zip(INTERFACES) {
        assert_eq!(devices.get(name).unwrap().number, number, "{name}");
    }
    let (program, notes) = compile(&built.model, &names, &devices);
    let notes = read.notes.iter().chain(&built.notes).chain(&notes);
    let errors: Vec<_> = notes.filter(|note| note.severity == Severity::Error).collect();
    if !errors.is_empty() {
        return Err(format!("{errors:?}"));
    }
    let local: Vec<IpNet> = LOCAL.iter().flatten().map(|text| IpNet::from(address(text))).collect();
    let broadcast: [IpAddr; 1] = [address(BROADCAST)];
    let sets = program.members(&built.model, &local, &broadcast);
    Ok(Loaded { program, sets, names, fields })
}

impl Loaded {
    /// `mark` by name; an error if it is none that the programs may make.
    fn decode(&self, mark: u32) -> Result<Answer, String> {
        if mark & self.fields.ours() == 0 {
            return Err(format!("{mark:#x} does not say that it is ours"));
        }
        let name = |numbers: &Numbers, known: &[&'static str], number: u32| match numbers.name(number) {
            None if number != 0 => Err(format!("{number} in {mark:#x} is no mark of {numbers:?}")),
            name => Ok(known.iter().copied().find(|known| Some(*known) == name)),
        };
        let Names { connection, packet, routing } = &self.names;
        let marks = Marks {
            connection: name(connection, &CONNECTION_MARKS, self.fields.connection.get(mark))?,
            packet: name(packet, &PACKET_MARKS, self.fields.packet.get(mark))?,
            routing: name(routing, &ROUTING_MARKS, self.fields.routing.get(mark))?,
        };
        Ok(Answer { marks, tentative: mark & self.fields.tentative() != 0, foreign: mark & !self.fields.mask() })
    }

    /// The bits of a mark that are not ours.
    pub const fn foreign(&self, mark: u32) -> u32 {
        mark & !self.fields.mask()
    }
}

impl Bench {
    fn new(name: &str) -> Self {
        let pins = Paths::of(name).pins;
        let mut plane = DataPlane::load(&pins, Sizes { flows: 65_536, shortcuts: 4096 }, 0)
            .unwrap_or_else(|error| panic!("loading: {error:#}"));
        for number in 1..=INTERFACES.len() as u32 {
            let device = Device { uplink: 0, header_length: 14, number, ..Device::default() };
            plane.set_device(FIRST + number - 1, device).unwrap();
        }
        Self { settings: plane.settings().unwrap(), plane, pins }
    }

    /// Puts rules in force: nothing was counted or remembered.
    pub fn publish(&mut self, loaded: &Loaded, seed: u32) {
        let Program { steps, first4, first6, nth_counters, .. } = &loaded.program;
        let mut counters = Array::<_, u32>::try_from(self.plane.ebpf().map_mut(map::NTH).unwrap()).unwrap();
        (0..*nth_counters).for_each(|counter| counters.set(counter, 0, 0).unwrap());
        let MarkFields { connection, routing, packet, .. } = loaded.fields;
        self.settings = Settings {
            mark_mask: loaded.fields.mask(),
            mark_ours: loaded.fields.ours(),
            mark_missed: loaded.fields.tentative(),
            connection,
            routing,
            packet,
            seed,
            idle_seconds: 1000,
            ..self.settings
        };
        self.plane.set_settings(&self.settings).unwrap();
        self.plane.publish_rules(steps, [*first4, *first6], &loaded.sets).unwrap();
        self.settings = self.plane.settings().unwrap();
    }

    /// Forgets all flows.
    pub fn forget(&mut self) {
        self.settings.rules_generation += 1;
        self.plane.set_settings(&self.settings).unwrap();
    }

    /// Makes a connection known, with the mark that conntrack has for it.
    pub fn know(&mut self, loaded: &Loaded, key: FlowKey, mark: Mark) {
        let connection = mark.map_or(0, |name| loaded.names.connection.get(name).unwrap());
        let flow = Flow {
            mark: loaded.fields.ours() | loaded.fields.connection.of(connection),
            uplink: 0,
            generation: self.settings.rules_generation,
            confirmed: knowledge::CONFIRMED,
            last_seen: clock_gettime(ClockId::MonotonicCoarse).tv_sec as u32,
        };
        let flows = self.plane.ebpf().map_mut(map::FLOWS).unwrap();
        HashMap::<_, FlowKey, Flow>::try_from(flows).unwrap().insert(key, flow, 0).unwrap();
    }

    /// Lets a frame with `mark` come in by `interface`.
    pub fn run(&mut self, loaded: &Loaded, interface: &str, frame: &[u8], mark: u32) -> Result<Answer, String> {
        loaded.decode(self.repeat(interface, frame, mark, 1).0)
    }

    /// Lets a frame of a connection with mark `connection` leave by `interface`.
    pub fn leave(&mut self, loaded: &Loaded, interface: &str, frame: &[u8], connection: Mark) {
        let number = connection.map_or(0, |name| loaded.names.connection.get(name).unwrap());
        let mark = loaded.fields.ours() | loaded.fields.connection.of(number);
        assert_eq!(self.program(program::MIRROR_EGRESS, interface, frame, mark, 1).0, mark);
    }

    /// Lets a frame come in several times; the last mark and the nanoseconds that each took.
    pub fn repeat(&mut self, interface: &str, frame: &[u8], mark: u32, repeat: u32) -> (u32, u128) {
        self.program(program::MIRROR_INGRESS, interface, frame, mark, repeat)
    }

    fn program(&mut self, name: &str, interface: &str, frame: &[u8], mark: u32, repeat: u32) -> (u32, u128) {
        let at = INTERFACES.iter().position(|name| *name == interface).unwrap();
        let mut context = [0; SKB];
        for (offset, value) in [(8, mark), (40, FIRST + at as u32)] {
            context[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        }
        let mut context_out = [0; SKB];
        let run = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            ctx_out: Some(&mut context_out),
            repeat,
            ..TestRunOptions::new()
        };
        let program: &SchedClassifier = self.plane.ebpf().program(name).unwrap().try_into().unwrap();
        let result = program.test_run(run).unwrap_or_else(|error| panic!("{frame:02x?}: {error:?}"));
        assert_eq!(result.return_value, TC_ACT_UNSPEC, "{frame:02x?}");
        (u32::from_ne_bytes([8, 9, 10, 11].map(|at| context_out[at])), result.duration.as_nanos())
    }

    /// How often a counter was raised.
    pub fn count(&self, wanted: Counter) -> u64 {
        self.plane.counters().unwrap().into_iter().find(|(counter, _)| *counter == wanted).unwrap().1
    }
}
