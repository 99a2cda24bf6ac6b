//! Ten, a hundred, a thousand peers in one thread: what the gossip costs, and how that grows.
//!
//! The same nodes, the same network, the same ledger as in every other story; only the rows are in memory, and
//! logs are checked in place of rows. What is measured depends on nothing but the options, so that a change to
//! the gossip can be held against the gossip before it. The processor's time is told and never compared.
//! Source of the measures: Leitao, Pereira, Rodrigues, "Epidemic Broadcast Trees" (SRDS 2007), relative message
//! redundancy and last delivery hop.

use std::io;
use std::path::PathBuf;

pub use self::report::{Hops, Latency, PhaseReport, Received, RunReport, ScaleReport, Sent};

mod phases;
mod plot;
mod report;
mod run;
mod table;

/// What is run, and where it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The peers of each run, of which each has at least 4.
    pub peers: Vec<usize>,
    /// Everything that is left to chance follows from it.
    pub seed: u64,
    /// The operations of one run, from 40. Half are written in calm, a quarter in trouble, a quarter on both
    /// sides of a partition.
    pub operations: usize,
    /// The operations that all peers together write in a second. More are concurrent, and meet on their way.
    pub writes_per_s: u64,
    /// How many of a thousand messages vanish in the time of trouble, although their sessions go on.
    pub loss: u32,
    /// How many of a hundred peers restart, and how many leave and are replaced, in a minute of trouble.
    pub churn: usize,
    /// The file that the figures are written to.
    pub json: Option<PathBuf>,
    /// The file that they are drawn to.
    pub svg: Option<PathBuf>,
    /// The file with figures of an earlier run, to be told beside these.
    pub compare: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            peers: vec![10, 100, 1_000],
            seed: 1,
            operations: 2_000,
            writes_per_s: 10,
            loss: 5,
            churn: 5,
            json: None,
            svg: None,
            compare: None,
        }
    }
}

/// Runs every number of peers, prints the figures and writes them where they are wanted.
///
/// # Errors
/// A file cannot be read or written.
///
/// # Panics
/// If a property does not hold, or the options are below their bounds.
pub fn run(options: &Options) -> io::Result<ScaleReport> {
    // A file that is not there is better missed now than after ten minutes.
    let before = options.compare.as_ref().map(|path| ScaleReport::read(path)).transpose()?;
    let report = measure(options);
    println!("{}", table::of(&report));
    if let Some(before) = &before {
        println!("{}", table::compare(before, &report));
    }
    if let Some(path) = &options.json {
        report.write(path)?;
    }
    if let Some(path) = &options.svg {
        std::fs::write(path, plot::of(&report, before.as_ref()))?;
    }
    Ok(report)
}

/// Runs every number of peers.
///
/// # Panics
/// If a property does not hold, or the options are below their bounds.
pub fn measure(options: &Options) -> ScaleReport {
    assert!(options.operations >= 40, "too few operations to tell anything");
    assert!(options.peers.iter().all(|peers| *peers >= 4), "a partition takes four peers");
    ScaleReport {
        seed: options.seed,
        operations: options.operations,
        writes_per_s: options.writes_per_s,
        loss: options.loss,
        churn: options.churn,
        runs: options.peers.iter().map(|peers| run::Run::of(options, *peers)).collect(),
    }
}

/// The figures as a drawing.
pub fn drawing(report: &ScaleReport) -> String {
    plot::of(report, None)
}
