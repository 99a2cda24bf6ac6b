//! `cargo sim`: histories of whole nodes by the thousand, on all cores, or one of them told from its beginning.
//!
//! `cargo sim --for 10m` plays fresh seeds of every scenario; `cargo sim --scenario NAME --seed N` tells one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use clap::{Args, Parser, Subcommand};
use sim::hunt::{Hunt, News};
use sim::power_cuts::{self, CutReport};
use sim::scenario::Scenario;
use sim::summary::Summary;
use sim::trace::Telling;
use sim::verdict::{Failure, caught, play_telling};
use sim::{kept_seeds, scale, scenarios};

/// How often a line says how far it is.
const PROGRESS: Duration = Duration::from_secs(5);

/// For how long seeds are played when nothing is said.
const LASTS: Duration = Duration::from_mins(1);

/// Plays random histories of whole nodes and checks every property after every step.
#[derive(Debug, Parser)]
#[command(name = "cargo sim", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    play: Play,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the scenarios with what goes wrong in them.
    List,
    /// Cuts the power of one node by the thousand, anywhere in its work.
    #[command(name = power_cuts::NAME)]
    PowerCuts(Cuts),
    /// Measures what the gossip of many peers costs.
    Scale(Scale),
}

#[derive(Debug, Args)]
struct Scale {
    /// The peers of each run, from 4, with commas between them.
    #[arg(long, value_delimiter = ',', value_name = "NUMBER")]
    peers: Vec<usize>,
    /// Everything that is left to chance follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The operations of one run, from 40.
    #[arg(long)]
    operations: Option<usize>,
    /// The operations that all peers together write in a second.
    #[arg(long)]
    writes_per_s: Option<u64>,
    /// How many of a thousand messages vanish in the time of trouble.
    #[arg(long)]
    loss: Option<u32>,
    /// How many of a hundred peers restart, and how many are replaced, in a minute of trouble.
    #[arg(long)]
    churn: Option<usize>,
    /// The file that the figures are written to.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The file that they are drawn to.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// The file with figures of an earlier run, to be told beside these.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Cuts {
    /// The number of cuts at least.
    #[arg(long = "cuts", default_value_t = 100_000)]
    least: u64,
    /// One disk, told from its beginning.
    #[arg(long, conflicts_with_all = ["least", "first_seed"])]
    seed: Option<u64>,
    /// The seed of the first disk; a fresh one if none is said.
    #[arg(long)]
    first_seed: Option<u64>,
    /// The number of threads; one for each core if none is said.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// The file to which disks that failed are appended.
    #[arg(long, default_value = "failing-seeds.txt")]
    failing: PathBuf,
}

#[derive(Debug, Args)]
struct Play {
    /// For how long seeds are begun, such as 90s, 10m or 3h; a minute if neither this nor --seeds is said.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    lasts: Option<Duration>,
    /// A scenario, which may be said several times; all if none is.
    #[arg(long = "scenario", value_name = "NAME", value_parser = scenarios::named)]
    scenarios: Vec<&'static Scenario>,
    /// One seed, told from its beginning.
    #[arg(long, conflicts_with_all = ["lasts", "first_seed", "seeds"])]
    seed: Option<u64>,
    /// The first seed; a fresh one if none is said.
    #[arg(long)]
    first_seed: Option<u64>,
    /// The number of seeds of each scenario.
    #[arg(long)]
    seeds: Option<u64>,
    /// The number of threads; one for each core if none is said.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// The file to which seeds that failed are appended.
    #[arg(long, default_value = "failing-seeds.txt")]
    failing: PathBuf,
    /// A seed that takes longer is reported as stuck.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "120s")]
    stuck_after: Duration,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let is_fine = match arguments.command {
        Some(Command::List) => list(),
        Some(Command::PowerCuts(cuts)) => match cuts.seed {
            Some(seed) => Cuts::tell(seed),
            None => cuts.hunt(),
        },
        Some(Command::Scale(scale)) => scale.run(),
        None => match arguments.play.seed {
            Some(seed) => arguments.play.tell(seed),
            None => arguments.play.hunt(),
        },
    };
    if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn list() -> bool {
    for scenario in scenarios::ALL {
        let (least, most) = scenario.nodes;
        let seconds = scenario.lasts_ms / 1_000;
        println!("{}: {least} to {most} nodes, {seconds} s of faults", scenario.name);
        for (fault, every_ms) in scenario.faults {
            println!("  {} about every {every_ms} ms", fault.name());
        }
        let on = &scenario.conditions;
        let rates = [
            ("lost", on.loss),
            ("duplicated", on.duplication),
            ("reordered", on.reordering),
            ("corrupted", on.corruption),
            ("truncated", on.truncation),
        ];
        for (name, rate) in rates.into_iter().filter(|(_, rate)| *rate > 0) {
            println!("  {rate} of 1000 messages {name}");
        }
    }
    true
}

impl Play {
    fn scenarios(&self) -> Vec<&'static Scenario> {
        if self.scenarios.is_empty() { scenarios::ALL.to_vec() } else { self.scenarios.clone() }
    }

