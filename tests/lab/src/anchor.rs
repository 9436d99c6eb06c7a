//! The namespaces a laboratory lives in, and how other programs get into them.
//!
//! `unshare` makes a user, mount, network and pid namespace. Its pid 1 does nothing but read a pipe whose other
//! end is this process: when this process ends, however it ends, pid 1 reads end-of-file and leaves, and the
//! kernel kills all that is left in the pid namespace. Links, rules, mounts and files live only in namespaces
//! and on a private tmpfs, so nothing needs to be undone. Each host's own namespaces are held the same way.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{Uid, getgid, getuid};

use crate::process::{Cmd, Show};

/// Where the private tmpfs is mounted, and below it the laboratory's files.
pub(crate) const STATE_DIR: &str = "/run/lab";

/// The account an unprivileged laboratory logs in to: there sshd cannot be root, which would change users.
pub(crate) const SSH_USER: &str = "lab";
pub(crate) const SSH_UID: u32 = 54321;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const PLUMBING_DEADLINE: Duration = Duration::from_secs(20);

/// A process that keeps namespaces alive for as long as it reads its pipe.
pub(crate) struct Holder {
    child: Child,
}

impl Holder {
    fn start(mut command: Command) -> Result<Self> {
        command.env_clear().env("PATH", PATH).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child =
            command.spawn().with_context(|| format!("starting {:?} (util-linux)", command.get_program()))?;
        let mut said = std::io::BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        std::io::BufRead::read_line(&mut said, &mut line)?;
        let holder = Self { child };
        ensure!(line == "ready\n", "{:?} could not make its namespaces (see above)", command.get_program());
        Ok(holder)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The laboratory's own user, mount, network and pid namespace.
pub(crate) struct Anchor {
    holder: Holder,
}

impl Anchor {
    pub(crate) fn start() -> Result<Self> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--mount", "--net", "--pid", "--fork", "--kill-child"]);
        if !is_root() {
            unshare.arg("--map-root-user");
        }
        // pid 1 ignores SIGCHLD, so daemons that outlive their parents leave no zombies.
        unshare.args(["sh", "-c", "echo ready; exec env --ignore-signal=CHLD cat"]);
        let holder = Holder::start(unshare).context(user_namespace_hint())?;
        let anchor = Self { holder };
        if is_root() {
            anchor.map_ids()?;
        }
        anchor.plumb_in_pid_namespace(&format!(
            "mount -n -t proc proc /proc || true
             mount -n -t tmpfs -o mode=755 run /run
             mkdir -p {STATE_DIR}"
        ))?;
        anchor.plumb("ip link set lo up")?;
        Ok(anchor)
    }

    /// Maps as many ids as a real root has to give: sshd and tcpdump change user.
    fn map_ids(&self) -> Result<()> {
        for kind in ["uid_map", "gid_map"] {
            let own = std::fs::read_to_string(format!("/proc/self/{kind}"))?;
            let count = mapped_from_zero(&own).with_context(|| format!("{kind} of this process: {own:?}"))?;
            let path = format!("/proc/{}/{kind}", self.holder.pid());
            std::fs::write(&path, format!("0 0 {count}\n")).with_context(|| format!("writing {path}"))?;
        }
        Ok(())
    }

    /// Runs a script in the laboratory's root network namespace, seeing process ids as this process does.
    pub(crate) fn plumb(&self, script: &str) -> Result<String> {
        plumb(self.words(&["--net"]), script)
    }

    fn plumb_in_pid_namespace(&self, script: &str) -> Result<String> {
        let pid = self.pid_namespace();
        plumb(self.words(&["--net", &pid]), script)
    }

    fn words(&self, more: &[&str]) -> Vec<String> {
        let mut words = nsenter(self.holder.pid(), &["--user", "--mount"]);
        words.extend(more.iter().map(|&word| word.to_owned()));
        words.push("--".into());
        words
    }

    fn pid_namespace(&self) -> String {
        format!("--pid=/proc/{}/ns/pid_for_children", self.holder.pid())
    }

    /// Words that run a program with the laboratory's rights but this process's view of files and process ids.
    pub(crate) fn outside_words(&self) -> Vec<String> {
        let mut words = nsenter(self.holder.pid(), &["--user"]);
        words.extend(["--", "setpriv", "--pdeathsig", "KILL", "--"].map(str::to_owned));
        words
    }

    pub(crate) fn net_namespace(&self) -> PathBuf {
        net_namespace(&self.holder)
    }

    /// Makes a host: a mount, network and UTS namespace inside this laboratory.
    pub(crate) fn host(&self, name: &str) -> Result<HostNamespaces> {
        let mut command = Command::new("nsenter");
        command.args(&self.words(&["--net"])[1..]);
        command.args(["unshare", "--mount", "--net", "--uts", "sh", "-ec", &host_script(name)]);
        Ok(HostNamespaces { holder: Holder::start(command)?, pid_namespace: self.pid_namespace() })
    }
}

/// One host's mount, network and UTS namespaces.
pub(crate) struct HostNamespaces {
    holder: Holder,
    pid_namespace: String,
}

impl HostNamespaces {
    pub(crate) fn pid(&self) -> u32 {
        self.holder.pid()
    }

