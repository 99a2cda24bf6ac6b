//! Power cuts at every write: after opening again each batch is there whole or not at all, nothing that was
//! acknowledged as durable is lost, and all derived figures are those of the rows.

use std::collections::BTreeMap;

use crate::world::{
    self, Dice, History, SPACES, Turn, all_raft, all_rows, counted, keyspace, name, small_options,
};
use tidelock_engine::mem_store::MemStore;
use tidelock_engine::ports::{CommitError, Log, LogPosition, RaftLog, Store};
use tidelock_store::{Faults, MemDisk, RedbStore, check};

const TURNS: usize = 18;

/// One run: the store is opened, takes the turns of a history, writes its rows now and then.
struct Run {
    history: History,
    /// What the store must hold behind each turn; a place that is no boundary of a batch is missing.
    models: BTreeMap<Place, (usize, MemStore)>,
}

/// Where a store stands: how many frames it has, and how far Raft's log is applied, which is one commit.
type Place = (LogPosition, Option<Vec<u8>>);

fn place(store: &impl Store, raft: &dyn RaftLog) -> Place {
    (store.recovered().position, raft.state().expect("readable").applied)
}

/// How far a run came before the power was cut.
#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    /// The turns that were acknowledged as durable.
    durable: usize,
    /// The turns that were committed at all.
    committed: usize,
}

impl Run {
    fn new(seed: u64) -> Self {
        let history = History::random(seed, TURNS).with_raft(seed, true);
        let models = (0..=history.turns.len()).map(|turns| {
            let model = history.model(turns);
            (place(&model, &*model.raft_log()), (turns, model))
        });
        let models: BTreeMap<_, _> = models.collect();
        assert_eq!(models.len(), history.turns.len() + 1, "each turn leads to a place of its own");
        Self { history, models }
    }

    /// Goes on with the history where the store stands, until something fails.
    fn drive(&self, disk: &MemDisk, mut dice: Dice) -> Reached {
        let mut reached = Reached::default();
        let Ok(mut store) = RedbStore::open(disk, &small_options(self.history.card)) else { return reached };
        let (start, _) = self.models[&place(&store, &store.raft_log())];
        (reached.durable, reached.committed) = (start, start);
        for turn in &self.history.turns[start..] {
            if take(&mut store, turn, &mut dice, &mut reached).is_err() {
                break;
            }
        }
        reached
    }

    fn holds(&self, disk: &MemDisk, reached: Reached, label: &str) {
        self.holds_with_damage(disk, reached, label, false);
    }

    /// Opens the store after a cut and compares it with the model of where it stands. Rows are made again only
    /// if damage was planted: no cut damages them.
    fn holds_with_damage(&self, disk: &MemDisk, reached: Reached, label: &str, is_planted: bool) {
        let store = RedbStore::open(disk, &small_options(self.history.card));
        let store = store.unwrap_or_else(|error| panic!("{label}: {error}"));
        let is_damaged = disk.names().contains(&"rows.redb.damaged".to_owned());
        assert_eq!(is_damaged, is_planted, "{label}: rows were ahead of the log, or not whole");
        let recovered = store.recovered();
        let place = place(&store, &store.raft_log());
        let Some((turns, model)) = self.models.get(&place) else {
            panic!("{label}: half a batch is there: {place:?}");
        };
        assert!(*turns >= reached.durable, "{label}: {turns} turns are there of {reached:?}");
        assert_eq!(recovered, model.recovered(), "{label}");
        assert_eq!(all_raft(&store.raft_log()), all_raft(&*model.raft_log()), "{label}");
        for space in SPACES {
            let rows = all_rows(&store, space);
            assert_eq!(rows, all_rows(model, space), "{label}");
            let summary = store.reader().summary(keyspace(space)).unwrap_or_default();
            let (fingerprint, keys, _) = counted(&rows);
            assert_eq!((summary.fingerprint, summary.keys), (fingerprint, keys), "{label}");
            let heads = recovered.keyspaces.get(&name(space)).map_or(0, |state| state.heads.hash());
            assert_eq!(summary.heads_hash, heads, "{label}");
        }
        let frames = store.records_from(LogPosition(1), usize::MAX).expect("the log can be read");
        assert_eq!(frames.len() as u64, recovered.position.0, "{label}");
    }
}

/// Commits a turn, and sometimes makes it durable or writes rows after it.
fn take(
    store: &mut RedbStore,
    turn: &Turn,
    dice: &mut Dice,
    reached: &mut Reached,
) -> Result<(), CommitError> {
    turn.commit(store, turn.durability())?;
    reached.committed += 1;
    if turn.stays() {
        reached.durable = reached.committed;
    }
    match dice.below(8) {
        0 => store.sync().map(|()| reached.durable = reached.committed),
        1 | 2 => store.materialize(),
        3 => store.flush().map(|()| reached.durable = reached.committed),
        _ => Ok(()),
    }
}

