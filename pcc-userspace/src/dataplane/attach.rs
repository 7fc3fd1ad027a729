//! Programs on devices: attached, replaced without a gap, detached.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions, TcHandle, qdisc_add_clsact,
    qdisc_detach_program,
};
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode};
use pcc_ebpf::abi::{self, Device, program};

use super::{DataPlane, Side, classifier};

/// Place of our filters where the kernel has no TCX. The priority is below the first that the kernel hands out.
const CLSACT: (u16, TcHandle) = (0xbfff, TcHandle::new(0, 1));
/// Place of the one that takes shortcuts.
const CLSACT_FIRST: (u16, TcHandle) = (0xbffe, TcHandle::new(0, 1));

impl DataPlane {
    /// Attaches the programs of `side`, and those for shortcuts that `device` asks for, or puts them in the place of those that
    /// an earlier run left: the device is never without one in between. A driver that refuses XDP is no error:
    /// [`Self::refusals`].
    pub fn attach(&mut self, name: &str, ifindex: u32, side: Side, device: Device) -> Result<()> {
        self.set_device(ifindex, device).with_context(|| format!("telling the programs about `{name}`"))?;
        // In this order: the one that comes last is asked first.
        let shortcut = (program::SHORTCUT, TcAttachType::Ingress);
        let takes = (device.shortcuts & abi::device::TAKES != 0).then_some(shortcut);
        for (program, direction) in side.programs().into_iter().chain(takes) {
            self.attach_program(name, ifindex, program, direction)
                .with_context(|| format!("attaching `{program}` to `{name}`"))?;
        }
        if device.shortcuts & abi::device::XDP != 0 {
            match self.attach_xdp(ifindex) {
                Ok(()) => drop(self.refusals.remove(&ifindex)),
                Err(error) => drop(self.refusals.insert(ifindex, format!("{error:#}"))),
            }
        }
        Ok(())
    }

    /// Devices whose drivers refused XDP, by index, with the kernel's words.
    pub const fn refusals(&self) -> &BTreeMap<u32, String> {
        &self.refusals
    }

    /// Detaches every program but those of `keep`, devices by index with the side whose programs they carry and their
    /// [`Device::shortcuts`], and forgets the other devices.
    pub fn detach_others(&mut self, keep: &[(u32, Side, u32)]) -> Result<()> {
        let mut pins = BTreeSet::new();
        for (ifindex, side, shortcuts) in keep {
            let wanted = |bit, program| (shortcuts & bit != 0).then_some(program);
            let takes = wanted(abi::device::TAKES, program::SHORTCUT);
            let frames = wanted(abi::device::XDP, program::SHORTCUT_XDP);
            let programs = side.programs().into_iter().map(|(program, _)| program).chain(takes).chain(frames);
            pins.extend(programs.map(|program| link_pin(*ifindex, program)));
        }
        self.forget_other_devices(|ifindex| keep.iter().any(|(kept, ..)| *kept == ifindex))?;
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

    /// Attaches the XDP program by the driver, never in the generic mode, which is slower than none.
    fn attach_xdp(&mut self, ifindex: u32) -> Result<()> {
        let pin = self.pins.join(link_pin(ifindex, program::SHORTCUT_XDP));
        let program = self.ebpf.program_mut(program::SHORTCUT_XDP).context("no XDP program in the object")?;
        let program: &mut Xdp = program.try_into()?;
        if let Ok(old) = PinnedLink::from_pin(&pin) {
            let replaced = XdpLink::try_from(FdLink::from(old))
                .map_err(anyhow::Error::from)
                .and_then(|link| Ok(program.attach_to_link(link)?));
            match replaced {
                // The pin keeps it attached.
                Ok(id) => {
                    program.take_link(id)?;
                    return Ok(());
                }
                Err(_) => fs::remove_file(&pin)?,
            }
        }
        let id = program.attach_to_if_index(ifindex, XdpMode::Driver)?;
        FdLink::try_from(program.take_link(id)?)?.pin(&pin)?;
        Ok(())
    }

    /// The way of kernels before 6.6: a filter in the clsact qdisc.
    fn attach_filter(&mut self, device: &str, name: &str, direction: TcAttachType) -> Result<()> {
        if qdisc_add_clsact(device).is_ok() {
            self.clsact.push(device.to_owned());
        }
        let (priority, handle) = if name == program::SHORTCUT { CLSACT_FIRST } else { CLSACT };
        let program = classifier(&mut self.ebpf, name)?;
        let old = SchedClassifierLink::attached(device, direction, priority, handle, None)?;
        let id = program.attach_to_link(old).or_else(|_| {
            let options = NlOptions { priority, handle, classid: None };
            program.attach_with_options(device, direction, TcAttachOptions::Netlink(options))
        })?;
        leave_attached(program, id)
    }
}

/// Detaches every program and removes every map of the instance whose pins are below `pins`, of any ABI.
/// `devices` may carry filters of ours in a clsact qdisc, which goes too where it is in `clsact`. What is gone already is
/// no error.
pub fn remove(pins: &Path, devices: &[String], clsact: &[String]) -> Result<()> {
    for device in devices {
        let shortcut = (program::SHORTCUT, TcAttachType::Ingress);
        for (name, direction) in Side::ALL.into_iter().flat_map(Side::programs).chain([shortcut]) {
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
pub(super) fn lacks_tcx(error: &ProgramError) -> bool {
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

pub(super) fn link_ifindex(name: &std::ffi::OsStr) -> Option<u32> {
    name.to_str()?.split_once('-')?.0.parse().ok()
}