    /// Plays one seed and tells everything.
    fn tell(&self, seed: u64) -> bool {
        let mut is_fine = true;
        for scenario in self.scenarios() {
            let begun = Instant::now();
            match play_telling(scenario, seed, Telling::Everything) {
                Ok(outcome) => {
                    println!("{} {seed}: hash {:016x}, {} turns", scenario.name, outcome.hash, outcome.steps);
                    println!("{}", outcome.tally);
                    let (simulated, real) = (seconds(outcome.simulated_ms), begun.elapsed().as_secs_f64());
                    println!("{simulated:.1} simulated seconds in {real:.2} real ones");
                }
                Err(failure) => {
                    println!("{}\n[{}]", failure.message, failure.place);
                    is_fine = false;
                }
            }
        }
        is_fine
    }

    /// Plays seeds until the end and says what broke.
    fn hunt(&self) -> bool {
        let hunt = Hunt {
            scenarios: self.scenarios(),
            first_seed: self.first_seed.unwrap_or_else(fresh_seed),
            seeds: self.seeds,
            lasts: self.lasts.or_else(|| self.seeds.is_none().then_some(LASTS)),
            threads: threads(self.threads),
            stuck_after: self.stuck_after,
        };
        let count = hunt.scenarios.len();
        println!("{count} scenarios from seed {} on, {} threads", hunt.first_seed, hunt.threads);
        let mut summary = Summary::default();
        let begun = Instant::now();
        let mut said = begun;
        hunt.run(|news| {
            match news {
                News::Played(scenario, result) => {
                    if let Err(failure) = &*result {
                        say_failed(failure, &self.failing);
                    }
                    summary.count(scenario, *result);
                }
                News::Stuck(failure) => {
                    say_failed(&failure, &self.failing);
                    summary.failures.push(failure);
                }
                News::Quiet => {}
            }
            if said.elapsed() >= PROGRESS {
                said = Instant::now();
                println!("{}", progress(&summary, begun.elapsed()));
            }
        });
        println!("{}\n\n{summary}", progress(&summary, begun.elapsed()));
        summary.failures.is_empty()
    }
}

impl Scale {
    fn run(self) -> bool {
        let usual = scale::Options::default();
        let options = scale::Options {
            peers: if self.peers.is_empty() { usual.peers } else { self.peers },
            seed: self.seed,
            operations: self.operations.unwrap_or(usual.operations),
            writes_per_s: self.writes_per_s.unwrap_or(usual.writes_per_s),
            loss: self.loss.unwrap_or(usual.loss),
            churn: self.churn.unwrap_or(usual.churn),
            json: self.json,
            svg: self.svg,
            compare: self.compare,
        };
        scale::run(&options).map_err(|error| eprintln!("{error}")).is_ok()
    }
}

impl Cuts {
    /// Plays one disk and tells everything.
    fn tell(seed: u64) -> bool {
        match caught(power_cuts::NAME, seed, || power_cuts::play(seed, Telling::Everything)) {
            Ok(report) => println!("{report}"),
            Err(failure) => {
                println!("{}\n[{}]", failure.message, failure.place);
                return false;
            }
        }
        true
    }

    /// Plays disks until there were so many cuts.
    fn hunt(&self) -> bool {
        let first_seed = self.first_seed.unwrap_or_else(fresh_seed);
        let disks = self.least.div_ceil(power_cuts::CUTS_PER_DISK);
        let threads = threads(self.threads);
        println!("{disks} disks from seed {first_seed} on, {threads} threads");
        let (begun, mut said) = (Instant::now(), Instant::now());
        let mut total = CutReport::default();
        let mut failed = 0;
        power_cuts::play_many(first_seed, disks, threads, |result| {
            match result {
                Ok(report) => total.join(&report),
                Err(failure) => {
                    failed += 1;
                    say_failed(&failure, &self.failing);
                }
            }
            if said.elapsed() >= PROGRESS {
                said = Instant::now();
                println!("{:>7.0} s  {} power cuts", begun.elapsed().as_secs_f64(), total.cuts());
            }
        });
        let real = begun.elapsed().as_secs_f64();
        println!("{total}\n{failed:>10}  disks damaged or with writes lost\n{real:>10.0}  seconds");
        failed == 0
    }
}

fn threads(said: Option<u16>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    said.map_or_else(cores, usize::from)
}

/// Says and writes down a failure at once, because nobody knows whether the hunt comes to its end.
fn say_failed(failure: &Failure, file: &Path) {
    println!("FAILED {failure}\n  replay: {}", failure.replay());
    if let Err(error) = kept_seeds::append(file, failure) {
        eprintln!("cannot write to {}: {error}", file.display());
    }
}

fn progress(summary: &Summary, elapsed: Duration) -> String {
    let total = summary.total();
    let real = elapsed.as_secs_f64();
    format!(
        "{real:>7.0} s  {} seeds, {:.0} simulated seconds a second, {} writes, {} faults, {} failures",
        total.seeds,
        seconds(total.simulated_ms) / real,
        total.tally.get("writes"),
        total.faults,
        summary.failures.len(),
    )
}

/// A seed that was hardly ever played: those of one run are thousands apart from those of the next.
fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs()) * 1_000
}

/// A number with its unit: `90s`, `10m`, `3h`.
fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no time such as 90s, 10m or 3h"))?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(format!("{unit:?} is no unit; there are s, m and h")),
    };
    Ok(Duration::from_secs(number * seconds))
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}
