//! What samples say in sum: where each figure of a node began, where it ended, and how steep it was.
//!
//! A restarted process begins anew, so memory, descriptors, threads and tasks are those of the longest life of
//! a node. The first hour of a life, or half of a shorter one, is warming up and not fitted; neither are
//! samples during a fault, when peers are missing and buffers are full.

use serde::Serialize;

use super::sample::Sample;
use super::slope::fit;

/// A life warms up for so long at most.
pub(crate) const WARM_UP_S: f64 = 3_600.0;

/// A slope is judged when it was fitted over so long at least.
const WINDOW_S_MIN: f64 = 600.0;

/// What is fitted.
struct Figure {
    name: &'static str,
    unit: &'static str,
    /// The most that it may grow in an hour; `None` if it grows with the history.
    aim: Option<f64>,
    /// Whether it outlives a process.
    is_file: bool,
    of: fn(&Sample) -> Option<f64>,
}

const FIGURES: [Figure; 6] = [
    Figure {
        name: "memory",
        unit: "MiB",
        aim: Some(1.0),
        is_file: false,
        of: |it| Some(float(it.memory_kib) / 1024.0),
    },
    Figure {
        name: "descriptors",
        unit: "",
        aim: Some(1.0),
        is_file: false,
        of: |it| Some(float(it.descriptors)),
    },
    Figure { name: "threads", unit: "", aim: Some(1.0), is_file: false, of: |it| Some(float(it.threads)) },
    Figure { name: "tasks", unit: "", aim: Some(1.0), is_file: false, of: |it| it.tasks.map(float) },
    Figure {
        name: "rows.redb",
        unit: "MiB",
        aim: Some(1.0),
        is_file: true,
        of: |it| Some(mebibytes(it.rows_bytes)),
    },
    Figure {
        name: "log.redb",
        unit: "MiB",
        aim: None,
        is_file: true,
        of: |it| Some(mebibytes(it.log_bytes)),
    },
];

/// Whether a slope is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Not steeper than the aim.
    Within,
    /// Steeper.
    Over,
    /// Fitted over too short a time to say.
    TooShort,
    /// There is no aim.
    NoAim,
}

/// One figure of one node.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Trend {
    /// Of what.
    pub(crate) name: &'static str,
    /// In what; empty for a count.
    pub(crate) unit: &'static str,
    /// At the beginning.
    pub(crate) first: f64,
    /// At the end.
    pub(crate) last: f64,
    /// At most.
    pub(crate) peak: f64,
    /// What was added per hour, after warming up.
    pub(crate) slope_per_hour: Option<f64>,
    /// The standard error of the slope.
    pub(crate) error_per_hour: Option<f64>,
    /// The samples that were fitted.
    pub(crate) fitted: usize,
    /// From when to when they are, in seconds after the first.
    pub(crate) window_s: (f64, f64),
    /// The most that it may be.
    pub(crate) aim_per_hour: Option<f64>,
    /// Whether it is.
    pub(crate) verdict: Verdict,
}

/// All figures of one node.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NodeTrends {
    /// Which node.
    pub(crate) node: usize,
    /// How many processes it had.
    pub(crate) lives: u32,
    /// The one that lived longest, from 1.
    pub(crate) longest_life: u32,
    /// How long that was seen, in seconds.
    pub(crate) longest_life_s: f64,
    /// What the log grew by for each write that any node acknowledged.
    pub(crate) log_bytes_per_write: Option<f64>,
    /// The figures.
    pub(crate) trends: Vec<Trend>,
}

impl NodeTrends {
    /// Of the samples of all nodes, in their order; `None` if there are none of this one.
    pub(crate) fn of(node: usize, samples: &[Sample]) -> Option<Self> {
        let all: Vec<&Sample> = samples.iter().filter(|sample| sample.node == node).collect();
        let lives = all.last()?.life;
        let of_life = |life: u32| all.iter().copied().filter(|it| it.life == life).collect::<Vec<_>>();
        let longest = (1..=lives).map(of_life).max_by(|a, b| span(a).total_cmp(&span(b)))?;
        let trends = FIGURES.iter().filter_map(|figure| {
            let samples = if figure.is_file { &all } else { &longest };
            trend(figure, samples)
        });
        let (first, last) = (all.first()?, all.last()?);
        let writes = last.writes.saturating_sub(first.writes);
        let grown = float(last.log_bytes) - float(first.log_bytes);
        Some(Self {
            node,
            lives,
            longest_life: longest.first()?.life,
            longest_life_s: span(&longest),
            log_bytes_per_write: (writes > 0).then(|| grown / float(writes)),
            trends: trends.collect(),
        })
    }
}

fn trend(figure: &Figure, samples: &[&Sample]) -> Option<Trend> {
    let (begin, end) = (samples.first()?.at_s, samples.last()?.at_s);
    let warm = begin + ((end - begin) / 2.0).min(WARM_UP_S);
    let values: Vec<f64> = samples.iter().filter_map(|it| (figure.of)(it)).collect();
    let fitted = samples.iter().filter(|it| it.at_s >= warm && (it.is_calm || figure.is_file));
    let points: Vec<(f64, f64)> =
        fitted.filter_map(|it| Some((it.at_s / 3_600.0, (figure.of)(it)?))).collect();
    let line = fit(&points);
    let verdict = match (figure.aim, line) {
        (None, _) => Verdict::NoAim,
        (Some(aim), Some(line)) if end - warm >= WINDOW_S_MIN => {
            if line.slope <= aim {
                Verdict::Within
            } else {
                Verdict::Over
            }
        }
        _ => Verdict::TooShort,
    };
    Some(Trend {
        name: figure.name,
        unit: figure.unit,
        first: *values.first()?,
        last: *values.last()?,
        peak: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        slope_per_hour: line.map(|line| line.slope),
        error_per_hour: line.map(|line| line.error),
        fitted: points.len(),
        window_s: (warm - begin, end - begin),
        aim_per_hour: figure.aim,
        verdict,
    })
}

fn span(samples: &[&Sample]) -> f64 {
    match samples {
        [first, .., last] => last.at_s - first.at_s,
        _ => 0.0,
    }
}

fn mebibytes(bytes: u64) -> f64 {
    float(bytes) / f64::from(1 << 20)
}

/// The figures of a soak are far below 2^52.
#[expect(clippy::cast_precision_loss, reason = "they are small enough")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}
