//! Answers who asks for connections, beside the controller's loop: with maps and a netlink socket of its own.

use anyhow::{Context as _, Result};
use pcc_ebpf::packet::protocol::{TCP, UDP};
use tokio::sync::Mutex;

use super::join::{self, Joined};
use super::scene::{Marks, Scene};
use super::select::Selection;
use super::{Listing, Query};
use crate::config::Paths;
use crate::control::Answer;
use crate::controller::refusal;
use crate::dataplane::Pinned;
use crate::explain::coarse_seconds;
use crate::host::connections::{self, Connection, Filter};
use crate::host::linux::Linux;
use crate::host::{Family, sysctl};
use crate::journal::Journal;
use crate::names;
use crate::problem::Problem;

/// `net.netfilter.nf_conntrack_acct`.
const ACCOUNTING: &str = "net/netfilter/nf_conntrack_acct";

/// Looks through the connections of an instance, for one at a time.
pub struct Server {
    paths: Paths,
    turn: Mutex<()>,
}

impl Server {
    /// For the instance with `paths`.
    pub const fn new(paths: Paths) -> Self {
        Self { paths, turn: Mutex::const_new(()) }
    }

    /// The answer to `query`. A walk takes seconds where there are a million connections, and keeps a core busy: who asks
    /// meanwhile waits.
    pub async fn answer(&self, query: Query) -> Answer {
        let _turn = self.turn.lock().await;
        let paths = self.paths.clone();
        let listing = tokio::task::spawn_blocking(move || list(&paths, &query)).await;
        match listing.context("looking through the connections").flatten() {
            Ok(listing) => Answer::Flows(Box::new(listing)),
            Err(error) => refusal(&error),
        }
    }
}

/// The connections that `query` asks for, with or without a controller.
///
/// # Errors
/// No data path, no rights, or an uplink or a state that there is not.
pub fn list(paths: &Paths, query: &Query) -> Result<Listing> {
    let journal = Journal::load(&paths.run)?.filter(|journal| journal.mark_mask != 0);
    let (Some(journal), Some(pinned)) = (journal, Pinned::open(&paths.pins)?) else {
        return Err(Problem::new("there is no data path", "`pcc run` makes it; `--instance` names another one").into());
    };
    if let Some(state) = &query.state
        && !join::states().contains(&state.as_str())
    {
        return Err(names::unknown("state", state, &join::states()).into());
    }
    let scene = Scene::of(&pinned, &journal, &Linux::open()?.addressed()?);
    let mark = query.uplink.as_deref().map_or(Ok((0, 0)), |name| scene.mark(name))?;
    let family = query.client.map(|network| Family::of(network.addr()));
    let shortcuts = matches!(scene.marks, Marks::Uplinks(_)) && pinned.has_shortcuts()?;
    let mut selection = Selection::new(query);
    let mut failed = Ok(());
    connections::walk(Filter { family, mark }, |connection| {
        let joined = Joined { ends: scene.ends(&connection), connection, shortcut_out: None, shortcut_in: None };
        if !query.admits(&joined) {
            return;
        }
        let joined = if shortcuts { with_shortcuts(joined, &scene, &pinned) } else { Ok(joined) };
        match joined {
            Ok(joined) => selection.take(joined),
            Err(error) => failed = Err(error),
        }
    })?;
    failed?;
    let (total, first, clients) = selection.finish();
    let now = coarse_seconds();
    let flow = |joined: &Joined| {
        let Connection { protocol, original, reply, .. } = joined.connection;
        // The flow cache has it as packets of the LAN come in.
        let (from, to) = if joined.ends.inbound { reply } else { original };
        Ok(joined.flow(&scene, pinned.flow(from, to, protocol)?, shortcuts, now))
    };
    Ok(Listing {
        total,
        accounting: sysctl::read(ACCOUNTING)?.is_some_and(|value| value != "0"),
        flows: first.iter().map(flow).collect::<Result<_>>()?,
        clients,
    })
}

/// Adds what the shortcuts of both directions counted. Only what was answered has any.
fn with_shortcuts(joined: Joined, scene: &Scene, pinned: &Pinned) -> Result<Joined> {
    let Connection { protocol, original, reply, mark, answered, .. } = joined.connection;
    let Marks::Uplinks(layout) = &scene.marks else { return Ok(joined) };
    let uplink = layout.uplink(mark).and_then(|id| scene.uplinks.get(&id)?.ifindex);
    let Some(uplink) = uplink.filter(|_| answered && matches!(protocol, TCP | UDP)) else { return Ok(joined) };
    let (out, back) = if joined.ends.inbound { (reply, original) } else { (original, reply) };
    Ok(Joined {
        shortcut_out: pinned.shortcut(out, protocol, &scene.lans)?,
        shortcut_in: pinned.shortcut(back, protocol, &[uplink])?,
        ..joined
    })
}
