//! What peerup says on the wire: frames, hello, vouching. Every byte is explained in `docs/wire.md`.
//!
//! Three protocols are ours. `/peerup/tun/1.0.0` opens with one [`hello`] in each direction and then carries
//! [`frame`]s; `/peerup/vouch/1.0.0` carries one [`vouch`] request and its response; `/peerup/invite/1.0.0`
//! belongs to `peerup-trust`, only its name is here.
//!
//! The rules, the same everywhere:
//! - All integers are big-endian, except inside a [`frame::VirtioNetHeader`], which is little-endian because
//!   the kernel's is on the machines we run on.
//! - A length is checked against its cap before anything of that length is allocated or waited for.
//! - Parsers never panic and never trust: what they return has been checked.
//! - Unknown frame types, TLV types and control codes are skipped, so that version N can talk to N−1. A known
//!   one that is damaged is refused: it is never guessed at.
//!
//! Nothing here does I/O or keeps time. The golden vectors in `tests/golden` freeze the format.
#![forbid(unsafe_code)]

mod claim;
mod codec;
pub mod control;
pub mod frame;
#[doc(hidden)]
pub mod fuzz;
pub mod hello;
pub mod protocol;
mod relay_offer;
mod tlv;
pub mod version;
pub mod vouch;

pub use claim::{ClaimError, MAX_CLAIMS};
pub use codec::Truncated;
pub use relay_offer::{MAX_RELAY_ADDR_LEN, MAX_RELAY_ADDRS};
