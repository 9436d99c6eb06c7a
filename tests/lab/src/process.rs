//! Programs under observation: started with a deadline, watched by events, never left behind.
//!
//! Two threads read the pipes and one waits for the end; everything they see lands in one state behind a
//! condition variable, so "wait for this line" and "wait for the exit" are events, not polling.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::clock;

/// Bytes kept per pipe of one program; what comes after is read and forgotten.
const CAPTURE_LIMIT: usize = 64 << 20;

/// How long a finished program's pipes may stay open (a background child may hold them).
const PIPE_GRACE: Duration = Duration::from_millis(300);

const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

/// What reaches the terminal while a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    Nothing,
    Command,
    CommandAndOutput,
}

/// A program about to be started: `host.cmd("ping").args(["-c", "1", "10.64.0.2"]).run()`.
pub struct Cmd {
    prompt: String,
    enter: Vec<String>,
    words: Vec<String>,
    env: BTreeMap<String, String>,
    stdin: Vec<u8>,
    deadline: Duration,
    show: Show,
}

impl Cmd {
    /// `enter` are the words that come before the program (how to get into its namespaces).
    pub(crate) fn new(prompt: &str, enter: Vec<String>, program: &str) -> Self {
        Self {
            prompt: prompt.to_owned(),
            enter,
            words: vec![program.to_owned()],
            env: BTreeMap::new(),
            stdin: Vec::new(),
            deadline: DEFAULT_DEADLINE,
            show: Show::Command,
        }
    }

    pub fn arg(mut self, word: impl Into<String>) -> Self {
        self.words.push(word.into());
        self
    }

    pub fn args<W: Into<String>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.words.extend(words.into_iter().map(Into::into));
        self
    }

    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    pub fn show(mut self, show: Show) -> Self {
        self.show = show;
        self
    }

    /// Runs to the end and insists on exit code 0.
    pub fn run(self) -> Result<Output> {
        let output = self.try_run()?;
        if output.code != Some(0) {
            bail!("{output}");
        }
        Ok(output)
    }

    /// Runs to the end, whatever the exit code; only a missed deadline is an error.
    pub fn try_run(self) -> Result<Output> {
        let (deadline, line) = (self.deadline, self.line());
        let mut process = self.spawn()?;
        process.close_stdin();
        process.wait(deadline).with_context(|| format!("running `{line}`"))
    }

    /// Starts the program and leaves it running until the returned handle is dropped.
    pub fn spawn(self) -> Result<Process> {
        let line = self.line();
        if self.show != Show::Nothing {
            say(&line);
        }
        let mut command = self.command();
        let mut child = command.spawn().with_context(|| format!("starting `{line}`"))?;
        let mut stdin = child.stdin.take().expect("stdin is piped");
        if !self.stdin.is_empty() {
            stdin.write_all(&self.stdin).with_context(|| format!("writing to `{line}`"))?;
        }
        Ok(Process::watch(line, child, stdin, self.show == Show::CommandAndOutput))
    }

    fn command(&self) -> Command {
        use std::os::unix::process::CommandExt;
        let mut words = self.enter.iter().chain(&self.words);
        let mut command = Command::new(words.next().expect("a command has a program"));
        command.args(words).env_clear().envs(&self.env);
        // An own process group: Ctrl-C in the terminal ends the laboratory, which then takes down the rest in order.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn line(&self) -> String {
        let program = self.words[0].rsplit('/').next().unwrap_or_default();
        let words = std::iter::once(program).chain(self.words[1..].iter().map(String::as_str));
        let words: Vec<_> = words.map(quote).collect();
        let env = self.env.iter().filter(|(name, _)| name.starts_with("PEERUP_INVITE"));
        let env: String = env.map(|(name, value)| format!("{name}={} ", quote(value))).collect();
        format!("{}$ {env}{}", self.prompt, words.join(" "))
    }
}

/// How a program ended and all it said.
#[derive(Clone, Debug)]
pub struct Output {
    pub line: String,
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, code, stdout, stderr, took } = self;
        write!(f, "`{line}` ended with {code:?} after {took:?}\n{}{}", tail(stdout, 40), tail(stderr, 40))
    }
}

