//! One vouching request and its answer, on a stream of an authorized peer (docs/wire.md, "Vouching").

use std::{io, time::Duration};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use peerup_trust::authorized_keys::AddError;
use peerup_types::PeerId;
use peerup_wire::vouch::{LENGTH_PREFIX, Request, Response, Status, VouchError, decode_length};
use tokio::time::timeout;

use crate::{admissions::OpenError, files::AppendError};

/// A request is a few hundred bytes at most; who needs longer for it has gone.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why a request is not granted.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("vouching is off at this relay; its owner authorizes by hand")]
    Off,
    #[error("you are not authorized at this relay")]
    NotAuthorized,
    #[error("you have no admission open; it may have expired")]
    NoAdmission,
    #[error("that is the relay itself")]
    RelayItself,
    #[error("the key is listed but has expired; the owner of the relay set that limit")]
    Expired,
    #[error("the request cannot be understood")]
    Request(#[from] VouchError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the list of authorized keys cannot be changed")]
    Append(#[source] AppendError),
    #[error("too many requests at once")]
    Busy,
}

impl Refusal {
    fn status(&self) -> Status {
        match self {
            Self::Off => Status::VouchingOff,
            Self::NotAuthorized
            | Self::NoAdmission
            | Self::Expired
            | Self::Append(AppendError::Add(AddError::Full)) => Status::Refused,
            Self::RelayItself | Self::Request(_) | Self::Open(OpenError::NoTime) => Status::BadRequest,
            Self::Open(OpenError::Full)
            | Self::Busy
            | Self::Append(
                AppendError::Read(_)
                | AppendError::Lock(_)
                | AppendError::Write(_)
                | AppendError::Attribute(_)
                | AppendError::Add(AddError::Duplicate(_)),
            ) => Status::Busy,
        }
    }
}

impl Refusal {
    /// A duplicate is a line that exists and does not admit: it has expired.
    pub fn of_append(error: AppendError) -> Self {
        match error {
            AppendError::Add(AddError::Duplicate(_)) => Self::Expired,
            other => Self::Append(other),
        }
    }
}

/// The answer to a request that was judged.
pub fn response(outcome: &Result<(), Refusal>) -> Response {
    match outcome {
        Ok(()) => Response { status: Status::Ok, message: String::new() },
        Err(refusal) => Response { status: refusal.status(), message: refusal.to_string() },
    }
}

/// The comment of a line that vouching adds.
pub fn comment(name: &str, inviter: &PeerId) -> String {
    let vouched = format!("vouched for by {}", short_id(inviter));
    if name.is_empty() { vouched } else { format!("{name}, {vouched}") }
}

/// The end of the ID, because all Ed25519 IDs begin alike.
fn short_id(peer: &PeerId) -> String {
    let text = peer.to_string();
    format!("…{}", &text[text.len().saturating_sub(8)..])
}

/// Reads a request. The outer error means that nobody waits for an answer any more.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Result<Request, VouchError>> {
    let request = async {
        let mut prefix = [0; LENGTH_PREFIX];
        stream.read_exact(&mut prefix).await?;
        let length = match decode_length(prefix) {
            Ok(length) => length,
            Err(error) => return Ok(Err(error)),
        };
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        Ok::<_, io::Error>(Request::parse(&body))
    };
    timeout(DEADLINE, request).await?
}

pub async fn answer(mut stream: impl AsyncWrite + Unpin, response: &Response) -> io::Result<()> {
    let bytes = response.encode();
    let written = async {
        stream.write_all(&bytes).await?;
        stream.close().await
    };
    timeout(DEADLINE, written).await?
}

#[cfg(test)]
mod tests {
    use futures::{TryStreamExt, io::Cursor};

    use super::*;

    #[tokio::test]
    async fn a_request_is_read_whole_and_garbage_gets_an_answer() {
        let sent = Request::OpenAdmission { ttl_s: 600 };
        let read = async |bytes: &[u8]| super::read(&mut Cursor::new(bytes)).await;
        assert_eq!(read(&sent.encode().unwrap()).await.unwrap(), Ok(sent));
        assert_eq!(read(&[0, 1, 9]).await.unwrap(), Err(VouchError::Operation(9)));
        assert_eq!(read(&[0xff, 0xff]).await.unwrap(), Err(VouchError::TooLong { len: 65_535 }));
        assert_eq!(read(&[0, 5, 1]).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_sends_nothing_is_given_up() {
        let mut silent = futures::stream::pending::<io::Result<Vec<u8>>>().into_async_read();
        assert_eq!(read(&mut silent).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn refusals_have_their_status_and_say_why() {
        let answer = response(&Err(Refusal::Off));
        assert_eq!(answer.status, Status::VouchingOff);
        assert!(answer.message.contains("authorizes by hand"));
        assert_eq!(response(&Err(OpenError::Full.into())).status, Status::Busy);
        assert_eq!(response(&Err(OpenError::NoTime.into())).status, Status::BadRequest);
        assert_eq!(response(&Err(VouchError::PeerId.into())).status, Status::BadRequest);
        assert_eq!(response(&Ok(())).status, Status::Ok);
    }

    #[test]
    fn the_comment_names_newcomer_and_inviter() {
        let inviter: PeerId = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx".parse().unwrap();
        assert_eq!(comment("nas", &inviter), "nas, vouched for by …NSv5bcCx");
        assert_eq!(comment("", &inviter), "vouched for by …NSv5bcCx");
    }
}
