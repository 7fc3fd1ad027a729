//! What one run of each of pcc's programs takes, by itself.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use aya::programs::loaded_programs;
use aya::programs::{ProgramError, ProgramInfo, SchedClassifier, TestRun as _, TestRunOptions, TestRunResult, Xdp};
use aya_obj::programs::XdpAttachType;
use pcc_ebpf::abi::{MarkLayout, program};
use tests::lab::address;
use tests::packet::{Packet, Transport};

use super::memory::{field, files};
use super::report::Timed;
use super::stand::{Stand, measured, pin};
use super::traffic::Device;

const RUNS: u32 = 1_000_000;
/// `sizeof(struct __sk_buff)`.
const SKB: usize = 192;

/// Nanoseconds of one run of each program that the stand's pcc has loaded and that sees packets. A packet stays as it is
/// between runs where the program does not change it: those that take shortcuts find one in the first run at most.
pub fn measure(stand: &Stand) -> Result<Vec<Timed>> {
    let Some(pcc) = &stand.pcc else { return Ok(Vec::new()) };
    let ids: Vec<u64> = files(pcc.id())?.iter().filter_map(|text| field(text, "prog_id")).collect();
    let mut programs = BTreeMap::new();
    for info in loaded_programs().filter_map(Result::ok) {
        if ids.contains(&u64::from(info.id())) {
            programs.insert(info.name_as_str().unwrap_or_default().to_owned(), info);
        }
    }
    let router = stand.lab.router();
    let devices = (Device::of(router, "lan")?.index, Device::of(router, "wan1")?.index);
    let processor = measured()?;
    let mut timed = Vec::new();
    for (name, info) in programs {
        let Some(run) = Run::of(&name, devices) else { continue };
        let result = router.run(|| -> Result<TestRunResult> {
            pin(processor)?;
            Ok(run.perform(info)?)
        });
        let result = result.with_context(|| format!("running `{name}`"))?;
        timed.push(Timed { name, figure: result.duration.as_nanos() as f64 });
    }
    Ok(timed)
}

/// The packet for a program, and where it is.
struct Run {
    frame: Vec<u8>,
    ingress: u32,
    device: u32,
    mark: u32,
    is_xdp: bool,
}

impl Run {
    fn of(name: &str, (lan, wan): (u32, u32)) -> Option<Self> {
        let question = Packet::between((address::CLIENT4, 16_384).into(), (address::SERVER4, 9).into());
        let question = question.transport(Transport::Udp).payload(22);
        let layout = MarkLayout::DEFAULT;
        let confirmed = layout.of(1) | layout.confirmed();
        let run = |packet: Packet, ingress, device, mark| Self {
            frame: packet.build().to_vec(),
            ingress,
            device,
            mark,
            is_xdp: name == program::SHORTCUT_XDP,
        };
        Some(match name {
            program::LAN_INGRESS | program::SHORTCUT | program::SHORTCUT_XDP => run(question, lan, lan, 0),
            program::LAN_EGRESS => run(question.reversed(), wan, lan, confirmed),
            program::UPLINK_INGRESS => run(question.reversed(), wan, wan, 0),
            program::UPLINK_EGRESS => run(question, lan, wan, confirmed),
            _ => return None,
        })
    }

    fn perform(&self, info: ProgramInfo) -> Result<TestRunResult, ProgramError> {
        let name = Cow::Borrowed("timed");
        let options = TestRunOptions { data_in: Some(&self.frame), repeat: RUNS, ..TestRunOptions::new() };
        if self.is_xdp {
            return Xdp::from_program_info(info, name, XdpAttachType::Interface)?.test_run(options);
        }
        let mut context = [0; SKB];
        for (offset, value) in [(8, self.mark), (36, self.ingress), (40, self.device)] {
            context[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        }
        SchedClassifier::from_program_info(info, name)?.test_run(TestRunOptions { ctx_in: Some(&context), ..options })
    }
}
