//! The real tools that every laboratory test ends in: ssh, iperf3, nginx, dnsmasq, tcpdump, ip.

pub mod capture;
pub mod dns;
pub mod flows;
pub mod iperf;
pub mod links;
pub mod nginx;
pub mod ping;
pub mod ssh;
pub mod transfer;
pub mod usage;