fn sound(disk: &MemDisk, label: &str) {
    let report = check(disk, &mut |_| {}).unwrap_or_else(|error| panic!("{label}: {error}"));
    assert_eq!(report.findings, [], "{label}");
}

/// The number of changes that a run makes to its disk when nothing fails.
fn changes(run: &Run, seed: u64) -> u64 {
    let disk = MemDisk::new();
    run.drive(&disk, Dice(seed));
    disk.changes()
}

fn cut_at(run: &Run, seed: u64, at: u64) -> (MemDisk, Reached) {
    let disk = MemDisk::new();
    disk.set_faults(Faults { changes_until_power_cut: Some(at), ..Faults::default() });
    let reached = run.drive(&disk, Dice(seed));
    disk.crash(at);
    (disk, reached)
}

#[test]
fn power_cut_at_any_write_leaves_whole_batches_and_loses_nothing_durable() {
    let mut points = 0;
    let mut lost_buffered = 0;
    for seed in 0..3 {
        let run = Run::new(seed);
        let total = changes(&run, seed);
        for at in (0..total).step_by(usize::try_from(total / 105).expect("small").max(1)) {
            let label = format!("seed {seed}, cut at change {at} of {total}");
            let (disk, reached) = cut_at(&run, seed, at);
            run.holds(&disk, reached, &label);
            if points % 16 == 0 {
                sound(&disk, &label);
            }
            lost_buffered += usize::from(reached.committed > reached.durable);
            points += 1;
        }
    }
    let seeds: Vec<_> = (0..3).map(|seed| Run::new(seed).history).collect();
    let turns = || seeds.iter().flat_map(|history| &history.turns);
    let of_raft = turns().filter(|turn| !turn.raft.is_empty()).count();
    let alone = turns().filter(|turn| !turn.raft.is_empty() && turn.frames.is_empty()).count();
    assert!(of_raft >= 20 && alone >= 5, "{of_raft} turns with writes of Raft, {alone} of them alone");
    println!("{points} crash points, {lost_buffered} of them with frames that were only buffered");
    assert!(points >= 300, "only {points} crash points");
    assert!(lost_buffered >= 30, "only {lost_buffered} cuts met buffered frames");
}

#[test]
fn power_cut_while_recovering_from_a_power_cut_is_recovered_from() {
    let run = Run::new(5);
    let total = changes(&run, 5);
    let mut points = 0;
    for at in (0..total).step_by(usize::try_from(total / 10).expect("small").max(1)) {
        for again in 0..8 {
            let label = format!("cut at change {at} of {total}, again at {}", again * 6);
            let (disk, reached) = cut_at(&run, 5, at);
            disk.set_faults(Faults { changes_until_power_cut: Some(again * 6), ..Faults::default() });
            let further = run.drive(&disk, Dice(again));
            disk.crash(again);
            let durable = reached.durable.max(further.durable);
            run.holds(&disk, Reached { durable, ..further }, &label);
            // What was cut short goes on to the end as if nothing had happened.
            run.drive(&disk, Dice(again));
            run.holds(&disk, Reached { durable: run.history.turns.len(), ..further }, &label);
            points += 1;
        }
    }
    assert!(points >= 80, "only {points} points");
    println!("{points} double crash points");
}

#[test]
fn killed_process_loses_nothing_that_was_written() {
    for seed in 10..14 {
        let run = Run::new(seed);
        let disk = MemDisk::new();
        let reached = run.drive(&disk, Dice(seed));
        disk.kill();
        run.holds(&disk, reached, "killed");
        sound(&disk, "killed");
    }
}

/// The checker is proven: rows that are ahead of the log, as a store would leave them that synced its rows
/// before its log, are seen and made again.
#[test]
fn rows_ahead_of_the_log_are_made_again() {
    let run = Run::new(3);
    let (long, short) = (MemDisk::new(), MemDisk::new());
    for (disk, turns) in [(&long, TURNS), (&short, 5)] {
        let mut store = world::open(disk, run.history.card);
        for turn in &run.history.turns[..turns] {
            turn.commit(&mut store, turn.durability()).expect("nothing fails");
        }
        store.flush().expect("nothing fails");
    }
    short.write("rows.redb", &long.read("rows.redb"));
    let report = check(&short, &mut |_| {}).expect("the store can be checked");
    assert!(report.findings.iter().any(|finding| finding.what.contains("ahead of the log")), "{report:?}");
    run.holds_with_damage(&short, Reached::default(), "rows ahead", true);
    sound(&short, "rows made again");
}
