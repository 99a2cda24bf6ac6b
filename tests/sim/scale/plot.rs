//! The figures as a drawing: how each grows with the number of peers, which stands on a logarithmic axis.

use std::fmt::Write as _;

use super::report::{RunReport, ScaleReport};

/// The size of one small plot and the room around it, in pixels.
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 56.0;

/// The colours of lines, in order; they differ in lightness too.
const COLOURS: [&str; 4] = ["#1b5e8c", "#d1791f", "#4d9a4d", "#a03f6b"];

/// A line of a plot: its name, whether it is an aim, and its value in a run.
type Line = (&'static str, bool, fn(&RunReport) -> Option<f64>);

/// What is drawn together.
struct Plot {
    title: &'static str,
    lines: &'static [Line],
}

const PLOTS: [Plot; 4] = [
    Plot {
        title: "frames received per frame needed",
        lines: &[
            ("calm", false, |run| run.phase("steady").map(|phase| phase.redundancy)),
            ("churn", false, |run| run.phase("churn").map(|phase| phase.redundancy)),
            ("partition", false, |run| run.phase("partition").map(|phase| phase.redundancy)),
            ("aim", true, |_| Some(1.5)),
        ],
    },
    Plot {
        title: "hops of a frame",
        lines: &[
            ("mean", false, |run| run.phase("steady").map(|phase| phase.hops.mean)),
            ("99 of 100", false, |run| run.phase("steady").map(|phase| f64::from(phase.hops.p99))),
            ("most", false, |run| run.phase("steady").map(|phase| f64::from(phase.hops.max))),
            ("3 log n", true, |run| Some(run.hops_aim())),
        ],
    },
    Plot {
        title: "bytes sent per delivery",
        lines: &[
            ("calm", false, |run| run.phase("steady").map(|phase| phase.bytes_per_delivery)),
            ("churn", false, |run| run.phase("churn").map(|phase| phase.bytes_per_delivery)),
            ("the frame", true, |run| run.phase("steady").map(|phase| phase.frame_bytes)),
        ],
    },
    Plot {
        title: "seconds until all is there",
        lines: &[
            ("after a partition", false, |run| Some(run.converged_ms / 1_000.0)),
            ("at a new peer", false, |run| Some(run.joined_ms / 1_000.0)),
            ("99 of 100 in calm", false, |run| run.phase("steady").map(|phase| phase.latency.p99 / 1_000.0)),
        ],
    },
];

/// The drawing of a report; what was measured before is drawn pale beside it.
pub(super) fn of(report: &ScaleReport, before: Option<&ScaleReport>) -> String {
    let (width, height) = (LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM);
    let mut drawn = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        2.0 * width,
        2.0 * height
    );
    for (number, plot) in PLOTS.iter().enumerate() {
        let x = if number % 2 == 0 { 0.0 } else { width };
        let y = if number < 2 { 0.0 } else { height };
        let _ = writeln!(drawn, "<g transform=\"translate({:.0} {:.0})\">", x + LEFT, y + TOP);
        Frame::around(report, before, plot).draw(&mut drawn, report, before);
        drawn.push_str("</g>\n");
    }
    drawn.push_str("</svg>\n");
    drawn
}

/// One plot with the range of its axes.
struct Frame<'a> {
    plot: &'a Plot,
    /// The logarithms of the fewest and the most peers.
    peers: (f64, f64),
    /// What the upper end stands for, and the distance of the marks on the way there.
    most: f64,
    step: f64,
}