/// A running program; dropping the handle kills it.
pub struct Process {
    line: String,
    pid: Pid,
    stdin: Option<ChildStdin>,
    started: std::time::Instant,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    out: Vec<u8>,
    err: Vec<u8>,
    open_pipes: usize,
    ended: bool,
    code: Option<i32>,
}

#[derive(Clone, Copy)]
enum Pipe {
    Out,
    Err,
}

impl Process {
    fn watch(line: String, mut child: Child, stdin: ChildStdin, tee: bool) -> Self {
        let shared = Arc::new(Shared::default());
        shared.lock().open_pipes = 2;
        let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        shared.clone().read(Pipe::Out, out, tee);
        shared.clone().read(Pipe::Err, err, tee);
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("process ids fit"));
        shared.clone().reap(child, pid);
        Self { line, pid, stdin: Some(stdin), started: clock::now(), shared }
    }

    /// The command as it was printed.
    pub fn line(&self) -> &str {
        &self.line
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub fn is_running(&self) -> bool {
        !self.shared.lock().ended
    }

    /// Waits for the first line, on stdout or stderr, that contains `needle`.
    pub fn wait_for_line(&self, needle: &str, deadline: Duration) -> Result<String> {
        let wanted = |state: &State| find_line(&state.out, needle).or_else(|| find_line(&state.err, needle));
        self.wait_until(&format!("a line with {needle:?}"), deadline, wanted)
    }

    /// Waits for the first complete line on stdout.
    pub fn wait_for_first_line(&self, deadline: Duration) -> Result<String> {
        self.wait_until("a first line", deadline, |state| find_line(&state.out, ""))
    }

    fn wait_until<T>(&self, what: &str, deadline: Duration, look: impl Fn(&State) -> Option<T>) -> Result<T> {
        let until = clock::now() + deadline;
        let mut state = self.shared.lock();
        loop {
            if let Some(found) = look(&state) {
                return Ok(found);
            }
            let left = until.saturating_duration_since(clock::now());
            let over = state.ended && state.open_pipes == 0;
            if left.is_zero() || over {
                let why = if over { "it ended" } else { "the deadline passed" };
                let said = format!("{}{}", tail(&text(&state.out), 20), tail(&text(&state.err), 20));
                bail!("waiting {deadline:?} for {what} from `{}`: {why}; it said:\n{said}", self.line);
            }
            state = self.shared.wait(state, left);
        }
    }

    /// Waits for the end; a program that misses the deadline is killed.
    pub fn wait(&mut self, deadline: Duration) -> Result<Output> {
        let ended = self.wait_until("its end", deadline, |state| state.ended.then_some(()));
        if let Err(error) = ended
            && self.is_running()
        {
            self.kill();
            return Err(error);
        }
        let took = self.started.elapsed();
        let _ = self.wait_until("its pipes", PIPE_GRACE, |state| (state.open_pipes == 0).then_some(()));
        let state = self.shared.lock();
        let (stdout, stderr) = (text(&state.out), text(&state.err));
        Ok(Output { line: self.line.clone(), code: state.code, stdout, stderr, took })
    }

    /// All of stdout so far, as bytes (a capture is not text).
    pub fn stdout_bytes(&self) -> Vec<u8> {
        self.shared.lock().out.clone()
    }

    pub fn output(&self) -> String {
        let state = self.shared.lock();
        format!("{}{}", text(&state.out), text(&state.err))
    }

    /// `kill -9` of the program; its entry into the namespace ends when the program is gone.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Sends a signal to the program itself.
    pub fn signal(&self, signal: Signal) {
        let program = children_of(self.pid).into_iter().next().unwrap_or(self.pid);
        self.deliver(program, signal);
    }

    fn deliver(&self, pid: Pid, signal: Signal) {
        // Holding the state keeps the id from being reaped and reused meanwhile.
        let state = self.shared.lock();
        if !state.ended {
            let _ = kill(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let ended = self.wait_until("its end", Duration::from_secs(5), |state| state.ended.then_some(()));
        if ended.is_err() {
            self.deliver(self.pid, Signal::SIGKILL);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, left: Duration) -> MutexGuard<'a, State> {
        let woken = self.changed.wait_timeout(state, left);
        woken.unwrap_or_else(|poisoned| poisoned.into_inner()).0
    }

    fn read(self: Arc<Self>, pipe: Pipe, mut from: impl Read + Send + 'static, tee: bool) {
        std::thread::spawn(move || {
            let mut chunk = [0; 16 << 10];
            while let Ok(len @ 1..) = from.read(&mut chunk) {
                if tee {
                    show_output(&chunk[..len]);
                }
                self.keep(pipe, &chunk[..len]);
            }
            self.lock().open_pipes -= 1;
            self.changed.notify_all();
        });
    }

    fn keep(&self, pipe: Pipe, bytes: &[u8]) {
        let mut state = self.lock();
        let kept = match pipe {
            Pipe::Out => &mut state.out,
            Pipe::Err => &mut state.err,
        };
        let room = CAPTURE_LIMIT.saturating_sub(kept.len());
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.changed.notify_all();
    }

    fn reap(self: Arc<Self>, mut child: Child, pid: Pid) {
        std::thread::spawn(move || {
            let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
            let mut state = self.lock();
            state.code = child.wait().ok().and_then(|status| status.code());
            state.ended = true;
            self.changed.notify_all();
        });
    }
}

/// The direct children of a process.
fn children_of(pid: Pid) -> Vec<Pid> {
    let is_child = |dir: &PathBuf| parent_of(dir) == Some(pid.as_raw());
    let children = process_dirs().into_iter().filter(is_child);
    children.filter_map(|dir| dir.file_name()?.to_str()?.parse().ok()).map(Pid::from_raw).collect()
}

/// `/proc/<pid>` of every process this one may see.
pub(crate) fn process_dirs() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numeric = |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.parse::<u32>().is_ok());
    entries.flatten().filter(|entry| numeric(&entry.file_name())).map(|entry| entry.path()).collect()
}

