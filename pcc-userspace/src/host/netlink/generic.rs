//! Families of generic netlink by name.

use anyhow::{Context as _, Result};
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};

use super::Netlink;

impl Netlink {
    /// The number of the family called `name`, for a socket of [`Self::generic`]; `None` where the kernel lacks it.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn family(&mut self, name: &str) -> Result<Option<u16>> {
        let query = GenlMessage::from_payload(GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: Vec::new() });
        let families: Vec<GenlMessage<GenlCtrl>> = self.dump(&query).context("listing families of netlink")?;
        let is_it = |nla: &GenlCtrlAttrs| matches!(nla, GenlCtrlAttrs::FamilyName(found) if found == name);
        let family = families.into_iter().find(|family| family.payload.nlas.iter().any(is_it));
        let id = family.into_iter().flat_map(|family| family.payload.nlas).find_map(|nla| match nla {
            GenlCtrlAttrs::FamilyId(id) => Some(id),
            _ => None,
        });
        Ok(id)
    }
}
