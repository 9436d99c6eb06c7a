//! Super-packets: generic segmentation offload (GSO) between two kernels.
//!
//! A kernel that may leave segmentation and checksums to its network device hands over up to 64 KiB of one TCP
//! stream, or many UDP datagrams of one size, as a single packet with a `virtio_net_hdr` (VIRTIO 1.2 §5.1.6) that
//! says how to cut it. The kernel at the other end of a tunnel takes the same packet whole. Nobody in between
//! computes a checksum or looks at a segment, which is what makes a tunnel fast.
//!
//! What such a packet passes through:
//! - [`validate()`] before anything else, on both sides: a super-packet comes from a peer and goes into a kernel.
//!   The [`SuperPacketView`] it returns names one source, one destination and one flow, whatever is inside.
//! - [`SuperPacketView::segment_len`] is what has to fit a link, rather than the packet's own length.
//! - [`clamp_mss`] in place of [`crate::clamp_mss`].
//! - [`SuperPacketView::header`] goes into the kernel in place of the header that arrived.
//! - [`SuperPacketView::split`] or [`SuperPacketView::segments_within`] where the far side, or the device, takes only what fits the MTU.
//!
//! [`Merger`] makes super-packets of packets that came one by one.
//!
//! A kernel may also hand over what no peer would be allowed to send: the checksum of a packet inside another one,
//! say of VXLAN over the tunnel. [`complete_checksum`] turns it into an ordinary packet.

mod checksum;
mod fields;
mod header;
mod merge;
mod split;
#[cfg(test)]
pub(crate) mod testing;
mod validate;

pub use checksum::{ChecksumOutside, clamp_mss, complete_checksum};
pub use header::{VIRTIO_NET_HEADER_LEN, VirtioNetHeader};
pub use merge::{Merged, Merger};
pub use split::{MtuTooSmall, Segments};
pub use validate::{GsoError, MAX_UDP_SEGMENTS, Segmentation, SuperPacketView, validate};
