//! Runs of many seeds: one seed, one world; a failure prints the command that replays it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What a family of worlds is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flavour {
    pub(crate) name: &'static str,
    pub(crate) replicas_max: usize,
    pub(crate) events_max: usize,
    /// Only registers, increments and deletes, so that counters meet resets all the time.
    pub(crate) is_counting: bool,
    /// How often a replica is restarted, in percent of events.
    pub(crate) restarts: usize,
    pub(crate) seeds: u64,
}

/// What has been seen over all worlds of a run, to show that it was no idle run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    pub(crate) operations: usize,
    pub(crate) refused: usize,
    pub(crate) applied: u64,
    pub(crate) early: u64,
    pub(crate) duplicates: u64,
    pub(crate) cut_frames: usize,
    pub(crate) restarts: usize,
    pub(crate) spent_slots: usize,
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs all seeds of a flavour; a failure names the seed and how to replay it.
pub(crate) fn campaign(flavour: Flavour, run: impl Fn(u64) -> Result<Work, String>) {
    let from = setting("FIRST_SEED", 0);
    let mut total = Work::default();
    for seed in from..from + setting("SEEDS", flavour.seeds) {
        let outcome = catch_unwind(AssertUnwindSafe(|| run(seed)));
        let replay = format!(
            "SEEDS=1 FIRST_SEED={seed} cargo nextest run -p tidelock-engine --test it oracle::{}",
            flavour.name
        );
        match outcome {
            Ok(Ok(work)) => total.add(work),
            Ok(Err(error)) => panic!("{error}\nreplay: {replay}"),
            Err(panic) => {
                println!("replay: {replay}");
                resume_unwind(panic);
            }
        }
    }
    println!("{}: {total:?}", flavour.name);
    if setting("SEEDS", flavour.seeds) >= flavour.seeds {
        total.assert_floor(flavour);
    }
}

impl Work {
    fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.refused += other.refused;
        self.applied += other.applied;
        self.early += other.early;
        self.duplicates += other.duplicates;
        self.cut_frames += other.cut_frames;
        self.restarts += other.restarts;
        self.spent_slots += other.spent_slots;
    }

    /// An idle run proves nothing.
    fn assert_floor(&self, flavour: Flavour) {
        let seeds = usize::try_from(flavour.seeds).expect("few");
        assert!(self.operations > 8 * seeds, "{self:?}");
        assert!(self.applied > 8 * flavour.seeds, "{self:?}");
        assert!(self.early > flavour.seeds / 2, "{self:?}");
        assert!(self.duplicates > flavour.seeds, "{self:?}");
        assert!(self.cut_frames > seeds / 20, "{self:?}");
        assert!(self.spent_slots > seeds / 10, "{self:?}");
    }
}
