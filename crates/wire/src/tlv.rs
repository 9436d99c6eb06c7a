//! Type-length-value lists: `type u16 ‖ len u16 ‖ value`, repeated to the end of the message.

use crate::codec::{Cursor, Truncated};

/// The fields of a message, in the order they were sent.
pub(crate) struct Fields<'a>(Cursor<'a>);

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self(Cursor::new(message))
    }

    fn read(&mut self) -> Result<(u16, &'a [u8]), Truncated> {
        let kind = self.0.u16()?;
        let len = self.0.u16()?;
        Ok((kind, self.0.take(usize::from(len))?))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u16, &'a [u8]), Truncated>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| self.read())
    }
}

/// Appends one field. Values are short by construction: the longest is a claim, under 200 bytes.
pub(crate) fn put(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(value.len()).expect("field values are far below 64 KiB");
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_in_order() {
        let mut message = Vec::new();
        put(&mut message, 7, b"seven");
        put(&mut message, 1, b"");
        let fields: Vec<_> = Fields::new(&message).collect();
        assert_eq!(fields, [Ok((7, &b"seven"[..])), Ok((1, &b""[..]))]);
    }

    #[test]
    fn a_field_that_claims_more_than_there_is_is_refused() {
        let mut fields = Fields::new(&[0, 7, 0xff, 0xff, 1]);
        assert_eq!(fields.next(), Some(Err(Truncated)));
    }
}