    pub(crate) fn net_namespace(&self) -> PathBuf {
        net_namespace(&self.holder)
    }

    /// The host's root directory as this process sees it.
    pub(crate) fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.holder.pid()))
    }

    /// Words that run a program on this host, inside the laboratory's pid namespace, tied to its entry process.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = nsenter(self.holder.pid(), &["--user", "--mount", "--net", "--uts"]);
        words.push(self.pid_namespace.clone());
        words.extend(["--", "setpriv", "--pdeathsig", "KILL", "--"].map(str::to_owned));
        words
    }

    pub(crate) fn plumb(&self, script: &str) -> Result<String> {
        let mut words = nsenter(self.holder.pid(), &["--user", "--mount", "--net", "--uts"]);
        words.push("--".into());
        plumb(words, script)
    }
}

/// Gives the host a name, a home, an own `/run`, an own `/sys`, and files in `/etc` it may change.
fn host_script(name: &str) -> String {
    format!(
        "dir={STATE_DIR}/{name}
         mkdir -p $dir/home $dir/run
         printf '127.0.0.1 localhost {name}\\n::1 localhost\\n' > $dir/hosts
         : > $dir/resolv.conf
         {{ echo root:x:0:0:root:$dir/home:/bin/sh; echo {SSH_USER}:x:{SSH_UID}:{SSH_UID}::$dir/home:/bin/sh
            grep -v ^root: /etc/passwd; }} > $dir/passwd
         mount -n --bind $dir/passwd /etc/passwd
         mount -n --bind $dir/hosts /etc/hosts
         if test -e /etc/resolv.conf; then mount -n --bind $dir/resolv.conf $(readlink -f /etc/resolv.conf); fi
         mount -n -t sysfs sysfs /sys 2>/dev/null || true
         mount -n -t tmpfs -o mode=755 run $dir/run
         mkdir -p $dir/run/lab $dir/run/sshd
         mount -n --bind {STATE_DIR} $dir/run/lab
         mount -n --move $dir/run /run
         hostname {name}
         for key in all default; do
           echo 0 > /proc/sys/net/ipv6/conf/$key/accept_ra
           echo 0 > /proc/sys/net/ipv6/conf/$key/accept_dad
         done
         echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start
         ip link set lo up
         echo cubic 2>/dev/null > /proc/sys/net/ipv4/tcp_congestion_control || true
         echo ready
         exec cat"
    )
}

fn nsenter(target: u32, namespaces: &[&str]) -> Vec<String> {
    let mut words = vec!["nsenter".to_owned(), "--preserve-credentials".into()];
    words.push(format!("--target={target}"));
    words.extend(namespaces.iter().map(|&word| word.to_owned()));
    words
}

fn net_namespace(holder: &Holder) -> PathBuf {
    PathBuf::from(format!("/proc/{}/ns/net", holder.pid()))
}

fn plumb(enter: Vec<String>, script: &str) -> Result<String> {
    let command = Cmd::new("lab", enter, "sh").args(["-ec", script]).env("PATH", PATH);
    Ok(command.deadline(PLUMBING_DEADLINE).show(Show::Nothing).run()?.stdout)
}

/// How many ids, counted from 0, are mapped; `None` when 0 is not.
fn mapped_from_zero(map: &str) -> Option<u32> {
    let first = map.lines().find(|line| line.split_whitespace().next() == Some("0"))?;
    let count: u32 = first.split_whitespace().nth(2)?.parse().ok()?;
    Some(count.min(65536))
}

pub(crate) fn is_root() -> bool {
    getuid() == Uid::from_raw(0)
}

fn user_namespace_hint() -> String {
    format!(
        "making a user namespace as uid {} gid {}; some systems forbid it to users \
         (kernel.apparmor_restrict_unprivileged_userns, user.max_user_namespaces): run as root there",
        getuid(),
        getgid()
    )
}

/// Says why a TUN device cannot be opened by this user, or nothing when it can.
pub fn require_tun() -> Result<()> {
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        bail!(
            "cannot open /dev/net/tun ({error}): run as root (`sudo ./scripts/demo.sh`), or open the device to \
             this user (`sudo chmod 666 /dev/net/tun`)"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_map_of_a_real_root_gives_65536_ids() {
        assert_eq!(mapped_from_zero("         0          0 4294967295\n"), Some(65536));
    }

    #[test]
    fn a_container_gives_only_what_it_has() {
        assert_eq!(mapped_from_zero("0 100000 1000\n5000 1 1\n"), Some(1000));
        assert_eq!(mapped_from_zero("1000 1000 1\n"), None);
    }
}
