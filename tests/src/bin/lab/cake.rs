//! CAKE on an uplink shapes what takes shortcuts too.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Instant;

use pcc_userspace::fast_path::Way;
use pcc_userspace::status::Status;
use serde_json::Value;
use tests::lab::address::{PORT, SERVER4};
use tests::lab::settings::READY;
use tests::lab::{Defaults, Lab, PATIENCE};

/// Megabits per second: what an emulated machine surpasses easily.
const RATE: u32 = 4;
const BYTES: usize = 1 << 20;

/// What CAKE has sent.
#[derive(Debug, Default)]
struct Sent {
    packets: u64,
    bytes: u64,
}

/// Sends a megabyte by an uplink that CAKE shapes, under `--fast-path xdp`.
pub fn run() -> ExitCode {
    let lab = Lab::builder().defaults(Defaults::All).whole_frames().build();
    let add = format!("qdisc add dev wan1 root cake bandwidth {RATE}mbit");
    lab.router().exec("tc", add.split(' '));
    let wans = lab.wans();
    let by_port = ["--hash", "both-addresses-and-ports", "--seed", "1"];
    let pcc = lab.pcc(&[&["run", "--wan", &wans, "--lan", lab.lans(), "--fast-path", "xdp"], &by_port[..]].concat());
    pcc.wait_for("ready", READY);
    let checks = [ways(&lab), transfer(&lab)].concat();
    for (kept, text) in &checks {
        println!("  {} {text}", if *kept { "ok    " } else { "BROKEN" });
    }
    if checks.iter().all(|(kept, _)| *kept) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn ways(lab: &Lab) -> Vec<(bool, String)> {
    let output = lab.pcc_output(&["status", "--json"]);
    let Ok(status) = serde_json::from_slice::<Status>(&output.stdout) else {
        return vec![(false, "`pcc status --json` says nothing".to_owned())];
    };
    let shaped = "cake shapes wan1, and XDP would go around it";
    // What the others are depends on whether the kernel tells what their drivers can.
    [("lan", "wan1", shaped), ("wan1", "lan", ""), ("lan", "wan2", "")]
        .into_iter()
        .map(|(from, to, reason)| {
            let pair = status.fast_path.pairs.iter().find(|pair| pair.from == from && pair.to == to);
            let kept = pair.is_some_and(|pair| {
                pair.reason.contains(reason) && if to == "wan1" { pair.way == Way::Tc } else { pair.way != Way::Stack }
            });
            let said = pair.map_or("nothing".to_owned(), |pair| format!("{:?} ({})", pair.way, pair.reason));
            (kept, format!("{from} → {to}: {said}"))
        })
        .collect()
}

fn transfer(lab: &Lab) -> Vec<(bool, String)> {
    let flows: Vec<_> = (0..24).map(|i| (26_000 + i, SocketAddr::new(SERVER4.into(), PORT))).collect();
    let opened = lab.client().open_many(tests::lab::Protocol::Tcp, &flows, 8, PATIENCE * 3);
    let Some(mut conversation) = opened.into_iter().flatten().find(|it| it.isp == 1) else {
        return vec![(false, "no connection by uplink 1".to_owned())];
    };
    conversation.patience = READY;
    let (sent, taken, began) = (sent(lab), lab.shortcuts_taken(), Instant::now());
    let outcome = conversation.exchange(&vec![7; BYTES]);
    let took = began.elapsed();
    let (sent_after, taken_after) = (self::sent(lab), lab.shortcuts_taken());
    let (packets, bytes) = (sent_after.packets - sent.packets, sent_after.bytes - sent.bytes);
    let shortcuts = [taken_after.0 - taken.0, taken_after.1 - taken.1];
    let rate = bytes as f64 * 8.0 / 1e6 / took.as_secs_f64();
    let limit = f64::from(RATE);
    vec![
        (outcome.is_ok(), format!("{BYTES} bytes there and back in {took:.1?}")),
        (bytes >= BYTES as u64, format!("CAKE sent {packets} packets, {bytes} bytes")),
        (rate > limit / 4.0 && rate < limit * 1.2, format!("{rate:.1} Mbit/s of {RATE}")),
        (
            // Both ways: what comes back alone would be fewer.
            shortcuts[0] >= packets + packets / 2,
            format!("{} packets took shortcuts in tc, {} in XDP", shortcuts[0], shortcuts[1]),
        ),
    ]
}

fn sent(lab: &Lab) -> Sent {
    let shown = lab.router().exec("tc", ["-s", "-j", "qdisc", "show", "dev", "wan1"]);
    let all: Vec<Value> = serde_json::from_str(&shown).unwrap_or_default();
    let cake = all.iter().find(|qdisc| qdisc["kind"] == "cake");
    let number = |name: &str| cake.and_then(|cake| cake[name].as_u64()).unwrap_or_default();
    Sent { packets: number("packets"), bytes: number("bytes") }
}
