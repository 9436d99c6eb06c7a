//! Does anybody answer on this connection? Exchanges of libp2p's ping protocol, which every libp2p host serves:
//! 32 bytes there, the same 32 bytes back.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use peerup_swarm::{PathHandle, Stream};
use rand::Rng;
use tokio::time::timeout;

const PROTOCOL: &str = "/ipfs/ping/1.0.0";
/// Several round trips of a usable path, and well below QUIC's idle timeout.
const PATIENCE: Duration = Duration::from_millis(1200);

/// Whether the other end of `path` echoes within [`PATIENCE`].
pub async fn answers(path: &PathHandle) -> bool {
    round_trip(path).await.is_some()
}

/// How long the other end of `path` takes to echo, without the opening of the stream; `None` when it takes longer than
/// [`PATIENCE`].
pub async fn round_trip(path: &PathHandle) -> Option<Duration> {
    let exchange = async {
        let mut stream = path.open(PROTOCOL).await.ok()?;
        // The first exchange carries the negotiation of the stream, which is lazy.
        exchange(&mut stream).await?;
        let sent = peerup_clock::now();
        exchange(&mut stream).await?;
        Some(peerup_clock::now().saturating_duration_since(sent))
    };
    timeout(PATIENCE, exchange).await.ok().flatten()
}

async fn exchange(stream: &mut Stream) -> Option<()> {
    let mut sent = [0; 32];
    rand::rng().fill_bytes(&mut sent);
    stream.write_all(&sent).await.ok()?;
    stream.flush().await.ok()?;
    let mut echoed = [0; 32];
    stream.read_exact(&mut echoed).await.ok()?;
    (echoed == sent).then_some(())
}
