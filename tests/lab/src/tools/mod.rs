//! The real tools that every laboratory test ends in: ssh, iperf3, tcpdump, ip.

pub mod capture;
pub mod flows;
pub mod iperf;
pub mod links;
pub mod ping;
pub mod ssh;
pub mod usage;
