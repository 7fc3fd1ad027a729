//! Features of devices that are switched on, as the family `ethtool` of generic netlink tells.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use netlink_packet_core::{DecodeError, Emitable, NlasIterator, ParseableParametrized, parse_string, parse_u32};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};

use crate::host::netlink::Netlink;

/// Names of features, as `ethtool -k` knows them inside, by interface index; none where the kernel does not tell.
pub(super) fn active() -> Result<BTreeMap<u32, BTreeSet<String>>> {
    let mut netlink = Netlink::generic()?;
    let Some(id) = netlink.family(Active::family_name())? else { return Ok(BTreeMap::new()) };
    let mut query = GenlMessage::from_payload(Active::default());
    query.set_resolved_family_id(id);
    let devices: Vec<GenlMessage<Active>> = netlink.dump(&query).context("listing features of devices")?;
    Ok(devices.into_iter().map(|it| (it.payload.ifindex, it.payload.features)).collect())
}

/// `ETHTOOL_MSG_FEATURES_GET` and its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Active {
    ifindex: u32,
    features: BTreeSet<String>,
}

impl GenlFamily for Active {
    fn family_name() -> &'static str {
        "ethtool"
    }

    fn command(&self) -> u8 {
        11
    }

    fn version(&self) -> u8 {
        1
    }
}

/// A query for all devices has no attributes.
impl Emitable for Active {
    fn buffer_len(&self) -> usize {
        0
    }

    fn emit(&self, _: &mut [u8]) {}
}

impl ParseableParametrized<[u8], GenlHeader> for Active {
    fn parse_with_param(payload: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        const HEADER: u16 = 1;
        const DEVICE_INDEX: u16 = 1;
        const ACTIVE: u16 = 4;
        const BITS: u16 = 3;
        const NAME: u16 = 2;
        let mut device = Self::default();
        for attribute in NlasIterator::new(payload).flatten() {
            match attribute.kind() {
                HEADER => {
                    let inside = NlasIterator::new(attribute.value()).flatten();
                    for index in inside.filter(|it| it.kind() == DEVICE_INDEX) {
                        device.ifindex = parse_u32(index.value())?;
                    }
                }
                ACTIVE => {
                    let lists = NlasIterator::new(attribute.value()).flatten().filter(|it| it.kind() == BITS);
                    for list in lists {
                        for bit in NlasIterator::new(list.value()).flatten() {
                            let names = NlasIterator::new(bit.value()).flatten().filter(|it| it.kind() == NAME);
                            for name in names {
                                device.features.insert(parse_string(name.value())?);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_has_features() {
        let active = active().unwrap();
        let loopback = active.get(&1).unwrap();
        assert!(loopback.contains("tx-scatter-gather") && !loopback.contains("rx-lro"), "{loopback:?}");
    }
}
