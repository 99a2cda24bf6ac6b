//! The figures, as they are written to a file and read again.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::paths::{self, Delivery};

/// What all runs came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScaleReport {
    /// What chance followed from.
    pub seed: u64,
    /// The operations of one run.
    pub operations: usize,
    /// Those in a second.
    pub writes_per_s: u64,
    /// The messages of a thousand that vanished in the time of trouble.
    pub loss: u32,
    /// The peers of a hundred that restarted, and that were replaced, in a minute of trouble.
    pub churn: usize,
    /// One for each number of peers.
    pub runs: Vec<RunReport>,
}

/// What one number of peers came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The peers at the start.
    pub peers: usize,
    /// The connections of a peer in calm: the mean.
    pub links_mean: f64,
    /// The most.
    pub links_max: usize,
    /// The time from the last peer's start until each has enough links, in milliseconds.
    pub mesh_ms: f64,
    /// The bytes that a peer sends in a second when nobody writes.
    pub idle_bytes_per_s: f64,
    /// The time from the end of the partition until every peer had everything, in milliseconds.
    pub converged_ms: f64,
    /// The time from a new peer's start until it had everything, in milliseconds.
    pub joined_ms: f64,
    /// What was measured while something went on, in order.
    pub phases: Vec<PhaseReport>,
    /// The hash of everything that happened. Equal options make equal histories.
    pub history: String,
    /// The simulated time, in seconds.
    pub simulated_s: f64,
    /// The processor's time of the run, in seconds. It differs from run to run.
    pub cpu_s: f64,
    /// That time for each delivery, in microseconds.
    pub cpu_us_per_delivery: f64,
}

/// What went on in a part of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseReport {
    /// Which part.
    pub name: String,
    /// How long it took, with the time until everything had arrived, in simulated seconds.
    pub simulated_s: f64,
    /// The frames that were made; each is one operation.
    pub operations: usize,
    /// The bytes of one, the mean.
    pub frame_bytes: f64,
    /// The frames that had to get to somebody, and did.
    pub deliveries: u64,
    /// The frames that peers were sent.
    pub received: Received,
    /// Frames received for each that had to be delivered; 1 is the least.
    pub redundancy: f64,
    /// Over how many sessions frames came.
    pub hops: Hops,
    /// How long they took.
    pub latency: Latency,
    /// What was sent, whether it arrived or not.
    pub sent: Sent,
    /// Those bytes for each delivery.
    pub bytes_per_delivery: f64,
    /// What was sent, by name.
    pub by_name: BTreeMap<String, Sent>,
}

/// Frames that peers were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// In pushes.
    pub pushed: u64,
    /// In answers to a pull.
    pub answered: u64,
    /// Those in pushes that the peer had, or that waited there for others.
    pub pushed_again: u64,
    /// Those in answers.
    pub answered_again: u64,
}

/// Over how many sessions frames came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hops {
    /// On average.
    pub mean: f64,
    /// One of a hundred took more.
    pub p99: u8,
    /// The most.
    pub max: u8,
}

/// How long frames took to arrive, in milliseconds of simulated time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of them took more.
    pub p50: f64,
    /// One of a hundred took more.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// Messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// How many.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl ScaleReport {
    /// Reads what [`ScaleReport::write`] wrote.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }

    /// Writes the figures as JSON.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, self.to_json())
    }

    /// The figures as JSON.
    ///
    /// # Panics
    /// Never: names are texts and figures are finite.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("figures are written as they are")
    }

    /// The figures without the processor's time: equal options make them equal.
    #[must_use]
    pub fn without_cpu(&self) -> Self {
        let mut report = self.clone();
        report.runs.iter_mut().for_each(|run| (run.cpu_s, run.cpu_us_per_delivery) = (0.0, 0.0));
        report
    }
}

impl RunReport {
    /// A part of the run.
    pub fn phase(&self, name: &str) -> Option<&PhaseReport> {
        self.phases.iter().find(|phase| phase.name == name)
    }

    /// The aim for hops: three times the binary logarithm of the number of peers.
    pub fn hops_aim(&self) -> f64 {
        3.0 * ratio(self.peers as u64, 1).log2()
    }
}

impl Received {
    /// All of them.
    pub const fn all(&self) -> u64 {
        self.pushed + self.answered
    }

    /// Those that brought nothing new.
    pub const fn again(&self) -> u64 {
        self.pushed_again + self.answered_again
    }
}

impl From<paths::Received> for Received {
    fn from(received: paths::Received) -> Self {
        let paths::Received { pushed, answered, pushed_again, answered_again } = received;
        Self { pushed, answered, pushed_again, answered_again }
    }
}

impl Hops {
    pub(super) fn of(deliveries: &[Delivery]) -> Self {
        let mut hops: Vec<u8> = deliveries.iter().map(|delivery| delivery.hops).collect();
        hops.sort_unstable();
        let sum = hops.iter().map(|hops| u64::from(*hops)).sum();
        let mean = ratio(sum, hops.len() as u64);
        Self { mean, p99: at(&hops, 99), max: at(&hops, 100) }
    }
}

impl Latency {
    pub(super) fn of(deliveries: &[Delivery]) -> Self {
        let mut times: Vec<u64> = deliveries.iter().map(|delivery| delivery.latency_us).collect();
        times.sort_unstable();
        let ms = |percent| ratio(at(&times, percent), 1_000);
        Self { p50: ms(50), p99: ms(99), max: ms(100) }
    }
}

impl Sent {
    pub(super) const fn since(self, before: Self) -> Self {
        Self { messages: self.messages - before.messages, bytes: self.bytes - before.bytes }
    }
}

/// The value that so many of a hundred do not exceed.
fn at<T: Copy + Default>(sorted: &[T], percent: usize) -> T {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

/// One number for each of another; 0 where there is none of the other. It is rounded, so that it is read from a
/// file as it was written.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(super) fn ratio(number: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { (number as f64 / of as f64 * 10_000.0).round() / 10_000.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let hundred: Vec<u8> = (1..=100).collect();
        assert_eq!((at(&hundred, 50), at(&hundred, 99), at(&hundred, 100)), (50, 99, 100));
        assert_eq!((at(&[7], 50), at(&[7], 100), at::<u8>(&[], 99)), (7, 7, 0));
    }

    #[test]
    fn report_is_read_as_it_was_written() {
        let phase = PhaseReport { name: "steady".to_owned(), redundancy: 1.25, ..PhaseReport::default() };
        let run = RunReport { peers: 8, phases: vec![phase], cpu_s: 2.0, ..RunReport::default() };
        let report = ScaleReport { seed: 3, runs: vec![run], ..ScaleReport::default() };
        let read: ScaleReport = serde_json::from_str(&report.to_json()).expect("it is JSON");
        assert_eq!(read, report);
        assert!((report.runs[0].hops_aim() - 9.0).abs() < 1e-9);
        assert!(report.without_cpu() != report);
    }
}
