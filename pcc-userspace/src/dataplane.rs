//! The only code that knows aya: loads the object, pins, adopts, attaches, and gives the maps types.
//!
//! Everything is pinned below `<pins>/<abi>/`: maps by name, links as `<ifindex>-<program>`. Whoever loads next finds
//! them and goes on with the same maps; dropping a [`DataPlane`] leaves the kernel side running.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, MapInfo, PerCpuArray};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions, TcHandle, qdisc_add_clsact,
    qdisc_detach_program,
};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader, Pod};
use ipnet::IpNet;
use pcc_ebpf::abi::{
    ABI, BUCKETS, Counter, Device, Flow, FlowKey, IPV4, IPV6, Member4, Member6, Op, POLICY_DEFAULT, Policy, STEPS,
    Settings, Step, Traffic, Uplink, bucket_index, map, policy_index, program,
};
use pcc_ebpf::flow;

use crate::policies::Table;
use crate::problem::{NEEDED_RIGHTS, Problem};
use crate::rules::Program;

/// The compiled programs.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pcc-ebpf"));

/// Place of our filters where the kernel has no TCX. The priority is below the first that the kernel hands out.
const CLSACT: (u16, TcHandle) = (0xbfff, TcHandle::new(0, 1));

/// Numbers of sets are below this.
pub const SET_SPACE: u32 = 1 << 16;

/// Most groups of connections that keep to an uplink; the flow cache bounds them too.
pub const STICKY_ENTRIES: u32 = 65_536;

/// The loaded programs and their maps.
pub struct DataPlane {
    ebpf: Ebpf,
    pins: PathBuf,
    adopted: bool,
    clsact: Vec<String>,
}

/// Which side of the router a device is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Towards the clients.
    Lan,
    /// Towards an ISP.
    Uplink,
    /// Either, where RouterOS rules decide.
    Mirror,
}

impl Side {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Lan, Self::Uplink, Self::Mirror];

    /// Its programs, ingress first.
    pub const fn programs(self) -> [(&'static str, TcAttachType); 2] {
        match self {
            Self::Lan => [(program::LAN_INGRESS, TcAttachType::Ingress), (program::LAN_EGRESS, TcAttachType::Egress)],
            Self::Uplink => {
                [(program::UPLINK_INGRESS, TcAttachType::Ingress), (program::UPLINK_EGRESS, TcAttachType::Egress)]
            }
            Self::Mirror => {
                [(program::MIRROR_INGRESS, TcAttachType::Ingress), (program::MIRROR_EGRESS, TcAttachType::Egress)]
            }
        }
    }
}

impl DataPlane {
    /// Loads the object, with new maps or with those pinned below `pins` by an earlier run of the same ABI.
    /// `flow_entries` sizes a new flow cache; `log_level` is aya-log's (0: no logging code at all).
    ///
    /// # Errors
    /// No bpffs at `pins`, no rights, or a kernel that refuses a program, with its reason.
    pub fn load(pins: &Path, flow_entries: u32, log_level: u8) -> Result<Self> {
        let pins = pins.join(ABI.to_string());
        let adopted = map::ALL.iter().all(|name| pins.join(name).exists());
        create_pin_directory(&pins)?;
        let mut loader = EbpfLoader::new();
        loader.map_max_entries(map::FLOWS, flow_entries);
        loader.map_max_entries(map::STICKY, flow_entries.min(STICKY_ENTRIES));
        loader.override_global(aya_log::LEVEL, &log_level, false);
        for name in map::ALL {
            loader.map_pin_path(name, pins.join(name));
        }
        let mut ebpf = loader.load(OBJECT).map_err(|error| refused(&error.into()))?;
        for (name, _) in Side::ALL.into_iter().flat_map(Side::programs) {
            load_program(classifier(&mut ebpf, name)?).map_err(|error| refused(&anyhow!(error).context(name)))?;
        }
        Ok(Self { ebpf, pins, adopted, clsact: Vec::new() })
    }

    /// Programs and maps of one's own, which nothing is attached to and nobody else sees: for questions.
    pub fn private() -> Result<Self> {
        Self::for_questions(EbpfLoader::new())
    }

