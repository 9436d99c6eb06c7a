//! The links everything is measured on.

use clap::ValueEnum;
use peerup_lab::Impairment;
use serde::{Deserialize, Serialize};

use crate::measure::Figure;

/// A kind of link between the two hosts. Numbers are per direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// A veth pair with all its offloads
    Cable,
    /// A veth pair without GSO, TSO, GRO and USO: each packet is its own buffer
    NoOffload,
    /// 10 ms, nothing else
    Rtt20,
    /// 5 ms, 100 Mbit/s, 50 ms queue
    #[value(name = "clean-100")]
    #[serde(rename = "clean-100")]
    Clean100,
    /// 4 ± 4 ms overtaking, 0.5 % loss, 1 Gbit/s
    Low,
    /// 8 ± 14 ms overtaking, 2 % loss, 1 Gbit/s
    Medium,
    /// 25 ± 5 ms in order, 0.3 % loss, 50 Mbit/s, 100 ms queue
    Lte,
    /// 20 ms, 1 % loss, 200 Mbit/s
    LossyWan,
    /// 300 ms, 0.5 % loss, 50 Mbit/s, 200 ms queue
    Sat,
    /// 10 ms, 20 Mbit/s, 500 ms queue
    Bufferbloat,
}

impl Profile {
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What it does to packets, in words.
    pub fn text(self) -> String {
        let help = self.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
        help.unwrap_or_default()
    }

    /// Whether the link is a wire of the laboratory, and not a veth pair.
    pub fn impairment(self) -> Option<Impairment> {
        let wire = |delay_ms: f64, rate_mbit: f64, queue_ms: f64, loss: f64| Impairment {
            delay_ms,
            rate_mbit,
            loss,
            queue_bytes: (rate_mbit * 1e6 / 8.0 * queue_ms / 1e3) as usize,
            ..Impairment::default()
        };
        match self {
            Self::Cable | Self::NoOffload => None,
            Self::Rtt20 => Some(Impairment { super_packets: true, ..wire(10.0, 0.0, 0.0, 0.0) }),
            Self::Clean100 => Some(wire(5.0, 100.0, 50.0, 0.0)),
            Self::Low => {
                Some(Impairment { jitter_ms: 8.0, overtaking: true, ..wire(0.0, 1000.0, 50.0, 0.005) })
            }
            Self::Medium => {
                Some(Impairment { jitter_ms: 28.0, overtaking: true, ..wire(-6.0, 1000.0, 50.0, 0.02) })
            }
            Self::Lte => Some(Impairment { jitter_ms: 10.0, ..wire(20.0, 50.0, 100.0, 0.003) }),
            Self::LossyWan => Some(wire(20.0, 200.0, 50.0, 0.01)),
            Self::Sat => Some(wire(300.0, 50.0, 200.0, 0.005)),
            Self::Bufferbloat => Some(wire(10.0, 20.0, 500.0, 0.0)),
        }
    }

    /// Whether links keep their segmentation offloads.
    pub fn offloads(self) -> bool {
        self != Self::NoOffload
    }

    /// What is worth measuring here.
    pub fn figures(self) -> &'static [Figure] {
        use Figure::{Reverse, Rtt, Start, Tcp1, Tcp4, Udp};
        match self {
            Self::Cable => &[Tcp1, Tcp4, Reverse, Rtt, Udp, Start],
            Self::NoOffload => &[Tcp1],
            _ => &[Tcp1, Tcp4],
        }
    }

    /// How long a TCP run takes that is to tell more than how a flow begins, in seconds.
    pub fn least_seconds(self) -> u32 {
        match self {
            Self::Cable | Self::NoOffload => 1,
            Self::Sat => 15,
            _ => 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_as_long_as_its_rate_empties_in_its_time() {
        let bufferbloat = Profile::Bufferbloat.impairment().unwrap();
        assert_eq!(bufferbloat.queue_bytes, 1_250_000);
        assert_eq!(Profile::Clean100.impairment().unwrap().queue_bytes, 625_000);
        assert_eq!(Profile::Cable.impairment(), None);
    }

    #[test]
    fn only_a_wire_without_faults_per_packet_carries_super_packets() {
        for profile in Profile::value_variants() {
            let Some(wire) = profile.impairment() else { continue };
            let per_packet = wire.loss > 0.0 || wire.rate_mbit > 0.0 || wire.overtaking;
            assert!(!(wire.super_packets && per_packet), "{}", profile.name());
        }
    }

    #[test]
    fn names_in_files_are_those_of_the_command_line() {
        for profile in Profile::value_variants() {
            assert_eq!(serde_json::to_value(profile).unwrap(), profile.name());
            assert!(!profile.text().is_empty());
        }
    }
}
