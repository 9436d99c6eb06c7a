//! `POST /v1/open`: the connection becomes something else than HTTP. What was asked for is said in the request, what
//! came of it in the header `peerup-opened` of the answer; after it the socket belongs to both ends.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum OpenRequest {
    /// A TCP connection to a peer; its bytes follow. Half-closing works in both directions.
    Connect {
        /// Name, overlay address or peer ID.
        target: String,
        port: u16,
    },
    /// A proxy (SOCKS5 and HTTP CONNECT) that lives as long as the socket.
    Socks {
        listen: SocketAddr,
        /// Also dial what is no part of the overlay.
        #[serde(default)]
        allow_outside: bool,
    },
    /// Another network namespace's TUN device: its file follows as SCM_RIGHTS beside one byte, `o` where frames begin
    /// with a virtio header and `p` where they do not. It is carried for as long as the socket lives.
    Exec {
        /// Also carry what leads out of the overlay, with this host's own sockets.
        #[serde(default)]
        internet: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum OpenReport {
    Connect {
        address: SocketAddr,
    },
    Socks {
        listen: SocketAddr,
    },
    Exec {
        /// This node's, which the namespace's device gets.
        addresses: Vec<IpAddr>,
        /// What belongs to the overlay.
        ranges: Vec<String>,
        mtu: u16,
        /// Where names of the Internet are looked up, where it was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resolver: Option<IpAddr>,
    },
}