    /// [`Self::private`], but with the configuration of the data path that is pinned below `pins`: what belongs to packets
    /// that pass, flows, counters and the like, is its own. `None` if there is no data path.
    pub fn twin(pins: &Path) -> Result<Option<Self>> {
        const OWN: [&str; 5] = [map::FLOWS, map::COUNTERS, map::TRAFFIC, map::NTH, map::STICKY];
        let pins = pins.join(ABI.to_string());
        if !map::ALL.iter().all(|name| pins.join(name).exists()) {
            return Ok(None);
        }
        let mut loader = EbpfLoader::new();
        for name in map::ALL.iter().filter(|name| !OWN.contains(name)) {
            loader.map_pin_path(name, pins.join(name));
        }
        Self::for_questions(loader).map(Some)
    }

    fn for_questions(mut loader: EbpfLoader<'_>) -> Result<Self> {
        const FEW: u32 = 64;
        loader.map_max_entries(map::FLOWS, FEW);
        loader.map_max_entries(map::STICKY, FEW);
        loader.override_global(aya_log::LEVEL, &0_u8, false);
        let mut ebpf = loader.load(OBJECT).map_err(|error| refused(&error.into()))?;
        for name in [program::LAN_INGRESS, program::MIRROR_INGRESS] {
            load_program(classifier(&mut ebpf, name)?).map_err(|error| refused(&anyhow!(error).context(name)))?;
        }
        Ok(Self { ebpf, pins: PathBuf::new(), adopted: false, clsact: Vec::new() })
    }

    /// Gives `packet`, a frame as it arrives by the device with index `ifindex`, to `program`, and returns its mark.
    pub fn test(&mut self, program: &str, ifindex: u32, packet: &[u8]) -> Result<u32> {
        // `struct __sk_buff`: 192 bytes, the mark at 8, the index of the device at 40.
        let (mut context, mut after) = ([0; 192], [0; 192]);
        context[40..44].copy_from_slice(&ifindex.to_ne_bytes());
        let run = TestRunOptions {
            data_in: Some(packet),
            ctx_in: Some(&context),
            ctx_out: Some(&mut after),
            ..TestRunOptions::new()
        };
        classifier(&mut self.ebpf, program)?.test_run(run)?;
        Ok(u32::from_ne_bytes([after[8], after[9], after[10], after[11]]))
    }

    /// Puts an entry into the flow cache.
    pub fn set_flow(&mut self, key: FlowKey, flow: Flow) -> Result<()> {
        let map = self.ebpf.map_mut(map::FLOWS).context("map of flows")?;
        Ok(HashMap::<_, FlowKey, Flow>::try_from(map)?.insert(key, flow, 0)?)
    }

    /// Tells the programs about a device.
    pub fn set_device(&mut self, ifindex: u32, device: Device) -> Result<()> {
        let map = self.ebpf.map_mut(map::DEVICES).context("map of devices")?;
        Ok(HashMap::<_, u32, Device>::try_from(map)?.insert(ifindex, device, 0)?)
    }

    /// The maps were there before: their contents are those of the connections that are alive.
    pub const fn adopted(&self) -> bool {
        self.adopted
    }

    /// Devices to which this run added a clsact qdisc, for want of TCX.
    pub fn clsact_devices(&self) -> &[String] {
        &self.clsact
    }

    /// The aya object, for log readers and tests.
    pub const fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// The instance's settings.
    pub fn settings(&self) -> Result<Settings> {
        Ok(self.array(map::SETTINGS)?.get(&0, 0)?)
    }

    /// Replaces the instance's settings.
    pub fn set_settings(&mut self, settings: &Settings) -> Result<()> {
        Ok(self.array_mut::<Settings>(map::SETTINGS)?.set(0, settings, 0)?)
    }

    /// The state of uplink `id`.
    pub fn uplink(&self, id: u32) -> Result<Uplink> {
        Ok(self.array(map::UPLINKS)?.get(&id, 0)?)
    }

    /// Replaces the state of uplink `id`.
    pub fn set_uplink(&mut self, id: u32, uplink: Uplink) -> Result<()> {
        Ok(self.array_mut::<Uplink>(map::UPLINKS)?.set(id, uplink, 0)?)
    }

    /// The default policy's bucket table in force for `family` ([`IPV4`] or [`IPV6`]).
    pub fn buckets(&self, family: u32) -> Result<Vec<u32>> {
        self.buckets_of(POLICY_DEFAULT, family)
    }

