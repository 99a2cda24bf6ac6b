//! Power cuts by the thousand over one whole node: real engine, real turns, real store.
//!
//! Clients write until the power goes at some change to the disk, in the middle of a commit, of writing rows, of
//! a sync, of opening or of recovering; what was not synced is kept, lost or torn at 512 bytes. Then the node
//! starts, and the world checks that its log and rows are whole and that nothing durable is lost. A disk is used
//! for so many cuts, because its log grows; then the next seed begins with an empty one.

mod many;

use std::fmt;

use tidelock_engine::ports::Durability;
use tidelock_engine::replica::Input;
use tidelock_engine::request::{ActionReply, RequestReply};
use tidelock_store::schema::{ROWS_FILE, ROWS_FILE_ASIDE};
use tidelock_store::{Disk, Faults, OpenError};

pub use self::many::play_many;
use crate::ledger::Violation;

use crate::node::{End, START_MS};
use crate::random::Random;
use crate::tally::Tally;
use crate::trace::{Telling, Trace};
use crate::workload::Workload;
use crate::world::World;

/// The cuts on one disk, after which the next one begins.
pub const CUTS_PER_DISK: u64 = 100;

/// What stands for a scenario's name where seeds are written down, and the command that plays them.
pub const NAME: &str = "power-cuts";

/// The one node.
const NODE: &str = "a";

/// The changes to the disk from a start to the cut, at most. A commit is about ten, writing rows about thirty.
const CHANGES_MAX: usize = 40;

/// The changes to the disk while it is opened, at most, before a cut there. What is longer is no cut.
const OPENING_MAX: u64 = 30;

/// The changes before such a cut when all rows are made again: about forty until they are applied.
const REMAKING: (u64, u64) = (25, 55);

/// What differs between disks: after how many of a thousand turns rows are written, and the number of keys.
const DISKS: [(u32, usize); 3] = [(0, 200), (100, 4), (300, 4)];

/// The requests before the first cut on disks where only a full overlay is written: so many that rows that are
/// made again are written and synced while they are.
const REQUESTS_BEFORE: usize = 600;

/// Where the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// A turn was committed.
    Commit,
    /// Rows were written from memory to `rows.redb`.
    Materialization,
    /// Buffered commits were synced.
    Sync,
    /// The files were opened and repaired.
    Opening,
    /// Rows that the log had and `rows.redb` had not were applied and written.
    Recovery,
    /// Nothing was written.
    Idle,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Commit, Self::Materialization, Self::Sync, Self::Opening, Self::Recovery, Self::Idle];

    /// Under which name its cuts are counted.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Commit => "cuts in a commit",
            Self::Materialization => "cuts in a materialization",
            Self::Sync => "cuts in a sync of buffered writes",
            Self::Opening => "cuts while opening",
            Self::Recovery => "cuts while recovering",
            Self::Idle => "cuts between writes",
        }
    }
}

/// What a disk, or many, came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CutReport {
    /// The cuts by phase, and what else was counted.
    pub tally: Tally,
}

impl CutReport {
    /// The power cuts of all phases.
    pub fn cuts(&self) -> u64 {
        Phase::ALL.iter().map(|phase| self.tally.get(phase.name())).sum()
    }

    /// Adds what another one counted.
    pub fn join(&mut self, other: &Self) {
        self.tally.join(&other.tally);
    }
}

impl fmt::Display for CutReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>10}  power cuts", self.cuts())?;
        self.tally.iter().try_for_each(|(name, count)| writeln!(f, "{count:>10}  {name}"))
    }
}

/// Plays the disk of a seed: [`CUTS_PER_DISK`] cuts.
///
/// # Panics
/// If something durable is lost or damaged.
pub fn play(seed: u64, telling: Telling) -> CutReport {
    let mut story = Story::new(seed, telling);
    while story.report.cuts() < CUTS_PER_DISK {
        story.live();
        story.fail_to_open();
        story.world.start(NODE);
        story.has_nothing_aside();
    }
    story.end()
}

/// The life and deaths of one node.
struct Story {
    world: World,
    random: Random,
    workload: Workload,
    requests: u64,
    report: CutReport,
}

impl Story {
    fn new(seed: u64, telling: Telling) -> Self {
        let mut world = World::new(seed);
        world.trace = Trace::new(telling);
        world.replay = format!("cargo sim {NAME} --seed {seed}");
        let random = world.random.fork();
        let (materializing, keys) = DISKS[usize::try_from(seed % 3).expect("below three")];
        world.materializing = materializing;
        world.add(NODE);
        let workload = Workload { buffered: 300, keys, ..Workload::ALL_KINDS };
        let mut story = Self { world, random, workload, requests: 0, report: CutReport::default() };
        if materializing == 0 {
            (0..REQUESTS_BEFORE).for_each(|_| story.request());
        }
        story
    }

