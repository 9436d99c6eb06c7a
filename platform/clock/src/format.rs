//! Dates as people and JSON read them (RFC 3339, UTC, whole seconds).

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// `2026-01-31T09:05:00Z`. Years after 9999 have no RFC 3339 form and come out as the last moment that has.
pub fn rfc3339(unix_seconds: u64) -> String {
    const END_OF_9999: i64 = 253_402_300_799;
    let seconds = i64::try_from(unix_seconds).unwrap_or(END_OF_9999).min(END_OF_9999);
    OffsetDateTime::from_unix_timestamp(seconds)
        .expect("1970 to 9999 is representable")
        .format(&Rfc3339)
        .expect("a UTC date before the year 10000 has an RFC 3339 form")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_have_their_known_form() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_767_225_599), "2025-12-31T23:59:59Z");
    }

    #[test]
    fn dates_beyond_the_format_saturate() {
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59Z");
        assert_eq!(rfc3339(253_402_300_799), "9999-12-31T23:59:59Z");
    }
}