    /// Policy `number` with its bucket tables in force.
    pub fn table(&self, number: u32) -> Result<Table> {
        let index = policy_index(self.settings()?.active_table, number);
        let policy = self.array::<Policy>(map::POLICIES)?.get(&index, 0)?;
        Ok(Table { policy, buckets: [self.buckets_of(number, IPV4)?, self.buckets_of(number, IPV6)?] })
    }

    fn buckets_of(&self, policy: u32, family: u32) -> Result<Vec<u32>> {
        let table = self.settings()?.active_table;
        let buckets = self.array::<u32>(map::BUCKETS)?;
        (0..BUCKETS).map(|hash| Ok(buckets.get(&bucket_index(table, policy, family, hash), 0)?)).collect()
    }

    /// Puts new policies, by number, and their bucket tables in force, in one step: those that are not in use are written,
    /// then the switch is thrown.
    pub fn publish_policies(&mut self, policies: &[Table]) -> Result<()> {
        let mut settings = self.settings()?;
        let next = settings.active_table ^ 1;
        self.write_policies(next, policies)?;
        settings.active_table = next;
        self.set_settings(&settings)
    }

    fn write_policies(&mut self, table: u32, policies: &[Table]) -> Result<()> {
        let mut map = self.array_mut::<Policy>(map::POLICIES)?;
        for (number, policy) in (0..).zip(policies) {
            map.set(policy_index(table, number), policy.policy, 0)?;
        }
        let mut map = self.array_mut::<u32>(map::BUCKETS)?;
        for (number, policy) in (0..).zip(policies) {
            for (family, buckets) in (IPV4..).zip(&policy.buckets) {
                for (hash, uplink) in (0..BUCKETS).zip(buckets) {
                    map.set(bucket_index(table, number, family, hash), uplink, 0)?;
                }
            }
        }
        Ok(())
    }

    /// Puts settings, policies and rules in force in one step, whatever ran before. Which tables are in use is decided
    /// here, not by `settings`.
    ///
    /// # Errors
    /// As of [`Self::publish_rules`].
    pub fn publish(&mut self, settings: &Settings, policies: &[Table], program: &Program) -> Result<()> {
        let present = self.settings()?;
        let (table, steps) = (present.active_table ^ 1, present.active_steps ^ 1);
        self.write_policies(table, policies)?;
        self.write_steps(steps, &program.steps, &program.sets)?;
        let [first_step4, first_step6] = program.first;
        self.set_settings(&Settings {
            active_table: table,
            active_steps: steps,
            first_step4,
            first_step6,
            rules_generation: present.rules_generation.wrapping_add(1),
            ..*settings
        })?;
        self.sync_sets(present.active_steps, &[])
    }

    /// Makes the bypass list exactly `prefixes`.
    pub fn set_bypass(&mut self, prefixes: &[IpNet]) -> Result<()> {
        let mut wanted4 = BTreeSet::new();
        let mut wanted6 = BTreeSet::new();
        for prefix in prefixes {
            let length = u32::from(prefix.prefix_len());
            let words = flow::words(prefix.network());
            match prefix {
                IpNet::V4(_) => wanted4.insert((length, words[3])),
                IpNet::V6(_) => wanted6.insert((length, words)),
            };
        }
        let map = self.ebpf.map_mut(map::BYPASS4).context("map of the bypass list")?;
        sync_trie(LpmTrie::<_, u32, u32>::try_from(map)?, &wanted4, |_| true)?;
        let map = self.ebpf.map_mut(map::BYPASS6).context("map of the bypass list")?;
        sync_trie(LpmTrie::<_, [u32; 4], u32>::try_from(map)?, &wanted6, |_| true)
    }

    /// Puts new rules with their sets (numbers below [`SET_SPACE`] with prefixes) in force, in one step: the program that is
    /// not in use is written beside sets of its own, then the switch is thrown. Decisions by the old rules are forgotten.
    /// `first` are the first steps of the IPv4 and of the IPv6 rules.
    ///
    /// # Errors
    /// More than [`STEPS`] steps, or more members of sets than the maps can hold.
    pub fn publish_rules(&mut self, steps: &[Step], first: [u32; 2], sets: &[(u32, Vec<IpNet>)]) -> Result<()> {
        let mut settings = self.settings()?;
        let (old, next) = (settings.active_steps, settings.active_steps ^ 1);
        self.write_steps(next, steps, sets)?;
        settings.active_steps = next;
        [settings.first_step4, settings.first_step6] = first;
        settings.rules_generation = settings.rules_generation.wrapping_add(1);
        self.set_settings(&settings)?;
        self.sync_sets(old, &[])
    }

