//! What ends shortcuts: everything that may change what the stack would do.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use pcc_ebpf::abi::MAX_UPLINK;

use super::Instance;
use crate::config::{Config, FastPath};
use crate::host::netlink::{Changed, Ended};
use crate::lease::{Lease, SHORT};

/// Why shortcuts became stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// The host changed.
    Host(Changed),
    /// Notices about connections that ended were lost.
    Lost,
    /// Our table was put back.
    Repair,
    /// Another configuration is in force.
    Reload,
    /// Connections of an uplink were ended.
    Ended,
    /// Other devices take shortcuts, or in another way.
    Choice,
}

/// How often shortcuts became stale, by cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Raises(BTreeMap<Cause, u64>);

impl Raises {
    /// Each cause that there was with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Cause, u64)> + '_ {
        self.0.iter().map(|(cause, count)| (*cause, *count))
    }

    fn count(&mut self, cause: Cause) {
        *self.0.entry(cause).or_default() += 1;
    }
}

/// Packets of `config` take shortcuts.
pub fn fast_path_is_on(config: &Config) -> bool {
    config.fast_path != FastPath::Off
}

impl Instance {
    /// Makes all shortcuts stale, because of `cause`. What fails is reported.
    pub fn outdate(&mut self, cause: Cause) {
        self.raised(cause, "all shortcuts", |instance| instance.plane.raise_all_epochs());
    }

    /// Makes the shortcuts of the uplinks `ids` stale.
    pub(super) fn outdate_uplinks(&mut self, cause: Cause, ids: &[u32]) {
        self.raised(cause, &format!("shortcuts of uplinks {ids:?}"), |instance| {
            instance.plane.raise_epochs(ids.iter().copied())
        });
    }

    fn raised(&mut self, cause: Cause, what: &str, raise: impl FnOnce(&mut Self) -> Result<()>) {
        if !fast_path_is_on(&self.config) {
            return;
        }
        tracing::debug!("{what} are stale: {cause}");
        self.raises.count(cause);
        if let Err(error) = raise(self) {
            tracing::error!("making {what} stale: {error:#}");
        }
    }

    /// From now on shortcuts have `lease`.
    pub fn set_lease(&mut self, lease: Lease) {
        let seconds = if fast_path_is_on(&self.config) { lease.seconds } else { 0 };
        let is_first = self.plane.epoch(MAX_UPLINK).is_ok_and(|epoch| epoch.lease == 0);
        if let Err(error) = self.plane.set_lease(seconds) {
            tracing::error!("setting the lease of shortcuts: {error:#}");
        }
        let before = std::mem::replace(&mut self.circumstances.lease, lease);
        let now = &self.circumstances.lease;
        if (is_first || before != *now) && fast_path_is_on(&self.config) {
            tracing::info!("shortcuts last {} s: {}", now.seconds, now.reason);
        }
        if (before.seconds == 0) != (now.seconds == 0)
            && let Err(error) = self.reconcile()
        {
            tracing::error!("choosing shortcuts: {error:#}");
        }
    }

    /// Forgets the shortcuts of connections that ended.
    pub fn forget_shortcuts(&mut self, ended: &[Ended]) {
        if let Err(error) = self.plane.forget_connections(ended) {
            tracing::error!("{error:#}");
        }
    }

    /// Indices of the devices that packets are forwarded between.
    pub fn devices(&self) -> impl Iterator<Item = u32> + '_ {
        let uplinks = self.topology.uplinks.iter().filter_map(|uplink| uplink.link.as_ref());
        uplinks.chain(self.topology.lans.iter().map(|(_, link)| link)).map(|link| link.index)
    }

    /// The data path goes on without a controller: nobody notices what makes shortcuts stale.
    ///
    /// # Errors
    /// The maps cannot be written.
    pub fn leave_alone(&mut self) -> Result<()> {
        let seconds = if fast_path_is_on(&self.config) { self.circumstances.lease.seconds.min(SHORT) } else { 0 };
        self.plane.set_lease(seconds)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Host(Changed::Links) => "a device changed",
            Self::Host(Changed::Addresses) => "an address changed",
            Self::Host(Changed::Routes) => "a route changed",
            Self::Host(Changed::Rules) => "a routing rule changed",
            Self::Host(Changed::Ruleset) => "our nftables table changed",
            Self::Host(Changed::Firewall) => "the firewall changed",
            Self::Host(Changed::Neighbours) => "a neighbour changed",
            Self::Host(Changed::Everything) => "notices were lost",
            Self::Lost => "notices about connections were lost",
            Self::Repair => "our nftables table was put back",
            Self::Reload => "another configuration is in force",
            Self::Ended => "connections were ended",
            Self::Choice => "shortcuts are taken elsewhere or in another way",
        })
    }
}
