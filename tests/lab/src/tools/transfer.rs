//! A TCP connection under observation while paths change below it: what arrived, and what the kernels know of its order.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::host::Host;
use crate::process::{Process, Show};
use crate::tools::links::snmp;

const PORT: u16 = 9000;
const BULK_PORT: u16 = 9001;

/// A TCP connection that is fed 4 KiB every few milliseconds, which no queue of a busy machine has to drop, and compared
/// by checksum at the end.
pub struct Transfer {
    ends: [Host; 2],
    sender: Process,
    receiver: Process,
}

impl Transfer {
    /// From `from` to `address`, which is `to`'s, for about as many seconds.
    pub fn start(from: &Host, to: &Host, address: &str, seconds: u32) -> Result<Self> {
        let receiver = listen(to, PORT, "> ~/received", Duration::from_secs(180))?;
        let feed = format!(
            "for i in $(seq {}); do head -c 4096 /dev/urandom; sleep 0.005; done | tee ~/sent | nc -N {address} {PORT}",
            seconds * 100
        );
        let sender = from.cmd("sh").args(["-c", &feed]).deadline(Duration::from_secs(180));
        let sender = sender.show(Show::Nothing).spawn()?;
        Ok(Self { ends: [from.clone(), to.clone()], sender, receiver })
    }

    pub fn is_running(&self) -> bool {
        self.sender.is_running()
    }

    pub fn disorder(&self) -> Result<Disorder> {
        Disorder::of(&self.ends)
    }

    /// Waits for the end and compares.
    pub fn arrives_whole(mut self) -> Result<()> {
        self.sender.wait(Duration::from_secs(120))?;
        self.receiver.wait(Duration::from_secs(10))?;
        let [from, to] = &self.ends;
        let (sent, received) = (from.ask("sha256sum < ~/sent")?, to.ask("sha256sum < ~/received")?);
        ensure!(sent == received, "what arrived differs from what was sent");
        Ok(())
    }
}

/// A TCP connection that carries random bytes as fast as it can, compared by SHA-256 at the end.
pub struct Bulk {
    ends: [Host; 2],
    sender: Process,
    receiver: Process,
}

impl Bulk {
    /// From `from` to `address`, which is `to`'s: at least so many megabytes, and more until [`Self::enough`].
    pub fn start(from: &Host, to: &Host, address: &str, megabytes: u64) -> Result<Self> {
        let deadline = Duration::from_secs(1800);
        let receiver = listen(to, BULK_PORT, "| sha256sum > ~/received.sum", deadline)?;
        from.ask("rm -f ~/enough ~/copy; echo 0 > ~/sent.megabytes; mkfifo ~/copy")?;
        let feed = format!(
            "sha256sum < ~/copy > ~/sent.sum & \
             i=0; while [ $i -lt {megabytes} ] || [ ! -e ~/enough ]; do \
             head -c 16000000 /dev/urandom; i=$((i + 16)); echo $i > ~/sent.megabytes; done \
             | tee ~/copy | nc -N {address} {BULK_PORT}; wait"
        );
        let sender = from.cmd("sh").args(["-c", &feed]).deadline(deadline).show(Show::Nothing).spawn()?;
        Ok(Self { ends: [from.clone(), to.clone()], sender, receiver })
    }

    /// The bytes asked for in the beginning are enough.
    pub fn enough(&self) -> Result<()> {
        self.ends[0].ask("touch ~/enough").map(drop)
    }

    /// What the sender has been fed with.
    pub fn megabytes(&self) -> Result<u64> {
        let fed = self.ends[0].ask("cat ~/sent.megabytes")?;
        Ok(fed.trim().parse()?)
    }

    pub fn is_running(&self) -> bool {
        self.sender.is_running()
    }

    /// Waits for the end and compares; says how many megabytes it were.
    pub fn arrives_whole(mut self, deadline: Duration) -> Result<u64> {
        self.sender.wait(deadline)?;
        self.receiver.wait(Duration::from_secs(30))?;
        let [from, to] = &self.ends;
        let (sent, received) = (from.ask("cat ~/sent.sum")?, to.ask("cat ~/received.sum")?);
        ensure!(sent.len() > 64 && sent == received, "sent {sent:?}, received {received:?}");
        self.megabytes()
    }
}

/// Takes one connection, whose bytes go where the shell's words in `sink` say. Listens when it returns.
fn listen(on: &Host, port: u16, sink: &str, deadline: Duration) -> Result<Process> {
    let receiver = on.cmd("sh").args(["-c", &format!("nc -l {port} {sink}")]);
    let receiver = receiver.deadline(deadline).show(Show::Nothing).spawn()?;
    let listening = || on.ask(&format!("ss -Htln sport = {port}")).is_ok_and(|line| !line.is_empty());
    on.wait_until("nc listens", Duration::from_secs(5), listening)?;
    Ok(receiver)
}

/// What the kernels at both ends know of segments that were sent again, came twice or out of order: of the transfer's
/// connection, and of all. (The underlay's connections count among all, but on its wires nothing overtakes.)
#[derive(Debug)]
pub struct Disorder(Vec<(&'static str, u64)>);

impl Disorder {
    const OF_THE_CONNECTION: [&str; 4] = ["bytes_retrans:", "reord_seen:", "dsack_dups:", "rcv_ooopack:"];
    const OF_ALL: [&str; 4] = ["TCPSACKReorder", "TCPTSReorder", "TCPOFOQueue", "TCPDSACKOfoSent"];

    fn of(hosts: &[Host]) -> Result<Self> {
        let mut counts = Vec::new();
        for host in hosts {
            let known = host.ask(&format!("ss -Htino '( sport = {PORT} or dport = {PORT} )'"))?;
            ensure!(known.contains("ESTAB"), "the connection is gone");
            for name in Self::OF_THE_CONNECTION {
                let value = known.split_whitespace().find_map(|word| word.strip_prefix(name));
                counts.push((name, value.map(first_number).unwrap_or(0)));
            }
            for name in Self::OF_ALL {
                counts.push((name, snmp(host, "TcpExt", name)?));
            }
        }
        Ok(Self(counts))
    }

    /// Segments of the connection that overtook others, for the difference between two looks. On a path of less than a
    /// millisecond the kernel of a busy machine sends segments again that were not lost, so repetitions say nothing there.
    pub fn out_of_order(&self) -> u64 {
        let overtaken = ["reord_seen:", "rcv_ooopack:"];
        self.0.iter().filter(|(name, _)| overtaken.contains(name)).map(|(_, count)| count).sum()
    }

    /// What rose since `before`. A repetition that the receiver reports as a duplicate (RFC 2883) tells of nothing lost: on a
    /// busy machine an acknowledgement comes later than the sender's patience.
    pub fn risen_since(&self, before: &Self) -> Vec<&'static str> {
        let pairs = self.0.iter().zip(&before.0);
        let risen = pairs.filter(|((_, now), (_, then))| now > then).map(|((name, _), _)| *name);
        let risen: Vec<&str> = risen.collect();
        let needless = risen.contains(&"dsack_dups:");
        let of_repetitions = ["bytes_retrans:", "dsack_dups:"];
        risen.into_iter().filter(|name| !needless || !of_repetitions.contains(name)).collect()
    }
}

/// `bytes_retrans:1448` and `reord_seen:2` are numbers, some kernels add a second one after a slash.
fn first_number(text: &str) -> u64 {
    text.split('/').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