    /// Writes the program that is not in use, and its sets.
    fn write_steps(&mut self, program: u32, steps: &[Step], sets: &[(u32, Vec<IpNet>)]) -> Result<()> {
        anyhow::ensure!(steps.len() <= STEPS as usize, "{} steps are more than {STEPS}", steps.len());
        self.sync_sets(program, sets)?;
        let mut map = self.array_mut::<Step>(map::STEPS)?;
        for (index, step) in (program * STEPS..).zip(steps) {
            let is_set = [Op::SourceSet, Op::DestinationSet].iter().any(|op| step.op == *op as u32);
            let low = if is_set { program * SET_SPACE + step.low } else { step.low };
            map.set(index, Step { low, ..*step }, 0)?;
        }
        Ok(())
    }

    /// Makes the sets of the rules in force exactly `sets`. Decisions that rest on them are forgotten.
    pub fn set_sets(&mut self, sets: &[(u32, Vec<IpNet>)]) -> Result<()> {
        let mut settings = self.settings()?;
        self.sync_sets(settings.active_steps, sets)?;
        settings.rules_generation = settings.rules_generation.wrapping_add(1);
        self.set_settings(&settings)
    }

    /// Makes the sets of one of the two programs exactly `sets`.
    fn sync_sets(&mut self, space: u32, sets: &[(u32, Vec<IpNet>)]) -> Result<()> {
        const SET_BITS: u32 = 32;
        let mut wanted4 = BTreeSet::new();
        let mut wanted6 = BTreeSet::new();
        for (number, prefixes) in sets {
            let set = (space * SET_SPACE + number).to_be();
            for prefix in prefixes {
                let length = SET_BITS + u32::from(prefix.prefix_len());
                let address = flow::words(prefix.network());
                match prefix {
                    IpNet::V4(_) => wanted4.insert((length, Member4 { set, address: address[3] })),
                    IpNet::V6(_) => wanted6.insert((length, Member6 { set, address })),
                };
            }
        }
        let is_here = |set: u32| u32::from_be(set) / SET_SPACE == space;
        let map = self.ebpf.map_mut(map::SETS4).context("map of sets")?;
        sync_trie(LpmTrie::<_, Member4, u32>::try_from(map)?, &wanted4, |key| is_here(key.set))?;
        let map = self.ebpf.map_mut(map::SETS6).context("map of sets")?;
        sync_trie(LpmTrie::<_, Member6, u32>::try_from(map)?, &wanted6, |key| is_here(key.set))
    }

