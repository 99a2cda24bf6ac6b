//! The report of a soak: a table for people, JSON for programs.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use serde::Serialize;

use super::chaos::FaultTally;
use super::sample::Sample;
use super::trend::{NodeTrends, Trend, Verdict, WARM_UP_S};

/// What was done and what was seen.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// The seed.
    pub(crate) seed: u64,
    /// Operations per second that all nodes took together from clients that waited; `None` if that was not measured.
    pub(crate) capacity_per_second: Option<u64>,
    /// Operations per second that were asked of them.
    pub(crate) rate_per_second: u64,
    /// How long the load was kept up, in seconds.
    pub(crate) load_s: f64,
    /// Operations that were answered.
    pub(crate) operations: u64,
    /// Writes among them.
    pub(crate) writes: u64,
    /// Operations whose node was killed before it answered.
    pub(crate) unknown: u64,
    /// Operations that were due and never sent, because their node was away or late.
    pub(crate) shed: u64,
    /// Increments of shared counters that were acknowledged, and are there.
    pub(crate) increments: u64,
    /// Members of the ledger that were acknowledged, and are there.
    pub(crate) members: usize,
    /// The faults.
    pub(crate) faults: FaultTally,
    /// How long the nodes took to become equal, in seconds.
    pub(crate) equal_after_s: f64,
    /// The figures.
    pub(crate) nodes: Vec<NodeTrends>,
    /// All samples.
    pub(crate) samples: Vec<Sample>,
}

impl Report {
    /// The slopes that are over their aims, in words.
    pub(crate) fn over(&self) -> Vec<String> {
        let trends =
            self.nodes.iter().flat_map(|node| node.trends.iter().map(move |trend| (node.node, trend)));
        let over = trends.filter(|(_, trend)| trend.verdict == Verdict::Over);
        over.map(|(node, trend)| {
            let Trend { name, unit, window_s: (from, to), .. } = trend;
            let slope = trend.slope_per_hour.unwrap_or_default();
            let aim = trend.aim_per_hour.unwrap_or_default();
            let (from, to) = (from / 60.0, to / 60.0);
            format!(
                "node {node}: {name} grew by {slope:.2} {unit}/h from minute {from:.0} to {to:.0}, the aim is {aim} {unit}/h"
            )
        })
        .collect()
    }

    /// What was done and held, as text.
    pub(crate) fn summary(&self) -> String {
        let FaultTally { kills, kills_of_all, pauses, cuts, slowest_start_ms } = self.faults;
        format!(
            "{} operations in {:.0} s, {} of them writes; {} unknown, {} due and not sent because their node was away or late\n\
             {kills} kills, {kills_of_all} kills of all at once, {pauses} pauses, {cuts} cuts from the network; \
             the slowest start took {slowest_start_ms} ms\n\
             all nodes equal {:.1} s after that; {} increments and {} members of shared keys are on all of them\n",
            self.operations,
            self.load_s,
            self.writes,
            self.unknown,
            self.shed,
            self.equal_after_s,
            self.increments,
            self.members,
        )
    }

    /// The figures of all nodes as tables, and the slopes that are over their aims.
    pub(crate) fn tables(&self) -> String {
        let mut text: String = self.nodes.iter().map(table).collect();
        text.push('\n');
        let all = self.nodes.iter().flat_map(|node| &node.trends);
        let short = all.filter(|trend| trend.verdict == Verdict::TooShort).count();
        if short > 0 {
            line(&mut text, format_args!("{short} slopes were fitted over too short a time to be judged."));
        }
        let over = self.over();
        if over.is_empty() {
            line(&mut text, format_args!("No slope that was judged is over its aim."));
        }
        over.iter().for_each(|what| line(&mut text, format_args!("OVER: {what}")));
        text
    }

    /// Writes the whole as JSON.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write_to(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        serde_json::to_writer_pretty(&mut file, self)?;
        file.flush()
    }
}

fn table(node: &NodeTrends) -> String {
    let mut text = format!(
        "\nnode {}: process {} of {}, the longest, was seen for {:.1} min; files over all of them\n",
        node.node,
        node.longest_life,
        node.lives,
        node.longest_life_s / 60.0
    );
    let head = ["", "first", "last", "peak", "slope/h", "error", "aim/h"];
    let [name, first, last, peak, slope, error, aim] = head;
    line(
        &mut text,
        format_args!("  {name:<16}{first:>10}{last:>10}{peak:>10}{slope:>10}{error:>9}{aim:>7}  fitted"),
    );
    for trend in &node.trends {
        let name = format!("{} {}", trend.name, trend.unit);
        let digits = usize::from(!trend.unit.is_empty());
        let optional = |number: Option<f64>| number.map_or("-".to_owned(), |number| format!("{number:.2}"));
        let verdict = match trend.verdict {
            Verdict::Within => "within",
            Verdict::Over => "OVER",
            Verdict::TooShort => "too short to judge",
            Verdict::NoAim => "the log is kept whole",
        };
        let (from, to) = (trend.window_s.0 / 60.0, trend.window_s.1 / 60.0);
        line(
            &mut text,
            format_args!(
                "  {name:<16}{:>10.digits$}{:>10.digits$}{:>10.digits$}{:>10}{:>9}{:>7}  minute {from:.0} to {to:.0}, {} samples: {verdict}",
                trend.first,
                trend.last,
                trend.peak,
                optional(trend.slope_per_hour),
                optional(trend.error_per_hour),
                trend.aim_per_hour.map_or("-".to_owned(), |aim| aim.to_string()),
                trend.fitted,
            ),
        );
    }
    if node.longest_life_s < 2.0 * WARM_UP_S {
        line(
            &mut text,
            format_args!("  the aims are for after an hour; this life was short, so half of it counts"),
        );
    }
    if let Some(bytes) = node.log_bytes_per_write {
        line(
            &mut text,
            format_args!("  log.redb grew by {bytes:.0} bytes per write that any node acknowledged"),
        );
    }
    text
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    writeln!(text, "{words}").expect("writing to memory cannot fail");
}
