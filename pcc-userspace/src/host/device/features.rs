//! What drivers can do by XDP, as generic netlink tells since Linux 6.3.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use netlink_packet_core::{DecodeError, Emitable, NlasIterator, ParseableParametrized, parse_u32, parse_u64};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};

use crate::host::netlink::Netlink;

/// Bits of the features of a driver (`enum netdev_xdp_act`).
pub mod xdp {
    /// It runs programs, which pass, drop or send back.
    pub const BASIC: u64 = 1;
    /// Programs may redirect frames to other devices.
    pub const REDIRECT: u64 = 2;
    /// It sends frames that programs of other devices redirect to it.
    pub const TRANSMIT: u64 = 4;
}

/// The kernel's family `netdev`, once it was asked.
#[derive(Default)]
pub struct Features(Option<Family>);

enum Family {
    Missing,
    Known { netlink: Netlink, id: u16 },
}

impl Features {
    /// Bits of [`xdp`] by interface index; `None` where the kernel does not tell.
    pub(super) fn read(&mut self) -> Result<Option<BTreeMap<u32, u64>>> {
        let family = match self.0.take() {
            Some(family) => family,
            None => find().context("looking for the family `netdev`")?,
        };
        let Family::Known { netlink, id } = self.0.insert(family) else { return Ok(None) };
        let mut query = GenlMessage::from_payload(Device::default());
        query.set_resolved_family_id(*id);
        let devices: Vec<GenlMessage<Device>> = netlink.dump(&query).context("listing XDP features")?;
        Ok(Some(devices.into_iter().map(|it| (it.payload.ifindex, it.payload.features)).collect()))
    }
}

fn find() -> Result<Family> {
    let mut netlink = Netlink::generic()?;
    Ok(netlink.family(Device::family_name())?.map_or(Family::Missing, |id| Family::Known { netlink, id }))
}

/// `NETDEV_CMD_DEV_GET` and its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Device {
    ifindex: u32,
    features: u64,
}

impl GenlFamily for Device {
    fn family_name() -> &'static str {
        "netdev"
    }

    fn command(&self) -> u8 {
        1
    }

    fn version(&self) -> u8 {
        1
    }
}

/// A query for all devices has no attributes.
impl Emitable for Device {
    fn buffer_len(&self) -> usize {
        0
    }

    fn emit(&self, _: &mut [u8]) {}
}

impl ParseableParametrized<[u8], GenlHeader> for Device {
    fn parse_with_param(payload: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        const IFINDEX: u16 = 1;
        const XDP_FEATURES: u16 = 3;
        let mut device = Self::default();
        for attribute in NlasIterator::new(payload).flatten() {
            match attribute.kind() {
                IFINDEX => device.ifindex = parse_u32(attribute.value())?,
                XDP_FEATURES => device.features = parse_u64(attribute.value())?,
                _ => {}
            }
        }
        Ok(device)
    }
}
