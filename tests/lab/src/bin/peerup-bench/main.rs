//! peerup beside the bare link and beside other overlays, measured in turns in one run, as ratios.
//!
//! Every subject gets two hosts and a link of its own, all at once; each figure is then measured of one subject after
//! the other, round after round, so that whatever the machine does meanwhile happens to all of them alike. Results are
//! kept value by value (JSON); the table of medians and the picture are made from them, also of several runs together.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "this program prints its progress and its result")]

mod chart;
mod goals;
mod measure;
mod profile;
mod record;
mod search;
mod stats;
mod subject;
mod table;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use peerup_lab::{clock, require_tun};

use measure::{Figure, Measured, warm_up};
use profile::Profile;
use record::{Failure, Metric, Record, Run, Seen};
use subject::{Found, Programs, Running, Subject};

#[derive(Parser)]
#[command(name = "peerup-bench", about = "Measures peerup beside the bare link and other overlays")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure, and write run.json, table.md and chart.svg
    Run(Options),
    /// Make the table and the picture of runs that were measured apart
    Report {
        /// run.json of each
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// Where table.md and chart.svg go
        #[arg(long, default_value = "target/bench")]
        out: PathBuf,
    },
    /// Say which subjects are installed
    List(Where),
}

#[derive(clap::Args)]
struct Where {
    /// Directories with other overlays, looked into before PATH
    #[arg(long)]
    programs: Vec<PathBuf>,
}

