//! A measured figure beside its gate and goal, and the table of them.

/// Something measured that DESIGN.md, section 11, sets a gate for.
#[derive(Debug)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) what: &'static str,
    /// How much it came to.
    pub(crate) value: f64,
    /// In which unit, with what it is compared with.
    pub(crate) unit: &'static str,
    /// What it must reach.
    pub(crate) gate: Target,
    /// What it should reach.
    pub(crate) goal: Target,
}

/// A bound of a figure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// Less is better.
    AtMost(f64),
    /// More is better.
    AtLeast(f64),
}

impl Target {
    fn number(self) -> f64 {
        match self {
            Self::AtMost(bound) | Self::AtLeast(bound) => bound,
        }
    }

    /// How many times the bound is missed; 1 or less when it is kept.
    fn missed_by(self, value: f64) -> f64 {
        match self {
            Self::AtMost(bound) => value / bound,
            Self::AtLeast(bound) => bound / value,
        }
    }
}

/// Prints the figures against what they are to reach.
pub(crate) fn print(figures: &[Figure]) {
    println!("\n{:<58} {:>10} {:>8} {:>8}  verdict", "figure", "measured", "gate", "goal");
    for Figure { what, value, unit, gate, goal } in figures {
        let verdict = if gate.missed_by(*value) > 1.0 {
            format!("GATE MISSED by {:.2}x", gate.missed_by(*value))
        } else if goal.missed_by(*value) > 1.0 {
            format!("gate kept, goal missed by {:.2}x", goal.missed_by(*value))
        } else {
            "goal reached".to_owned()
        };
        println!("{what:<58} {value:>10.2} {:>8} {:>8}  {verdict} ({unit})", gate.number(), goal.number());
    }
}
