//! What has to be known about an interface before it is touched.

use rtnetlink::packet_core::Nla;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, InfoData, InfoKind, InfoTun, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use crate::journal::LinkBefore;

/// include/uapi/linux/if_link.h; the netlink crate leaves TUN attributes undecoded.
const IFLA_TUN_PERSIST: u16 = 6;

/// An interface as the kernel describes it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) state: LinkBefore,
    pub(super) is_tun: bool,
    /// Whether a process has the device open: the driver's carrier is exactly that.
    pub(super) held: bool,
}

impl Link {
    /// A device that peerup made and that outlived its process, so nobody else's and in nobody's use.
    pub(super) fn is_left_over(&self, before: &LinkBefore) -> bool {
        self.is_tun && !self.held && self.state.index == before.index && !before.persistent
    }
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            state: LinkBefore {
                index: message.header.index,
                up: message.header.flags.contains(LinkFlags::Up),
                mtu: 0,
                tx_queue_length: 0,
                address_generation: None,
                persistent: false,
            },
            is_tun: false,
            held: false,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Mtu(mtu) => link.state.mtu = *mtu,
                LinkAttribute::TxQueueLen(length) => link.state.tx_queue_length = *length,
                LinkAttribute::Carrier(carrier) => link.held = *carrier != 0,
                LinkAttribute::LinkInfo(info) => link.read_kind(info),
                LinkAttribute::AfSpecUnspec(families) => link.state.address_generation = generation(families),
                _ => {}
            }
        }
        link
    }
}

impl Link {
    fn read_kind(&mut self, info: &[LinkInfo]) {
        for part in info {
            match part {
                LinkInfo::Kind(kind) => self.is_tun = *kind == InfoKind::Tun,
                LinkInfo::Data(InfoData::Tun(attributes)) => {
                    self.state.persistent = attributes.iter().any(persists)
                }
                _ => {}
            }
        }
    }
}

fn persists(attribute: &InfoTun) -> bool {
    let mut value = vec![0; attribute.value_len()];
    attribute.emit_value(&mut value);
    attribute.kind() == IFLA_TUN_PERSIST && value.first().is_some_and(|byte| *byte != 0)
}

fn generation(families: &[AfSpecUnspec]) -> Option<u8> {
    families.iter().find_map(|family| match family {
        AfSpecUnspec::Inet6(attributes) => attributes.iter().find_map(|attribute| match attribute {
            AfSpecInet6::AddrGenMode(mode) => Some(u8::from(mode)),
            _ => None,
        }),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_tun_of_ours_that_nobody_holds_is_left_over() {
        let before = state(7, false);
        let left =
            |is_tun, held, index| Link { state: state(index, true), is_tun, held }.is_left_over(&before);
        assert!(left(true, false, 7));
        assert!(!left(false, false, 7), "no TUN device");
        assert!(!left(true, true, 7), "in use");
        assert!(!left(true, false, 8), "another device of that name");
        let link = Link { state: state(7, true), is_tun: true, held: false };
        assert!(!link.is_left_over(&state(7, true)), "made by an administrator");
    }

    fn state(index: u32, persistent: bool) -> LinkBefore {
        LinkBefore { index, up: false, mtu: 1500, tx_queue_length: 500, address_generation: None, persistent }
    }
}
