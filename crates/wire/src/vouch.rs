//! Vouching: an authorised node speaks for a newcomer at its relay, over `/peerup/vouch/1.0.0`.
//!
//! One request, one response, then the stream is done. While an invite is open the node asks the relay to
//! admit one stranger to it ([`Request::OpenAdmission`]); once pairing has succeeded it names the newcomer
//! ([`Request::Authorize`]). Who asks is known from the connection, so no request says it.
//!
//! Request `length u16 ‖ op u8 ‖ …`, response `status u8 ‖ message length u8 ‖ message`. Names and messages end
//! up in files and on terminals: control characters are refused.

use peerup_types::PeerId;

use crate::claim::emit_peer;
use crate::codec::{Cursor, Truncated};

/// Bytes of the length that precedes a request.
pub const LENGTH_PREFIX: usize = 2;

/// The longest request behind its length prefix.
pub const MAX_REQUEST: usize = 256;

/// Bytes of a response before its message: the status and the length of the message.
pub const RESPONSE_HEADER: usize = 2;

/// The longest name a newcomer can be given, in bytes of UTF-8.
pub const MAX_NAME: usize = 64;

const OPEN_ADMISSION: u8 = 1;
const AUTHORIZE: u8 = 2;
const CLOSE_ADMISSION: u8 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Admit one unknown peer, for circuits to the requester only, for this long.
    OpenAdmission { ttl_s: u32 },
    /// The peer has paired with the requester: let it use the relay like any authorised one.
    Authorize { peer: PeerId, name: String },
    /// The invite is over.
    CloseAdmission,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: Status,
    /// For people; may be empty.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ok,
    /// The requester is not authorised at this relay, or may not vouch.
    Refused,
    VouchingOff,
    BadRequest,
    Busy,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VouchError {
    #[error("a request of {len} bytes exceeds the limit of {MAX_REQUEST}")]
    TooLong { len: usize },
    #[error("the message ends early")]
    Truncated(#[from] Truncated),
    #[error("operation {0} is unknown")]
    Operation(u8),
    #[error("the newcomer is not named by a peer ID")]
    PeerId,
    #[error("a name or message is not printable UTF-8")]
    Text,
    #[error("a name of {len} bytes exceeds the limit of {MAX_NAME}")]
    NameTooLong { len: usize },
    #[error("{0} bytes follow the message")]
    Trailing(usize),
    #[error("status {0} is unknown")]
    Status(u8),
}

/// How many bytes follow the length prefix, if a request may be that long.
pub fn decode_length(prefix: [u8; LENGTH_PREFIX]) -> Result<usize, VouchError> {
    let len = usize::from(u16::from_be_bytes(prefix));
    if len > MAX_REQUEST {
        return Err(VouchError::TooLong { len });
    }
    Ok(len)
}

impl Request {
    /// The request with its length prefix; an unfit name is an error.
    pub fn encode(&self) -> Result<Vec<u8>, VouchError> {
        let mut out = vec![0; LENGTH_PREFIX];
        match self {
            Self::OpenAdmission { ttl_s } => {
                out.push(OPEN_ADMISSION);
                out.extend_from_slice(&ttl_s.to_be_bytes());
            }
            Self::Authorize { peer, name } => {
                out.push(AUTHORIZE);
                emit_peer(peer, &mut out);
                emit_name(name, &mut out)?;
            }
            Self::CloseAdmission => out.push(CLOSE_ADMISSION),
        }
        let len = (out.len() - LENGTH_PREFIX) as u16;
        out[..LENGTH_PREFIX].copy_from_slice(&len.to_be_bytes());
        Ok(out)
    }

    /// Parses what stands behind the length prefix.
    pub fn parse(request: &[u8]) -> Result<Self, VouchError> {
        let mut cursor = Cursor::new(request);
        let parsed = match cursor.u8()? {
            OPEN_ADMISSION => Self::OpenAdmission { ttl_s: cursor.u32()? },
            AUTHORIZE => read_authorize(&mut cursor)?,
            CLOSE_ADMISSION => Self::CloseAdmission,
            unknown => return Err(VouchError::Operation(unknown)),
        };
        finished(&cursor).map(|()| parsed)
    }
}

fn emit_name(name: &str, out: &mut Vec<u8>) -> Result<(), VouchError> {
    check_name_length(name.len())?;
    check_printable(name)?;
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
    Ok(())
}

fn read_authorize(cursor: &mut Cursor<'_>) -> Result<Request, VouchError> {
    let peer = PeerId::from_bytes(cursor.short()?).map_err(|_| VouchError::PeerId)?;
    let name = cursor.short()?;
    check_name_length(name.len())?;
    Ok(Request::Authorize { peer, name: text(name)?.to_owned() })
}

fn check_name_length(len: usize) -> Result<(), VouchError> {
    if len > MAX_NAME {
        return Err(VouchError::NameTooLong { len });
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<&str, VouchError> {
    let text = std::str::from_utf8(bytes).map_err(|_| VouchError::Text)?;
    check_printable(text)?;
    Ok(text)
}

fn check_printable(text: &str) -> Result<(), VouchError> {
    if text.chars().any(char::is_control) {
        return Err(VouchError::Text);
    }
    Ok(())
}

fn finished(cursor: &Cursor<'_>) -> Result<(), VouchError> {
    match cursor.len() {
        0 => Ok(()),
        extra => Err(VouchError::Trailing(extra)),
    }
}

impl Response {
    /// The whole response. The message loses its control characters and what exceeds 255 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let message = printable(&self.message);
        let mut out = vec![self.status.code(), message.len() as u8];
        out.extend_from_slice(message.as_bytes());
        out
    }

    /// How many bytes follow the header.
    pub fn message_length([_, len]: [u8; RESPONSE_HEADER]) -> usize {
        usize::from(len)
    }

    /// Parses header and message.
    pub fn parse(response: &[u8]) -> Result<Self, VouchError> {
        let mut cursor = Cursor::new(response);
        let status = Status::from_code(cursor.u8()?)?;
        let message = text(cursor.short()?)?.to_owned();
        finished(&cursor).map(|()| Self { status, message })
    }
}

/// As much of a message as can be sent.
fn printable(message: &str) -> String {
    let mut kept = String::new();
    for c in message.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > usize::from(u8::MAX) {
            break;
        }
        kept.push(c);
    }
    kept
}

impl Status {
    fn from_code(code: u8) -> Result<Self, VouchError> {
        match code {
            0 => Ok(Self::Ok),
            1 => Ok(Self::Refused),
            2 => Ok(Self::VouchingOff),
            3 => Ok(Self::BadRequest),
            4 => Ok(Self::Busy),
            unknown => Err(VouchError::Status(unknown)),
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Refused => 1,
            Self::VouchingOff => 2,
            Self::BadRequest => 3,
            Self::Busy => 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::tests::any_peer;
    use proptest::{collection::vec, prelude::*};

    fn any_request() -> impl Strategy<Value = Request> {
        prop_oneof![
            any::<u32>().prop_map(|ttl_s| Request::OpenAdmission { ttl_s }),
            (any_peer(), "[ -~ä€]{0,21}").prop_map(|(peer, name)| Request::Authorize { peer, name }),
            Just(Request::CloseAdmission),
        ]
    }

    fn body(request: &[u8]) -> &[u8] {
        let (prefix, body) = request.split_first_chunk().unwrap();
        assert_eq!(decode_length(*prefix), Ok(body.len()));
        body
    }

    proptest! {
        #[test]
        fn a_request_survives_the_wire(request in any_request()) {
            prop_assert_eq!(Request::parse(body(&request.encode().unwrap())), Ok(request));
        }

        #[test]
        fn a_request_cut_short_or_lengthened_is_refused(
            request in any_request(), at in any::<prop::sample::Index>(),
        ) {
            let encoded = request.encode().unwrap();
            let mut body = body(&encoded).to_vec();
            prop_assert!(Request::parse(&body[..at.index(body.len())]).is_err());
            body.push(0);
            prop_assert_eq!(Request::parse(&body), Err(VouchError::Trailing(1)));
        }

        #[test]
        fn a_printable_response_survives_the_wire(code in 0..5u8, message in "[ -~ä€]{0,80}") {
            let response = Response { status: Status::from_code(code).unwrap(), message };
            let encoded = response.encode();
            let header = *encoded.first_chunk().unwrap();
            prop_assert_eq!(encoded.len(), RESPONSE_HEADER + Response::message_length(header));
            prop_assert_eq!(Response::parse(&encoded), Ok(response));
        }

        #[test]
        fn any_message_makes_a_response_that_parses(message in any::<String>()) {
            let encoded = Response { status: Status::Refused, message }.encode();
            prop_assert_eq!(Response::parse(&encoded).unwrap().status, Status::Refused);
        }

        #[test]
        fn arbitrary_bytes_never_panic(op in 0..5u8, rest in vec(any::<u8>(), 0..150)) {
            let bytes = [&[op][..], &rest].concat();
            let _ = Request::parse(&bytes);
            let _ = Response::parse(&bytes);
        }
    }

    #[test]
    fn a_name_that_could_write_a_second_line_is_refused_in_both_directions() {
        let peer = PeerId::random();
        let name = |name: &str| Request::Authorize { peer, name: name.to_owned() };
        assert_eq!(name("a\n12D3KooW").encode(), Err(VouchError::Text));
        assert_eq!(name(&"x".repeat(65)).encode(), Err(VouchError::NameTooLong { len: 65 }));
        let mut request = name("a-b").encode().unwrap();
        let at = request.len() - 2;
        request[at] = b'\n';
        assert_eq!(Request::parse(body(&request)), Err(VouchError::Text));
    }

    #[test]
    fn an_over_long_request_is_refused_before_it_is_read() {
        assert_eq!(decode_length([1, 0]), Ok(256));
        assert_eq!(decode_length([0xff, 0xff]), Err(VouchError::TooLong { len: 65_535 }));
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let response = Response { status: Status::Busy, message: "€".repeat(100) };
        assert_eq!(Response::parse(&response.encode()).unwrap().message, "€".repeat(85));
    }

    #[test]
    fn unknown_operations_and_statuses_are_errors() {
        assert_eq!(Request::parse(&[9]), Err(VouchError::Operation(9)));
        assert_eq!(Response::parse(&[9, 0]), Err(VouchError::Status(9)));
    }
}