    /// The cached decision for a flow.
    pub fn flow(&self, key: &FlowKey) -> Result<Option<Flow>> {
        let map = self.ebpf.map(map::FLOWS).context("map of flows")?;
        match HashMap::<_, FlowKey, Flow>::try_from(map)?.get(key, 0) {
            Ok(flow) => Ok(Some(flow)),
            Err(aya::maps::MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Every counter, summed over CPUs.
    pub fn counters(&self) -> Result<Vec<(Counter, u64)>> {
        let map = PerCpuArray::<_, u64>::try_from(self.ebpf.map(map::COUNTERS).context("map of counters")?)?;
        Counter::ALL.iter().map(|counter| Ok((*counter, map.get(&(*counter as u32), 0)?.iter().sum()))).collect()
    }

    /// Traffic of uplink `id`, summed over CPUs.
    pub fn traffic(&self, id: u32) -> Result<Traffic> {
        let map = PerCpuArray::<_, Traffic>::try_from(self.ebpf.map(map::TRAFFIC).context("map of traffic")?)?;
        Ok(map.get(&id, 0)?.iter().fold(Traffic::default(), |sum, cpu| Traffic {
            packets_out: sum.packets_out + cpu.packets_out,
            bytes_out: sum.bytes_out + cpu.bytes_out,
            packets_in: sum.packets_in + cpu.packets_in,
            bytes_in: sum.bytes_in + cpu.bytes_in,
            connections: sum.connections + cpu.connections,
        }))
    }

    /// Attaches the programs of `side` to the device, or puts them in the place of those that an earlier run left:
    /// the device is never without one in between.
    pub fn attach(&mut self, name: &str, ifindex: u32, side: Side, device: Device) -> Result<()> {
        self.set_device(ifindex, device).with_context(|| format!("telling the programs about `{name}`"))?;
        for (program, direction) in side.programs() {
            self.attach_program(name, ifindex, program, direction)
                .with_context(|| format!("attaching `{program}` to `{name}`"))?;
        }
        Ok(())
    }

    /// Detaches every program but those of `keep`, devices by index with the side whose programs they carry, and forgets the
    /// other devices.
    pub fn detach_others(&mut self, keep: &[(u32, Side)]) -> Result<()> {
        let pins: BTreeSet<String> = keep
            .iter()
            .flat_map(|(ifindex, side)| side.programs().map(|(program, _)| link_pin(*ifindex, program)))
            .collect();
        let mut devices =
            HashMap::<_, u32, Device>::try_from(self.ebpf.map_mut(map::DEVICES).context("map of devices")?)?;
        let gone: Vec<u32> =
            devices.keys().filter_map(Result::ok).filter(|known| !keep.iter().any(|(kept, _)| kept == known)).collect();
        for ifindex in gone {
            devices.remove(&ifindex)?;
        }
        for pin in link_pins(&self.pins)? {
            if !pin.file_name().is_some_and(|name| name.to_str().is_some_and(|name| pins.contains(name))) {
                fs::remove_file(&pin).with_context(|| format!("removing {}", pin.display()))?;
            }
        }
        Ok(())
    }

    fn attach_program(&mut self, device: &str, ifindex: u32, name: &str, direction: TcAttachType) -> Result<()> {
        let pin = self.pins.join(link_pin(ifindex, name));
        let program = classifier(&mut self.ebpf, name)?;
        if let Ok(old) = PinnedLink::from_pin(&pin) {
            let replaced = SchedClassifierLink::try_from(FdLink::from(old))
                .map_err(anyhow::Error::from)
                .and_then(|link| Ok(program.attach_to_link(link)?));
            match replaced {
                Ok(id) => return leave_attached(program, id),
                // ENOLINK: the device vanished and its index was given to another one.
                Err(_) => fs::remove_file(&pin)?,
            }
        }
        match program.attach_with_options(device, direction, TcAttachOptions::TcxOrder(LinkOrder::first())) {
            Ok(id) => {
                let link: FdLink = program.take_link(id)?.try_into()?;
                link.pin(&pin)?;
                Ok(())
            }
            Err(error) if lacks_tcx(&error) => self.attach_filter(device, name, direction),
            Err(error) => Err(error.into()),
        }
    }

    /// The way of kernels before 6.6: a filter in the clsact qdisc.
    fn attach_filter(&mut self, device: &str, name: &str, direction: TcAttachType) -> Result<()> {
        if qdisc_add_clsact(device).is_ok() {
            self.clsact.push(device.to_owned());
        }
        let program = classifier(&mut self.ebpf, name)?;
        let (priority, handle) = CLSACT;
        let old = SchedClassifierLink::attached(device, direction, priority, handle, None)?;
        let id = program.attach_to_link(old).or_else(|_| {
            let options = NlOptions { priority, handle, classid: None };
            program.attach_with_options(device, direction, TcAttachOptions::Netlink(options))
        })?;
        leave_attached(program, id)
    }

    fn array<V: Pod>(&self, name: &str) -> Result<Array<&MapData, V>> {
        Ok(Array::try_from(self.ebpf.map(name).with_context(|| format!("map `{name}`"))?)?)
    }

    fn array_mut<V: Pod>(&mut self, name: &str) -> Result<Array<&mut MapData, V>> {
        Ok(Array::try_from(self.ebpf.map_mut(name).with_context(|| format!("map `{name}`"))?)?)
    }
}

/// Detaches every program and removes every map of the instance whose pins are below `pins`, of any ABI.
/// `devices` may carry filters of ours in a clsact qdisc, which goes too where it is in `clsact`. What is gone already is
/// no error.
pub fn remove(pins: &Path, devices: &[String], clsact: &[String]) -> Result<()> {
    for device in devices {
        for (name, direction) in Side::ALL.into_iter().flat_map(Side::programs) {
            // Fails where TCX was used, where it is gone, and where the device is.
            let _ = qdisc_detach_program(device, direction, name);
        }
    }
    for device in clsact.iter().filter(|device| has_no_filters(device)) {
        let _ = tc(&["qdisc", "del", "dev", device, "clsact"]);
    }
    match fs::remove_dir_all(pins) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", pins.display()))
        }
        _ => Ok(()),
    }
}

/// Somebody may have put filters of his own into a qdisc that we made.
fn has_no_filters(device: &str) -> bool {
    ["ingress", "egress"]
        .iter()
        .all(|direction| tc(&["filter", "show", "dev", device, direction]).is_ok_and(|output| output.stdout.is_empty()))
}

fn tc(arguments: &[&str]) -> io::Result<std::process::Output> {
    std::process::Command::new("tc").args(arguments).output()
}

/// Entries of the flow cache that is pinned below `pins`, if there is one.
pub fn pinned_flow_entries(pins: &Path) -> Option<u32> {
    Some(MapInfo::from_pin(pins.join(ABI.to_string()).join(map::FLOWS)).ok()?.max_entries())
}

fn create_pin_directory(pins: &Path) -> Result<()> {
    const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
    let root = Path::new("/sys/fs/bpf");
    let is_bpffs = rustix::fs::statfs(root).is_ok_and(|stat| stat.f_type as u64 & 0xffff_ffff == BPF_FS_MAGIC);
    if !is_bpffs {
        return Err(Problem::new(
            format!("no BPF file system at `{}`", root.display()),
            "mount it: `mount -t bpf bpf /sys/fs/bpf`",
        )
        .into());
    }
    fs::create_dir_all(pins)
        .map_err(|error| Problem::new(format!("creating `{}`: {error}", pins.display()), NEEDED_RIGHTS).into())
}

fn refused(error: &anyhow::Error) -> anyhow::Error {
    let text = format!("{error:#}");
    let hint = if text.contains("ermitted") || text.contains("EPERM") {
        NEEDED_RIGHTS
    } else {
        "pcc needs Linux 6.1 or newer with CONFIG_BPF_SYSCALL and CONFIG_DEBUG_INFO_BTF"
    };
    Problem::new(format!("the kernel refused the programs: {text}"), hint).into()
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    let program = ebpf.program_mut(name).with_context(|| format!("no program `{name}` in the object"))?;
    Ok(program.try_into()?)
}

/// The verifier gives up with EAGAIN when a signal is pending for the thread; libbpf tries five times as well.
fn load_program(program: &mut SchedClassifier) -> Result<(), ProgramError> {
    for _ in 0..4 {
        match program.load() {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
    program.load()
}

/// Gives up the ownership of a link whose pin or filter keeps it attached.
fn leave_attached(program: &mut SchedClassifier, id: SchedClassifierLinkId) -> Result<()> {
    let link = program.take_link(id)?;
    if let Err(filter) = <&FdLink>::try_from(&link).map(drop) {
        // A clsact filter would be removed with its link; a TCX link lives on by its pin.
        drop(filter);
        std::mem::forget(link);
    }
    Ok(())
}

/// The kernel does not know `BPF_LINK_CREATE` for tc programs (before 6.6).
fn lacks_tcx(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(error)
        if matches!(error.io_error.raw_os_error(), Some(code) if code == rustix::io::Errno::INVAL.raw_os_error()))
}

fn link_pins(pins: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(pins).with_context(|| format!("reading {}", pins.display()))?;
    Ok(entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.file_name().and_then(link_ifindex).is_some())
        .collect())
}

fn link_pin(ifindex: u32, program: &str) -> String {
    format!("{ifindex}-{program}")
}

fn link_ifindex(name: &std::ffi::OsStr) -> Option<u32> {
    name.to_str()?.split_once('-')?.0.parse().ok()
}

/// Makes the keys that are `ours` exactly `wanted`.
fn sync_trie<K: Pod + Ord>(
    mut trie: LpmTrie<&mut MapData, K, u32>,
    wanted: &BTreeSet<(u32, K)>,
    ours: impl Fn(&K) -> bool,
) -> Result<()> {
    let keys = trie.keys().filter_map(Result::ok).map(|key| (key.prefix_len(), key.data()));
    let present: BTreeSet<(u32, K)> = keys.filter(|(_, key)| ours(key)).collect();
    for (length, prefix) in wanted.difference(&present) {
        trie.insert(&Key::new(*length, *prefix), 1, 0)?;
    }
    for (length, prefix) in present.difference(wanted) {
        trie.remove(&Key::new(*length, *prefix))?;
    }
    Ok(())
}