impl<'a> Frame<'a> {
    fn around(report: &ScaleReport, before: Option<&ScaleReport>, plot: &'a Plot) -> Self {
        let runs = || before.into_iter().chain([report]).flat_map(|report| &report.runs);
        let logarithms = || runs().map(logarithm);
        let least = logarithms().fold(f64::INFINITY, f64::min);
        let most = logarithms().fold(f64::NEG_INFINITY, f64::max);
        // A single number of peers stands in the middle.
        let peers = if most > least { (least, most) } else { (most - 1.0, most + 1.0) };
        let values = runs().flat_map(|run| plot.lines.iter().filter_map(|(_, _, value)| value(run)));
        let highest = values.fold(1e-3, f64::max) * 1.05;
        let power = 10_f64.powf((highest / 4.0).log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
        let step = steps.into_iter().find(|step| highest / step <= 6.0).unwrap_or(10.0 * power);
        Self { plot, peers, most: (highest / step).ceil() * step, step }
    }

    fn x(&self, run: &RunReport) -> f64 {
        WIDTH * (logarithm(run) - self.peers.0) / (self.peers.1 - self.peers.0)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT * (1.0 - value / self.most)
    }

    fn draw(&self, drawn: &mut String, report: &ScaleReport, before: Option<&ScaleReport>) {
        let title = self.plot.title;
        let _ = writeln!(drawn, "<text x=\"0\" y=\"-14\" font-size=\"13\">{title}</text>");
        let mut mark = 0.0;
        while mark <= self.most * 1.001 {
            let y = self.y(mark);
            let _ = writeln!(
                drawn,
                "<line x1=\"0\" y1=\"{y:.1}\" x2=\"{WIDTH}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"-6\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                y + 4.0,
                short(mark)
            );
            mark += self.step;
        }
        for run in &report.runs {
            let (x, peers) = (self.x(run), run.peers);
            let _ = writeln!(
                drawn,
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{peers} peers</text>",
                HEIGHT + 16.0
            );
        }
        let mut next = 0.0;
        for (number, line) in self.plot.lines.iter().enumerate() {
            let colour = if line.1 { "#888" } else { COLOURS[number % COLOURS.len()] };
            if let Some(before) = before {
                self.line(drawn, before, line, (colour, 0.35));
            }
            self.line(drawn, report, line, (colour, 1.0));
            let y = HEIGHT + 36.0;
            let _ = writeln!(
                drawn,
                "<rect x=\"{next:.0}\" y=\"{:.0}\" width=\"10\" height=\"3\" fill=\"{colour}\"/>\
                 <text x=\"{:.0}\" y=\"{y:.0}\">{}</text>",
                y - 5.0,
                next + 14.0,
                line.0
            );
            next += 26.0 + 6.2 * f64::from(u32::try_from(line.0.len()).unwrap_or(0));
        }
    }

    fn line(&self, drawn: &mut String, report: &ScaleReport, line: &Line, (colour, opacity): (&str, f64)) {
        let (_, is_aim, value) = line;
        let points: Vec<(f64, f64)> =
            report.runs.iter().filter_map(|run| Some((self.x(run), self.y(value(run)?)))).collect();
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let dashes = if *is_aim { " stroke-dasharray=\"5 4\"" } else { "" };
        let _ = writeln!(
            drawn,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" \
             opacity=\"{opacity}\"{dashes}/>",
            path.join(" ")
        );
        for (x, y) in points.iter().filter(|_| !is_aim) {
            let _ = writeln!(
                drawn,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\" opacity=\"{opacity}\"/>"
            );
        }
    }
}

fn logarithm(run: &RunReport) -> f64 {
    f64::from(u32::try_from(run.peers).unwrap_or(u32::MAX)).log10()
}

/// A mark of an axis without what rounding left behind.
fn short(mark: f64) -> String {
    let text = format!("{mark:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_short() {
        assert_eq!([0.0, 0.2, 1.5, 30.0].map(short), ["0", "0.2", "1.5", "30"]);
    }

    #[test]
    fn one_number_of_peers_is_drawn_too() {
        let run = RunReport { peers: 10, converged_ms: 800.0, ..RunReport::default() };
        let drawn = of(&ScaleReport { runs: vec![run], ..ScaleReport::default() }, None);
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
        assert_eq!(drawn.matches("<g ").count(), drawn.matches("</g>").count());
    }
}
