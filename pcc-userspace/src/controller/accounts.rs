//! Keeps the ledger of new connections, and lets it be judged beside the loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::{Mutex, oneshot};

use super::refusal;
use crate::control::Answer;
use crate::host::Family;
use crate::instance::Instance;
use crate::policies;
use crate::verify::{self, Basis, Ledger, Shares};

/// The ledger, and the turn of whoever has it judged.
#[derive(Default)]
pub(super) struct Accounts {
    ledger: Ledger,
    turn: Arc<Mutex<()>>,
}

impl Accounts {
    /// Makes a mark where one is due. To be called when something changed what is wanted, and now and then.
    pub(super) fn keep(&mut self, instance: &Instance, now: Instant) {
        let shares = shares(instance);
        if !self.ledger.is_due(now, &shares) {
            return;
        }
        match begun(instance) {
            Ok(begun) => self.ledger.note(now, begun, shares),
            Err(error) => tracing::error!("counting connections: {error:#}"),
        }
    }

    /// Answers how the connections of the last time are spread; this takes a walk through all of them, for one at a time.
    pub(super) fn verify(&self, instance: &Instance, since: Option<Duration>, reply: oneshot::Sender<Answer>) {
        let basis = match self.basis(instance, since) {
            Ok(basis) => basis,
            Err(error) => {
                let _ = reply.send(refusal(&error));
                return;
            }
        };
        let turn = self.turn.clone();
        tokio::spawn(async move {
            let _turn = turn.lock().await;
            let report = tokio::task::spawn_blocking(move || verify::measure(&basis)).await;
            let answer = match report.context("looking through the connections").flatten() {
                Ok(report) => Answer::Verified(Box::new(report)),
                Err(error) => refusal(&error),
            };
            let _ = reply.send(answer);
        });
    }

    fn basis(&self, instance: &Instance, since: Option<Duration>) -> Result<Basis> {
        let uplinks = instance.topology.uplinks.iter();
        Ok(Basis {
            config: instance.config.clone(),
            paths: instance.paths.clone(),
            seed: instance.plane.settings()?.seed,
            uplinks: uplinks.map(|uplink| (uplink.id, uplink.config.name.clone())).collect(),
            period: self.ledger.since(since, Instant::now(), &begun(instance)?),
            shares: shares(instance),
        })
    }
}

/// Who takes the new connections that no rule decides.
fn shares(instance: &Instance) -> Shares {
    Family::BOTH.map(|family| {
        let weights = policies::shares(&instance.topology, &instance.standing, &instance.weights, family);
        let total: u32 = weights.iter().map(|(_, weight)| weight).sum();
        weights.into_iter().map(|(id, weight)| (id, f64::from(weight) / f64::from(total.max(1)))).collect()
    })
}

fn begun(instance: &Instance) -> Result<BTreeMap<u32, u64>> {
    let uplinks = instance.topology.uplinks.iter();
    uplinks.map(|uplink| Ok((uplink.id, instance.plane.traffic(uplink.id)?.connections))).collect()
}