fn parent_of(dir: &std::path::Path) -> Option<i32> {
    // proc(5): `pid (comm) state ppid …`; comm may contain anything, so count from its closing bracket.
    let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn find_line(bytes: &[u8], needle: &str) -> Option<String> {
    let complete = &bytes[..bytes.iter().rposition(|&byte| byte == b'\n')? + 1];
    text(complete).lines().find(|line| line.contains(needle)).map(str::to_owned)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The last `count` lines, each ended by a newline.
pub fn tail(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    let kept = &lines[lines.len().saturating_sub(count)..];
    kept.iter().map(|line| format!("{line}\n")).collect()
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[expect(clippy::print_stdout, reason = "the laboratory narrates what it does")]
pub fn say(line: &str) {
    println!("{line}");
}

fn show_output(bytes: &[u8]) {
    let mut terminal = std::io::stdout().lock();
    let _ = terminal.write_all(bytes).and_then(|()| terminal.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Cmd {
        let path = "/usr/sbin:/usr/bin:/sbin:/bin";
        Cmd::new("here", Vec::new(), "sh").args(["-c", script]).env("PATH", path)
    }

    #[test]
    fn a_line_is_seen_while_the_program_still_runs() {
        let process = shell("echo one; echo two >&2; exec cat").spawn().unwrap();
        assert_eq!(process.wait_for_line("wo", Duration::from_secs(5)).unwrap(), "two");
        assert!(process.is_running());
    }

    #[test]
    fn a_missed_deadline_names_the_command_and_what_it_said() {
        let process = shell("echo almost; exec cat").spawn().unwrap();
        process.wait_for_line("almost", Duration::from_secs(5)).unwrap();
        let error = process.wait_for_line("never", Duration::from_millis(50)).unwrap_err().to_string();
        assert!(error.contains("deadline") && error.contains("almost"), "{error}");
    }

    #[test]
    fn a_background_child_that_keeps_the_pipes_does_not_hold_up_the_exit() {
        let output = shell("sleep 20 & echo done").run().unwrap();
        assert_eq!(output.stdout, "done\n");
        assert!(output.took < Duration::from_secs(5));
    }

    #[test]
    fn a_non_zero_exit_is_an_error_for_run_and_a_value_for_try_run() {
        assert_eq!(shell("exit 3").try_run().unwrap().code, Some(3));
        assert!(shell("echo why >&2; exit 3").run().unwrap_err().to_string().contains("why"));
    }

    #[test]
    fn words_are_printed_as_a_shell_would_take_them() {
        assert_eq!(quote("a-b/c"), "a-b/c");
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}
