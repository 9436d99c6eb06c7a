//! libp2p transports of our own: TLS for TCP and circuits, and QUIC.
//!
//! Both speak exactly what stock libp2p speaks (libp2p-TLS 1.3, ALPN `libp2p`, QUIC v1), so either side of a
//! connection may be a stock host. What differs is below the wire format:
//!
//! * **Cipher order follows the CPU.** Stock libp2p proposes ChaCha20-Poly1305 first everywhere, and a rustls server
//!   follows its client; on a host with AES instructions that is half of the CPU time of a connection. Here AES-GCM
//!   comes first where the CPU has it, and a listener applies its own order, so one tuned side is enough.
//! * **Writes are gathered.** yamux writes a 12-byte header and its body separately and flushes after each frame;
//!   [`Buffered`] makes one TLS write of many frames.
//! * **TCP follows its path.** Cubic near by, BBR and a short kernel queue where loss or distance would hold cubic
//!   down ([`tcp`]).
//! * **QUIC is open.** Congestion control, windows, socket buffers and datagrams (RFC 9221) are chosen at
//!   construction, and every connection's handle is given to a [`quic::Registry`], for RTT, loss, path MTU and
//!   datagrams.
//!
//! Key exchange is X25519MLKEM768 first (recorded traffic stays secret from a later quantum computer), then X25519.
//! Sessions are never resumed: a resumed session would not show the certificate that proves the peer ID. Secrets are
//! never logged; `SSLKEYLOGFILE` has no effect.
//!
//! What is not here: policy. Which address is dialed, which connection is used and when it ends is decided above.

#![forbid(unsafe_code)]

mod buffered;
mod ciphers;
mod credentials;
pub mod quic;
pub mod tcp;
mod tls;
mod verifier;

pub use buffered::Buffered;
pub use ciphers::CipherOrder;
pub use credentials::{Credentials, CredentialsError};
pub use tls::{SecureStream, Tls, TlsError};
pub use verifier::WrongPeer;
