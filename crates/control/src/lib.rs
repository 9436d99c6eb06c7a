//! The local API: how `peerup status` and its siblings talk to the daemon on the same machine.
//!
//! HTTP/1.1 over a Unix socket, so that `curl --unix-socket` works for debugging (ADR F01). Two fences stand before
//! every answer: the kernel's word on who connected (`SO_PEERCRED`) and a cookie that only the owner of the state
//! directory can read (ADR F02). [`Runtime`] is the list of things one can ask; the daemon implements it, [`Client`]
//! implements it by asking the daemon, so a caller does not care whether it holds one or the other.
//!
//! This room never decides anything about peers, paths or trust, and it never writes the configuration.
#![forbid(unsafe_code)]

pub mod api;
mod client;
mod cookie;
mod error;
mod runtime;
mod server;

pub use client::{Client, ClientError, Opened};
pub use error::{ApiError, ErrorKind};
pub use runtime::{Answer, BoxFuture, EVENT_BOUND, INVITE_EVENT_BOUND, Opening, Runtime};
pub use server::{BindError, BindOptions, RequestObserver, Seen, ServeError, Server, SocketGroup};

/// The header that says what was opened.
const OPENED: &str = "peerup-opened";

/// Largest request body the daemon reads.
const MAX_REQUEST_BODY: usize = 1 << 20;
