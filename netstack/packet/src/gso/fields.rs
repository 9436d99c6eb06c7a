//! Where the fields lie that differ between the segments of a packet (RFC 791, RFC 8200, RFC 9293, RFC 768).

pub(super) const V4_HEADER_LEN: usize = 20;
pub(super) const V4_TOTAL_LENGTH_AT: usize = 2;
pub(super) const V4_IDENTIFICATION_AT: usize = 4;
pub(super) const V4_FLAGS_AT: usize = 6;
pub(super) const V4_CHECKSUM_AT: usize = 10;
pub(super) const V4_ADDRESSES_AT: usize = 12;

pub(super) const V6_HEADER_LEN: usize = 40;
pub(super) const V6_PAYLOAD_LENGTH_AT: usize = 4;
pub(super) const V6_NEXT_HEADER_AT: usize = 6;

pub(super) const TCP_HEADER_LEN: usize = 20;
pub(super) const TCP_SEQUENCE_AT: usize = 4;
pub(super) const TCP_ACKNOWLEDGMENT_AT: usize = 8;
pub(super) const TCP_FLAGS_AT: usize = 13;
pub(super) const TCP_WINDOW_AT: usize = 14;
pub(super) const TCP_CHECKSUM_AT: usize = 16;
pub(super) const TCP_URGENT_AT: usize = 18;

pub(super) const TCP_FIN: u8 = 0x01;
pub(super) const TCP_SYN: u8 = 0x02;
pub(super) const TCP_RST: u8 = 0x04;
pub(super) const TCP_PSH: u8 = 0x08;
pub(super) const TCP_ACK: u8 = 0x10;
pub(super) const TCP_CWR: u8 = 0x80;

pub(super) const UDP_HEADER_LEN: usize = 8;
pub(super) const UDP_LENGTH_AT: usize = 4;
pub(super) const UDP_CHECKSUM_AT: usize = 6;

pub(super) fn get(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

pub(super) fn get_long(bytes: &[u8], at: usize) -> u32 {
    u32::from(get(bytes, at)) << 16 | u32::from(get(bytes, at + 2))
}
