//! Does anybody answer on this connection? One exchange of libp2p's ping protocol, which every libp2p host serves:
//! 32 bytes there, the same 32 bytes back.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use peerup_swarm::PathHandle;
use rand::Rng;
use tokio::time::timeout;

const PROTOCOL: &str = "/ipfs/ping/1.0.0";
/// Several round trips of a usable path, and well below QUIC's idle timeout.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the other end of `path` echoes within [`PATIENCE`].
pub async fn answers(path: &PathHandle) -> bool {
    let exchange = async {
        let mut sent = [0; 32];
        rand::rng().fill_bytes(&mut sent);
        let mut stream = path.open(PROTOCOL).await.ok()?;
        stream.write_all(&sent).await.ok()?;
        stream.flush().await.ok()?;
        let mut echoed = [0; 32];
        stream.read_exact(&mut echoed).await.ok()?;
        (echoed == sent).then_some(())
    };
    matches!(timeout(PATIENCE, exchange).await, Ok(Some(())))
}
