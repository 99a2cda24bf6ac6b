//! What `cargo soak` can be told, and what it makes of the arguments that libtest would take.
//!
//! `cargo test` and `cargo nextest` run this program as they run every test: without arguments, with a filter,
//! or with `--list`. To them it is one test named `soak`, which is the short form.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser};

use super::chaos::FaultTimes;

/// A load of at least this time has faults as long and as rare as they are meant.
const FULL_FAULTS_FROM: Duration = Duration::from_mins(20);

/// The one test that runners see.
const NAME: &str = "soak";

/// Real processes under a third of the load they can take, killed, paused and cut off, for hours; then all that
/// was acknowledged must be there, on all nodes, and the slopes of what the processes take are reported.
/// Without --hours or --minutes: the same in some seconds, judging nothing but what was kept.
#[derive(Debug, Parser)]
#[command(name = "cargo soak", bin_name = "cargo soak")]
struct Arguments {
    /// How long to keep up the load, in hours
    #[arg(long, value_name = "N", value_parser = amount)]
    hours: Option<f64>,
    /// How long to keep up the load, in minutes
    #[arg(long, value_name = "N", value_parser = amount, conflicts_with = "hours")]
    minutes: Option<f64>,
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    nodes: u8,
    /// What the workload and the faults are chosen by; the times of real processes are never the same twice
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Operations per second, instead of a third of the capacity that is measured first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// End the load early when the files of all nodes are this large together, because the log is kept whole
    #[arg(long, value_name = "GIB", default_value_t = 32)]
    disk: u64,
    /// Write the report and all samples to a file
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
    /// End with status 1 when a slope is over its aim
    #[arg(long)]
    strict: bool,
    /// Run `tidelock check` on the files of all nodes in the end, which reads the whole log
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    libtest: Libtest,
}

/// What libtest takes; most of it means nothing here.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are libtest's flags")]
struct Libtest {
    #[arg(hide = true)]
    filters: Vec<String>,
    #[arg(long, hide = true)]
    list: bool,
    #[arg(long, hide = true)]
    ignored: bool,
    #[arg(long, hide = true)]
    include_ignored: bool,
    #[arg(long, hide = true)]
    exact: bool,
    #[arg(long, hide = true)]
    skip: Vec<String>,
    #[arg(long, alias = "no-capture", hide = true)]
    nocapture: bool,
    #[arg(long, hide = true)]
    show_output: bool,
    #[arg(short, long, hide = true)]
    quiet: bool,
    #[arg(long, hide = true)]
    format: Option<String>,
    #[arg(long, hide = true)]
    color: Option<String>,
    #[arg(long, hide = true)]
    test_threads: Option<String>,
    #[arg(short = 'Z', hide = true)]
    unstable: Vec<String>,
}

impl Libtest {
    fn is_chosen(&self) -> bool {
        let matches =
            |filter: &String| if self.exact { NAME == filter } else { NAME.contains(filter.as_str()) };
        !self.ignored
            && (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skip.iter().any(matches)
    }
}

/// What a soak does, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// How many nodes.
    pub(crate) nodes: usize,
    /// What chooses.
    pub(crate) seed: u64,
    /// Operations per second, if they are not to be measured.
    pub(crate) rate: Option<u64>,
    /// The size of all files at which the load ends.
    pub(crate) bytes_max: u64,
    /// Where the report goes.
    pub(crate) report: Option<PathBuf>,
    /// Whether a slope over its aim is a failure.
    pub(crate) is_strict: bool,
    /// Whether the files are checked in the end.
    pub(crate) has_check: bool,
    /// Whether this is the short form, which has no slopes.
    pub(crate) is_smoke: bool,
    /// How long the capacity is measured.
    pub(crate) capacity: Duration,
    /// How long the load is kept up.
    pub(crate) load: Duration,
    /// How often samples are taken.
    pub(crate) sample_every: Duration,
    /// How often a line is printed.
    pub(crate) progress_every: Duration,
    /// How long after a fault a sample is calm again.
    pub(crate) settled: Duration,
    /// The faults.
    pub(crate) faults: FaultTimes,
}

/// Reads the arguments of the process.
///
/// # Errors
/// There is nothing to run, and this is the status to end with.
pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Plan, ExitCode> {
    let arguments = Arguments::try_parse_from(arguments).map_err(|error| {
        // Nobody reads it: nothing more can be done.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })?;
    let is_chosen = arguments.libtest.is_chosen();
    if arguments.libtest.list && is_chosen {
        println!("{NAME}: test");
    }
    if arguments.libtest.list || !is_chosen {
        return Err(ExitCode::SUCCESS);
    }
    Ok(plan(arguments))
}

fn plan(arguments: Arguments) -> Plan {
    let minutes = arguments.minutes.or(arguments.hours.map(|hours| hours * 60.0));
    let times = match minutes {
        Some(minutes) => long(Duration::from_secs_f64(minutes * 60.0)),
        None => smoke(),
    };
    Plan {
        nodes: usize::from(arguments.nodes),
        seed: arguments.seed,
        rate: arguments.rate,
        bytes_max: arguments.disk << 30,
        report: arguments.report,
        is_strict: arguments.strict,
        has_check: arguments.check || minutes.is_none(),
        is_smoke: minutes.is_none(),
        ..times
    }
}

fn long(load: Duration) -> Plan {
    let seconds = Duration::from_secs;
    // A short load has shorter faults, so that it has some of each.
    let part = load.div_duration_f64(FULL_FAULTS_FROM).min(1.0);
    let scaled = |from, to| seconds(from).mul_f64(part)..=seconds(to).mul_f64(part);
    Plan {
        capacity: seconds(10),
        load,
        sample_every: seconds(10),
        progress_every: seconds(60),
        settled: seconds(5),
        faults: FaultTimes {
            gap: scaled(10, 60),
            down: scaled(0, 15),
            pause: scaled(1, 30),
            offline: scaled(1, 30),
            early: load / 8,
        },
        ..smoke()
    }
}

/// The short form, which a test run can afford.
fn smoke() -> Plan {
    let millis = Duration::from_millis;
    let load = millis(8_000);
    Plan {
        nodes: 0,
        seed: 0,
        rate: None,
        bytes_max: 0,
        report: None,
        is_strict: false,
        has_check: true,
        is_smoke: true,
        capacity: millis(2_000),
        load,
        sample_every: millis(1_000),
        progress_every: millis(3_000),
        settled: millis(500),
        faults: FaultTimes {
            gap: millis(200)..=millis(900),
            down: millis(0)..=millis(500),
            pause: millis(500)..=millis(1_500),
            offline: millis(500)..=millis(1_500),
            early: load,
        },
    }
}

/// A time that is neither nothing nor beyond a year.
fn amount(text: &str) -> Result<f64, String> {
    let amount: f64 = text.parse().map_err(|error: std::num::ParseFloatError| error.to_string())?;
    let is_sane = amount > 0.0 && amount < 10_000.0;
    if is_sane { Ok(amount) } else { Err("it must be above 0 and below 10000".to_owned()) }
}