    /// Clients write until the power goes.
    fn live(&mut self) {
        let is_idle = self.random.chance(50);
        if is_idle {
            (0..self.random.below(4)).for_each(|_| self.request());
            self.world.lose_power(NODE);
            self.report.tally.count(Phase::Idle.name());
            return;
        }
        let changes = self.random.below(CHANGES_MAX) as u64;
        self.world.plan_power_cut(NODE, changes);
        while self.world.nodes[0].is_running() {
            let before = self.world.tally.clone();
            if self.random.chance(250) {
                let ms = self.random.between(1, 120);
                self.world.run(ms);
            } else {
                self.request();
            }
            if !self.world.nodes[0].is_running() {
                let phase = self.phase_since(&before);
                self.report.tally.count(phase.name());
            }
        }
    }

    /// Where the power went, by what was begun since: a store that failed begins nothing more.
    fn phase_since(&self, before: &Tally) -> Phase {
        let is_new = |name| self.world.tally.get(name) > before.get(name);
        if is_new("turns that were not committed") {
            Phase::Commit
        } else if is_new("materializations") {
            Phase::Materialization
        } else if is_new("syncs of buffered writes") {
            Phase::Sync
        } else {
            Phase::Commit
        }
    }

    fn request(&mut self) {
        self.requests += 1;
        let request = self.workload.request(&mut self.random, self.requests, START_MS);
        let durability = request.durability;
        let id = self.world.next_request();
        let outcome = self.world.turn(0, vec![Input::Request(id, request)]);
        let name = match durability {
            Durability::Durable => "durable writes acknowledged",
            Durability::Buffered => "buffered writes acknowledged",
        };
        let acknowledged = outcome.replies.iter().map(|(_, reply)| acknowledged(reply)).sum();
        self.report.tally.add(name, acknowledged);
    }

    /// The power goes again while the store is opened, perhaps several times. Now and then somebody has removed
    /// the rows, as is advised when they are damaged, and all of them are made again from the log.
    fn fail_to_open(&mut self) {
        let remakes = self.world.materializing == 0 && self.random.chance(300);
        while self.random.chance(400) {
            let node = &self.world.nodes[0];
            if remakes {
                node.disk().remove(ROWS_FILE).expect("nothing fails yet");
                self.report.tally.count("rows removed");
            }
            let (least, most) = if remakes { REMAKING } else { (0, OPENING_MAX) };
            let changes = self.random.between(least, most);
            let cut = Faults { changes_until_power_cut: Some(changes), ..Faults::default() };
            node.disk().set_faults(cut);
            let opened = node.backing.open(node.config.cluster, node.card);
            let phase = match &opened {
                Ok(_) => None,
                Err(OpenError::Commit(_)) => Some(Phase::Recovery),
                Err(_) => Some(Phase::Opening),
            };
            // The disk goes first: what the store would still write while it closes comes too late.
            node.disk().crash(self.random.next());
            drop(opened);
            self.report.tally.count(phase.unwrap_or(Phase::Idle).name());
        }
    }

    /// A power cut damages no file, so rows are never moved aside.
    fn has_nothing_aside(&self) {
        if self.world.nodes[0].disk().names().iter().any(|name| name == ROWS_FILE_ASIDE) {
            self.world.fail(0, &Violation::new("a power cut damages nothing", "rows were moved aside"));
        }
    }

    /// The last look at the disk: every page, frame and row is verified.
    fn end(mut self) -> CutReport {
        self.world.end(0, End::Killed);
        let report = tidelock_store::check(self.world.nodes[0].disk(), &mut |_| {});
        let report = match report {
            Ok(report) if report.findings.is_empty() => report,
            other => {
                let detail = format!("{other:?}");
                self.world.fail(0, &Violation::new("a power cut damages nothing", detail))
            }
        };
        let tally = &mut self.report.tally;
        tally.add("frames verified at the end", report.frames);
        tally.count("disks");
        for name in ["buffered writes lost", "states checked", "starts", "materializations"] {
            tally.add(name, self.world.tally.get(name));
        }
        self.report
    }
}

/// How many writes were answered as done.
fn acknowledged(reply: &RequestReply) -> u64 {
    let Ok(replies) = reply else { return 0 };
    replies.iter().filter(|reply| matches!(reply, Ok(ActionReply::Outcome(_)))).count() as u64
}
