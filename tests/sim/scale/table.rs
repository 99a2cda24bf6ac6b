//! The figures as tables for people, alone and beside earlier ones.

use std::fmt::Write as _;

use super::report::{PhaseReport, RunReport, ScaleReport, ratio};

/// A figure of a part of a run that is compared: its name, and how it is taken.
type Figure = (&'static str, fn(&PhaseReport) -> f64);

/// The figures of a part that are compared. Less is better in each.
const FIGURES: [Figure; 6] = [
    ("redundancy", |phase| phase.redundancy),
    ("hops, mean", |phase| phase.hops.mean),
    ("hops, most", |phase| f64::from(phase.hops.max)),
    ("bytes a delivery", |phase| phase.bytes_per_delivery),
    ("latency p50, ms", |phase| phase.latency.p50),
    ("latency p99, ms", |phase| phase.latency.p99),
];

/// A figure of a run that is compared.
type Whole = (&'static str, fn(&RunReport) -> f64);

/// The figures of a run that are compared. Less is better in each.
const WHOLE: [Whole; 4] = [
    ("idle bytes a second", |run| run.idle_bytes_per_s),
    ("converged, ms", |run| run.converged_ms),
    ("joined, ms", |run| run.joined_ms),
    ("processor us a delivery", |run| run.cpu_us_per_delivery),
];

/// The figures of all runs.
pub(super) fn of(report: &ScaleReport) -> String {
    let mut told = format!(
        "seed {}, {} operations a run, {} a second\n\n",
        report.seed, report.operations, report.writes_per_s
    );
    told.push_str(&phases(report));
    told.push_str(&sent(report));
    told.push_str(&runs(report));
    told
}

/// What a part came to, for whoever waits for the next.
pub(super) fn line(peers: usize, phase: &PhaseReport) -> String {
    let PhaseReport { name, simulated_s, redundancy, hops, bytes_per_delivery, .. } = phase;
    format!(
        "{peers} peers, {name}: {simulated_s:.0} s, redundancy {redundancy:.3}, hops {:.2} and at most {}, \
         {bytes_per_delivery:.0} bytes a delivery, p99 {:.0} ms",
        hops.mean, hops.max, phase.latency.p99
    )
}

fn phases(report: &ScaleReport) -> String {
    let mut told = String::from(
        "                           received            pushes    answers      again     hops of 3 log n     \
         bytes a delivery  latency, ms\n   peers part         ops   per op, peer  \
         redundancy   a delivery  a delivery  a delivery    mean  p99  max   aim    sent   frame     p50     \
         p99      max\n",
    );
    for run in &report.runs {
        for phase in &run.phases {
            let needed = phase.operations as u64 * (run.peers as u64 - 1);
            let each = |count| ratio(count, phase.deliveries);
            let _ = writeln!(
                told,
                "{:>8} {:<9}{:>7}{:>15.3}{:>12.3}{:>13.3}{:>12.3}{:>12.3}{:>8.2}{:>5}{:>5}{:>6.1}{:>8.0}\
                 {:>8.0}{:>8.0}{:>8.0}{:>9.0}",
                run.peers,
                phase.name,
                phase.operations,
                ratio(phase.received.all(), needed),
                phase.redundancy,
                each(phase.received.pushed),
                each(phase.received.answered),
                each(phase.received.again()),
                phase.hops.mean,
                phase.hops.p99,
                phase.hops.max,
                run.hops_aim(),
                phase.bytes_per_delivery,
                phase.frame_bytes,
                phase.latency.p50,
                phase.latency.p99,
                phase.latency.max,
            );
        }
    }
    told
}

/// What the bytes of the calm part are.
fn sent(report: &ScaleReport) -> String {
    let mut told = String::from("\nin calm, a delivery takes (bytes; messages):\n");
    for run in &report.runs {
        let Some(phase) = run.phase("steady") else { continue };
        let _ = write!(told, "{:>8}", run.peers);
        for (name, sent) in &phase.by_name {
            let (bytes, messages) =
                (ratio(sent.bytes, phase.deliveries), ratio(sent.messages, phase.deliveries));
            let _ = write!(told, "  {name} {bytes:.1}; {messages:.3}");
        }
        told.push('\n');
    }
    told
}

fn runs(report: &ScaleReport) -> String {
    let mut told = String::from(
        "\n   peers  links  most     mesh  idle, bytes  converged     joined   processor\n                     \
         (ms)    a second       (ms)       (ms)  us a delivery\n",
    );
    for run in &report.runs {
        let _ = writeln!(
            told,
            "{:>8}{:>7.1}{:>6}{:>9.0}{:>13.0}{:>11.0}{:>11.0}{:>12.1}",
            run.peers,
            run.links_mean,
            run.links_max,
            run.mesh_ms,
            run.idle_bytes_per_s,
            run.converged_ms,
            run.joined_ms,
            run.cpu_us_per_delivery,
        );
    }
    told
}

/// The figures of two reports beside each other, for the numbers of peers that are in both.
pub(super) fn compare(before: &ScaleReport, after: &ScaleReport) -> String {
    let mut told = format!(
        "\n{:>8} {:<10}{:<24}{:>12}{:>12}{:>9}\n",
        "peers", "part", "figure", "before", "after", "ratio"
    );
    let mut line = |peers: usize, part: &str, name: &str, (before, after): (f64, f64)| {
        let times = if before == 0.0 { "-".to_owned() } else { format!("{:.3}", after / before) };
        let _ = writeln!(told, "{peers:>8} {part:<10}{name:<24}{before:>12.2}{after:>12.2}{times:>9}");
    };
    for run in &after.runs {
        let Some(earlier) = before.runs.iter().find(|earlier| earlier.peers == run.peers) else { continue };
        for phase in &run.phases {
            let Some(earlier) = earlier.phase(&phase.name) else { continue };
            for (name, figure) in FIGURES {
                line(run.peers, &phase.name, name, (figure(earlier), figure(phase)));
            }
        }
        for (name, figure) in WHOLE {
            line(run.peers, "all", name, (figure(earlier), figure(run)));
        }
    }
    if before.runs.is_empty() || (before.seed, before.operations) != (after.seed, after.operations) {
        told.push_str("the options differ, so the figures need not be comparable\n");
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::Hops;

    fn report(redundancy: f64) -> ScaleReport {
        let hops = Hops { mean: 3.0, p99: 5, max: 6 };
        let phase = PhaseReport { name: "steady".to_owned(), redundancy, hops, ..PhaseReport::default() };
        let run = RunReport { peers: 10, phases: vec![phase], ..RunReport::default() };
        ScaleReport { runs: vec![run], ..ScaleReport::default() }
    }

    #[test]
    fn comparison_tells_the_ratio_of_what_both_measured() {
        let told = compare(&report(2.0), &report(1.5));
        let line = told.lines().find(|line| line.contains("redundancy")).expect("it is compared");
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["10", "steady", "redundancy", "2.00", "1.50", "0.750"]);
        let zero = told.lines().find(|line| line.contains("joined")).expect("it is compared");
        assert!(zero.ends_with('-'), "{zero}");
    }
}
