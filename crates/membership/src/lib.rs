//! Machine: who is in the network, and which overlay addresses are theirs.
//!
//! Nobody hands out addresses centrally. An IPv6 address follows from the network's name and the peer ID
//! ([`ula()`]). An IPv4 address is *claimed*: its peer signs "this address is mine since epoch" ([`sign()`]),
//! and peers tell each other the claims they know when they say hello. [`Membership`] keeps the latest claim
//! of every authorized peer and derives from that set who owns what:
//!
//! 1. *pinned* addresses (`vpn.address`, `ip=` in `authorized_keys`) belong to their peer, whatever is claimed;
//! 2. then claims, the lower epoch first, then the smaller peer ID in byte order: the older member keeps its
//!    address;
//! 3. then addresses *held* for peers that have not signed a claim yet: what an inviter granted.
//!
//! The newest claim of a peer replaces its older ones, and ownership is a pure function of the set of claims,
//! so nodes that have seen the same claims agree, in whatever order these arrived. A node that finds its own
//! address lost takes the lowest free one and signs a new claim; everybody else only watches.
//!
//! What this does not do: it opens no file ([`Membership::to_yaml`] is text), sends nothing, and does not
//! decide whom to trust ([`Membership::set_authorized`] is told). An authorized peer that back-dates its first
//! claim can push others to new addresses; pinning stops that (docs/adr/0010).
#![forbid(unsafe_code)]

mod assignment;
mod claim;
mod membership;
mod ula;
mod yaml;

pub use claim::{VerifyError, sign, verify};
pub use membership::{
    ClaimError, Event, Exhausted, GrantRefused, HOLD_SECONDS, MAX_PEERS, Membership, NotAHost, Outcome,
    PinError, PrefixTooSmall,
};
pub use ula::{ula, ula_prefix};
pub use yaml::YamlError;
