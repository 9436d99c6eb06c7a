//! Ranges of TCP ports: `22`, `8000-8099`.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use crate::error::{Excerpt, Problem};

/// One port or several in a row, the last included. Port 0 is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRange(RangeInclusive<u16>);

impl PortRange {
    pub fn contains(&self, port: u16) -> bool {
        self.0.contains(&port)
    }
}

impl FromStr for PortRange {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = || Problem::PortRange { found: Excerpt::new(text) };
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(wrong);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (port(first)?, port(last)?);
        if first > last { Err(wrong()) } else { Ok(Self(first..=last)) }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.0.start(), self.0.end());
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges_read_back_as_they_were_written() {
        for text in ["22", "1-65535", "8000-8099"] {
            assert_eq!(text.parse::<PortRange>().unwrap().to_string(), text);
        }
        let range: PortRange = "8000-8002".parse().unwrap();
        assert_eq!([7999, 8000, 8002, 8003].map(|port| range.contains(port)), [false, true, true, false]);
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in ["", "0", "65536", "22-", "-22", "30-20", "ssh", "1-2-3", " 22"] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
    }
}
