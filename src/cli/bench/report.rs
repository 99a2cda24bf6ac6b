//! What a measurement found, as a table and as JSON.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value as Json, json};

use super::load::Prefix;
use super::{BenchArgs, BenchCommand, Style};
use crate::cli::table::Table;

/// The percentiles that are told: what of a hundred answers took at most so long, and its field in JSON.
const PERCENTILES: [(f64, &str, &str); 4] =
    [(50.0, "P50 ms", "p50"), (90.0, "P90 ms", "p90"), (99.0, "P99 ms", "p99"), (99.9, "P99.9 ms", "p99_9")];

/// One command, as all clients saw it.
#[derive(Debug)]
pub(super) struct Measured {
    command: BenchCommand,
    times: Histogram<u64>,
    refused: u64,
    refusal: Option<String>,
    /// From the first command to the last answer.
    pub(super) took: Duration,
}

impl Measured {
    /// Nothing yet, in a histogram of nanoseconds.
    pub(super) fn new(command: BenchCommand, times: Histogram<u64>) -> Self {
        Self { command, times, refused: 0, refusal: None, took: Duration::ZERO }
    }

    /// Adds what one client saw.
    pub(super) fn add(&mut self, times: &Histogram<u64>, refused: u64, refusal: Option<String>) {
        self.times.add(times).expect("both have the same bounds");
        self.refused += refused;
        self.refusal = self.refusal.take().or(refusal);
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate is shown without fractions")]
    fn rate(&self) -> f64 {
        self.times.len() as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    fn json(&self) -> Json {
        let mut latency: serde_json::Map<String, Json> = PERCENTILES
            .iter()
            .map(|(percentile, _, field)| {
                ((*field).to_owned(), json!(self.times.value_at_percentile(*percentile) / 1_000))
            })
            .collect();
        latency.insert("max".to_owned(), json!(self.times.max() / 1_000));
        json!({
            "command": name(self.command),
            "requests": self.times.len(),
            "refused": self.refused,
            "seconds": self.took.as_secs_f64(),
            "per_second": self.rate().round(),
            "latency_us": latency,
        })
    }

    fn cells(&self) -> Vec<String> {
        let percentiles =
            PERCENTILES.iter().map(|(percentile, ..)| self.times.value_at_percentile(*percentile));
        let times = percentiles.chain([self.times.max()]).map(milliseconds);
        let first = [
            name(self.command).to_owned(),
            self.times.len().to_string(),
            format!("{:.1}", self.took.as_secs_f64()),
            format!("{:.0}", self.rate()),
        ];
        first.into_iter().chain(times).collect()
    }
}

/// All that was measured.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) args: &'a BenchArgs,
    pub(super) prefix: &'a Prefix,
    pub(super) measured: Vec<Measured>,
    pub(super) is_removed: bool,
}

impl Report<'_> {
    pub(super) fn json(&self) -> String {
        let BenchArgs { clients, pipeline, keys, size, node, .. } = self.args;
        json!({
            "node": node.node,
            "clients": clients,
            "pipeline": pipeline,
            "keys": keys,
            "size": size,
            "prefix": self.prefix.to_string(),
            "removed": self.is_removed,
            "results": self.measured.iter().map(Measured::json).collect::<Json>(),
        })
        .to_string()
    }

    pub(super) fn text(&self, style: Style) -> String {
        let BenchArgs { clients, pipeline, keys, size, node, .. } = self.args;
        let percentiles = PERCENTILES.iter().map(|(_, header, _)| *header);
        let header = ["COMMAND", "REQUESTS", "SECONDS", "PER SECOND"].into_iter().chain(percentiles);
        let mut table = Table::new(header.chain(["MAX ms"])).with_header_style(style.header);
        self.measured.iter().for_each(|measured| table.row(measured.cells()));
        let node = &node.node;
        let left = if self.is_removed {
            String::new()
        } else {
            format!("what was written is left under {}\n", self.prefix)
        };
        format!(
            "{node}: {clients} clients, pipeline {pipeline}, {keys} keys, values of {size} bytes\n{table}{left}"
        )
    }

    /// What the node refused, if it refused anything: the figures are not those of the work then.
    pub(super) fn refusals(&self) -> Option<String> {
        let refused = self.measured.iter().filter_map(|measured| {
            let text = measured.refusal.as_ref()?;
            let (name, count, all) = (name(measured.command), measured.refused, measured.times.len());
            Some(format!("{count} of {all} {name} were refused: {text}"))
        });
        let refused: Vec<String> = refused.collect();
        (!refused.is_empty()).then(|| refused.join("; "))
    }
}

/// A command, as it is named on the command line.
pub(super) fn name(command: BenchCommand) -> &'static str {
    match command {
        BenchCommand::Set => "set",
        BenchCommand::Get => "get",
        BenchCommand::Incr => "incr",
        BenchCommand::Sadd => "sadd",
    }
}

/// Nanoseconds as milliseconds, in as many digits as a network is measured in.
fn milliseconds(nanoseconds: u64) -> String {
    let microseconds = nanoseconds / 1_000;
    format!("{}.{:03}", microseconds / 1_000, microseconds % 1_000)
}
