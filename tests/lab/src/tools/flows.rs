//! TCP connections as `ss -ti` tells of them: which congestion control, how long, how much again.

use anyhow::Result;

use crate::host::Host;

/// One established connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// All that `ss` says of it, in one line.
    pub text: String,
    pub congestion: String,
    pub acked_bytes: u64,
    /// Segments sent again so far.
    pub retransmits: u64,
}

/// The established connections of a host that fit a filter of `ss` ("dst 203.0.113.1"), those that carried most first.
pub fn flows(host: &Host, filter: &str) -> Result<Vec<Flow>> {
    let mut flows = parse(&host.ask(&format!("ss -Htino state established {filter}"))?);
    flows.sort_by_key(|flow| std::cmp::Reverse(flow.acked_bytes));
    Ok(flows)
}

fn parse(text: &str) -> Vec<Flow> {
    text.lines().filter_map(flow).collect()
}

fn flow(line: &str) -> Option<Flow> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let congestion = words.iter().find(|word| ["reno", "cubic", "bbr", "dctcp"].contains(word))?;
    let number = |name: &str| words.iter().find_map(|word| word.strip_prefix(name));
    let acked_bytes = number("bytes_acked:").and_then(|number| number.parse().ok()).unwrap_or(0);
    // `retrans:0/17`: in flight now, and in all.
    let retransmits = number("retrans:").and_then(|pair| pair.split('/').nth(1)?.parse().ok()).unwrap_or(0);
    Some(Flow { text: words.join(" "), congestion: (*congestion).to_owned(), acked_bytes, retransmits })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_says_its_congestion_control_and_what_it_sent_again() {
        let text = "0 0 10.0.0.1:5000 10.0.0.2:5201 cubic wscale:7,7 rto:201 rtt:0.1/0.05 cwnd:10 bytes_acked:900 retrans:0/17 \n\
                    0 0 10.0.0.1:5001 10.0.0.2:5201 bbr wscale:7,7 cwnd:10\nno connection\n";
        let flows = parse(text);
        assert_eq!(flows.len(), 2);
        let seen = |flow: &Flow| (flow.congestion.clone(), flow.acked_bytes, flow.retransmits);
        assert_eq!(seen(&flows[0]), ("cubic".into(), 900, 17));
        assert_eq!(seen(&flows[1]), ("bbr".into(), 0, 0));
        assert!(flows[0].text.starts_with("0 0 10.0.0.1:5000"));
    }
}