#[derive(clap::Args)]
struct Options {
    #[command(flatten)]
    programs: Where,
    /// All that are installed unless said otherwise
    #[arg(long, value_delimiter = ',')]
    subjects: Vec<Subject>,
    /// All unless said otherwise
    #[arg(long, value_delimiter = ',')]
    figures: Vec<Figure>,
    /// All unless said otherwise
    #[arg(long, value_delimiter = ',')]
    profiles: Vec<Profile>,
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Of one TCP run on a cable; other links take at least 10 s, the longest 15
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// One round of two seconds, TCP and echo, on a cable only
    #[arg(long)]
    quick: bool,
    /// After this no measurement begins
    #[arg(long, default_value_t = 120)]
    minutes: u64,
    /// Where run.json, table.md and chart.svg go
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

fn main() -> std::process::ExitCode {
    let done = match Args::parse().command {
        Command::Run(options) => run(options.filled()),
        Command::Report { runs, out } => report(&runs, &out),
        Command::List(place) => {
            for subject in Subject::value_variants() {
                match subject.find(&place.programs()) {
                    Ok(found) => println!("{}: {}", subject.name(), found.version),
                    Err(error) => println!("{}: left out: {error:#}", subject.name()),
                }
            }
            Ok(())
        }
    };
    let Err(error) = done else { return std::process::ExitCode::SUCCESS };
    eprintln!("peerup-bench: {error:#}");
    std::process::ExitCode::FAILURE
}

impl Where {
    fn programs(&self) -> Programs {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Programs { dirs: self.programs.iter().cloned().chain(std::env::split_paths(&path)).collect() }
    }
}

impl Options {
    /// With everything that was not said.
    fn filled(mut self) -> Self {
        if self.quick {
            (self.rounds, self.seconds) = (1, self.seconds.min(2));
            let (figures, profiles) = (&mut self.figures, &mut self.profiles);
            or_else(figures, &[Figure::Tcp1, Figure::Rtt]);
            or_else(profiles, &[Profile::Cable]);
        }
        or_else(&mut self.subjects, Subject::value_variants());
        or_else(&mut self.figures, Figure::value_variants());
        or_else(&mut self.profiles, Profile::value_variants());
        self
    }
}

fn or_else<T: Clone>(said: &mut Vec<T>, otherwise: &[T]) {
    if said.is_empty() {
        *said = otherwise.to_vec();
    }
}

fn run(options: Options) -> Result<()> {
    require_tun()?;
    ensure!(options.rounds > 0, "nothing to measure in 0 rounds");
    ensure!(options.seconds >= 2, "a flow of less than two seconds has no load to speak of");
    std::fs::create_dir_all(&options.out).with_context(|| format!("making {}", options.out.display()))?;
    let programs = options.programs.programs();
    let mut bench = Bench {
        until: clock::now() + Duration::from_secs(60 * options.minutes),
        run: Run { machine: machine()?, seconds: options.seconds, rounds: options.rounds, ..Run::default() },
        options,
    };
    let mut found = Vec::new();
    for &subject in &bench.options.subjects {
        match subject.find(&programs) {
            Ok(its) => {
                println!("{}: {}", subject.name(), its.version);
                bench.run.versions.insert(subject, its.version.clone());
                found.push((subject, its));
            }
            Err(error) => println!("{}: left out: {error:#}", subject.name()),
        }
    }
    for profile in bench.options.profiles.clone() {
        bench.profile(profile, &found)?;
    }
    write_report(&bench.run, &bench.options.out)
}

fn report(runs: &[PathBuf], out: &Path) -> Result<()> {
    let mut all = Run::default();
    for path in runs {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        all.append(serde_json::from_str(&text).with_context(|| format!("{} is no run", path.display()))?);
    }
    std::fs::create_dir_all(out)?;
    write_report(&all, out)
}

fn write_report(run: &Run, out: &Path) -> Result<()> {
    let table = table::markdown(run);
    std::fs::write(out.join("table.md"), &table)?;
    if let Some(chart) = chart::svg(run) {
        std::fs::write(out.join("chart.svg"), chart)?;
    }
    println!("\n{table}");
    println!("written to {}", out.display());
    Ok(())
}

struct Bench {
    options: Options,
    until: Instant,
    run: Run,
}

impl Bench {
    fn profile(&mut self, profile: Profile, found: &[(Subject, Found)]) -> Result<()> {
        let figures: Vec<Figure> = profile
            .figures()
            .iter()
            .copied()
            .filter(|figure| self.options.figures.contains(figure))
            .collect();
        if figures.is_empty() || self.is_over() {
            return Ok(());
        }
        println!("\n== {}: {}", profile.name(), profile.text());
        let mut subjects = Vec::new();
        for (subject, found) in found.iter().filter(|(subject, _)| subject.fits(profile)) {
            match self.set_up(*subject, profile, found) {
                Ok(running) => subjects.push(running),
                Err(error) => self.failed(0, profile, *subject, "set up", &error),
            }
        }
        for round in 1..=self.options.rounds {
            for figure in &figures {
                // Whoever is first finds the machine colder than the others: each in its turn.
                for running in &mut subjects {
                    if !self.is_over() {
                        self.measure(round, profile, *figure, running);
                    }
                }
                let others = 1.min(subjects.len());
                subjects.rotate_left(others);
            }
            self.save()?;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        clock::now() >= self.until
    }

    fn set_up(&mut self, subject: Subject, profile: Profile, found: &Found) -> Result<Running> {
        let running = subject.set_up(profile, found)?;
        warm_up(&running)?;
        if found.program.is_file() {
            let value = std::fs::metadata(&found.program)?.len() as f64 / 1e6;
            self.keep(0, profile, subject, Metric::Binary, value);
        }
        Ok(running)
    }

    fn measure(&mut self, round: u32, profile: Profile, figure: Figure, running: &mut Running) {
        let subject = running.subject;
        let seconds = self.options.seconds.max(profile.least_seconds());
        let measured = figure.measure(running, seconds);
        match measured.and_then(|measured| Ok((measured, running.carrier()?))) {
            Ok((measured, carrier)) => {
                self.run.carriers.insert(subject, carrier);
                self.keep_all(round, profile, subject, figure, measured);
            }
            Err(error) => self.failed(round, profile, subject, &figure.name(), &error),
        }
    }

    fn keep_all(
        &mut self,
        round: u32,
        profile: Profile,
        subject: Subject,
        figure: Figure,
        measured: Measured,
    ) {
        let numbers = measured.values.iter().map(|(metric, value)| format!("{}: {value:.3}", metric.text()));
        let numbers: Vec<String> = numbers.collect();
        println!("{} {round} {} {}: {}", profile.name(), figure.name(), subject.name(), numbers.join("; "));
        for (metric, value) in measured.values {
            self.keep(round, profile, subject, metric, value);
        }
        if !measured.inner.is_empty() {
            let lines = |flows: Vec<peerup_lab::tools::flows::Flow>| {
                flows.into_iter().map(|flow| format!("{}: {}", flow.congestion, flow.text)).collect()
            };
            let (inner, outer) = (lines(measured.inner), lines(measured.outer));
            self.run.seen.push(Seen { round, profile, subject, inner, outer });
        }
    }

    fn keep(&mut self, round: u32, profile: Profile, subject: Subject, metric: Metric, value: f64) {
        self.run.records.push(Record { round, profile, subject, metric, value });
    }

    fn failed(
        &mut self,
        round: u32,
        profile: Profile,
        subject: Subject,
        attempt: &str,
        error: &anyhow::Error,
    ) {
        println!("{} {round} {attempt} {}: FAILED: {error:#}", profile.name(), subject.name());
        let (attempt, why) = (attempt.to_owned(), format!("{error:#}"));
        self.run.failures.push(Failure { round, profile, subject, attempt, why });
    }

    /// After every round: an interrupted run is not lost.
    fn save(&self) -> Result<()> {
        let path = self.options.out.join("run.json");
        std::fs::write(&path, serde_json::to_string_pretty(&self.run)?)
            .with_context(|| format!("writing {}", path.display()))
    }
}

/// What it was measured on.
fn machine() -> Result<String> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    let count = std::thread::available_parallelism()?;
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!("{count} × {model}, Linux {}", release.trim()))
}
