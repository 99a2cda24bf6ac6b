//! The properties that hold at every node after every turn, one function each.
//!
//! Each was proven by breaking the code once: `tests/README.md` lists what was broken and what caught it.
//! What concerns single frames, such as causal order, is checked where frames are taken in: [`crate::ledger`].

use tidelock_engine::id::KeyspaceId;
use tidelock_engine::ports::Rows;
use tidelock_engine::row::Fingerprint;

use crate::answers::Shown;
use crate::bits::Bits;
use crate::ledger::{Applied, Expiring, Space, Violation};
use crate::observed::{self, RowList};
use crate::specification::{KeyReads, Reads};
use crate::store::SimStore;

/// One keyspace at one node, as it is and as it must be.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The node's store.
    pub store: &'a SimStore,
    /// What the node has applied, as its log says.
    pub applied: &'a Applied,
    /// The fingerprint of all rows that it shows.
    pub shown: Fingerprint,
    /// The rows of honest authors among them.
    pub rows: &'a RowList,
    /// What follows from these rows.
    pub got: Reads,
    /// What follows from what it has applied.
    pub expected: Reads,
    /// What of that it shows by the clock that it goes by.
    pub expected_shown: Shown,
    /// Whether somebody writes there who does not keep the rules.
    pub is_hostile: bool,
}

/// A property of one keyspace at one node.
pub type Property = fn(&Subject<'_>) -> Result<(), String>;

/// All of them, by what they say.
pub const PROPERTIES: [(&str, Property); 9] = [
    ("log, overlay and rows agree", log_and_rows_agree),
    ("counters equal the sum of distinct increments", counters_equal_increments),
    ("nothing deleted comes back", nothing_deleted_comes_back),
    ("what was written and not deleted is there: add wins", add_wins),
    ("all siblings of a register are those that nobody saw", registers_keep_siblings),
    ("all deadlines of a key are those that nobody saw", deadlines_stand),
    ("a replica has one slot in a counter", one_slot_each),
    ("queries answer what the rows say", queries_answer),
    ("derived figures are those of the rows", derived_figures),
];

/// Equal heads, equal rows: whoever had them, whenever.
///
/// # Errors
/// Somebody had other rows under these heads.
pub fn rows_are_a_function_of_the_vector(
    space: &mut Space,
    heads: u128,
    rows: Fingerprint,
) -> Result<bool, Violation> {
    let known = space.rows_at.insert(heads, rows.to_bits());
    match known {
        None => Ok(false),
        Some(known) if known == rows.to_bits() => Ok(true),
        Some(known) => {
            let detail = format!("fingerprints {known:032x} and {:032x} under equal heads", rows.to_bits());
            Err(Violation::new("rows are a function of the version vector", detail))
        }
    }
}

/// What was durable once is applied.
///
/// # Errors
/// Something was lost.
pub fn nothing_kept_is_lost(kept: &Bits, applied: &Bits, forgiven: &Bits) -> Result<(), Violation> {
    let lost: Vec<usize> = kept.without(applied).without(forgiven).iter().collect();
    if lost.is_empty() {
        return Ok(());
    }
    Err(Violation::new("nothing acknowledged is lost", format!("lost operations {lost:?}")))
}

/// Keys expire when their deadlines are past, and stay so while nobody sets others, from the end of one turn to that of
/// the next. `now_ms` is the node's clock if it looked at it in between, in Unix milliseconds.
///
/// # Errors
/// A key came back, or is still there.
pub fn expired_stays_expired(
    before: &Expiring,
    after: &Expiring,
    now_ms: Option<u64>,
) -> Result<(), Violation> {
    for (key, deadlines) in &before.deadlines {
        let Some((deadline_ms, _)) = deadlines.last().filter(|_| after.deadlines.get(key) == Some(deadlines))
        else {
            continue;
        };
        if *deadline_ms <= after.clock_ms {
            continue;
        }
        let (was_ms, is_ms) = (before.clock_ms, after.clock_ms);
        let key = String::from_utf8_lossy(key);
        let detail = format!("{key}: {deadline_ms}, by {was_ms} before, by {is_ms} now, at {now_ms:?}");
        if *deadline_ms <= was_ms {
            return Err(Violation::new("what has expired does not come back", detail));
        }
        if now_ms.is_some_and(|now_ms| *deadline_ms <= now_ms) {
            return Err(Violation::new("what is past its deadline has expired", detail));
        }
    }
    Ok(())
}

fn log_and_rows_agree(subject: &Subject<'_>) -> Result<(), String> {
    let Some(store) = subject.store.redb() else { return Ok(()) };
    let summary = store.reader().summary(subject.keyspace).ok_or("the keyspace is not there")?;
    same("heads", summary.heads_hash, subject.applied.heads.hash())?;
    same("fingerprint", summary.fingerprint, subject.shown)
}

fn counters_equal_increments(subject: &Subject<'_>) -> Result<(), String> {
    each_key(subject, |key, got, expected| same(key, got.counted, expected.counted))
}

fn nothing_deleted_comes_back(subject: &Subject<'_>) -> Result<(), String> {
    each_key(subject, |key, got, expected| {
        let back: Vec<_> = got.elements.difference(&expected.elements).collect();
        let fields: Vec<_> =
            got.fields.keys().filter(|field| !expected.fields.contains_key(*field)).collect();
        let values: Vec<_> = got.register.difference(&expected.register).collect();
        if back.is_empty() && fields.is_empty() && values.is_empty() {
            return Ok(());
        }
        Err(format!("{key}: {back:?} {fields:?} {values:?}"))
    })
}

fn add_wins(subject: &Subject<'_>) -> Result<(), String> {
    each_key(subject, |key, got, expected| {
        let lost: Vec<_> = expected.elements.difference(&got.elements).collect();
        let fields: Vec<_> =
            expected.fields.keys().filter(|field| !got.fields.contains_key(*field)).collect();
        let values: Vec<_> = expected.register.difference(&got.register).collect();
        if lost.is_empty() && fields.is_empty() && values.is_empty() {
            return Ok(());
        }
        Err(format!("{key}: {lost:?} {fields:?} {values:?}"))
    })
}

fn registers_keep_siblings(subject: &Subject<'_>) -> Result<(), String> {
    each_key(subject, |key, got, expected| {
        same(key, &got.register, &expected.register)?;
        same(key, &got.fields, &expected.fields)?;
        same(key, &got.scores, &expected.scores)
    })
}

fn deadlines_stand(subject: &Subject<'_>) -> Result<(), String> {
    each_key(subject, |key, got, expected| same(key, &got.deadlines, &expected.deadlines))
}

fn one_slot_each(subject: &Subject<'_>) -> Result<(), String> {
    if observed::has_two_slots(subject.rows) { Err("two slots".to_owned()) } else { Ok(()) }
}

fn queries_answer(subject: &Subject<'_>) -> Result<(), String> {
    if subject.is_hostile {
        return Ok(());
    }
    observed::check_queries(subject.store, subject.keyspace, &subject.expected_shown)
}

fn derived_figures(subject: &Subject<'_>) -> Result<(), String> {
    let Some(store) = subject.store.redb() else { return Ok(()) };
    if subject.is_hostile {
        return Ok(());
    }
    let summary = store.reader().summary(subject.keyspace).ok_or("the keyspace is not there")?;
    let there = subject.got.values().filter(|key| key.visible().is_some()).count();
    same("keys", summary.keys, there as u64)?;
    let bytes = subject.rows.iter().map(|(row, payload)| row.key.len() + row.subkey.len() + payload.bytes());
    same("bytes", summary.bytes, bytes.sum::<usize>() as u64)?;
    // What a restart begins with is read from entries, and not from memory.
    let snapshot = store.reader().snapshot();
    let keys = snapshot.keys(subject.keyspace).map_err(|error| error.to_string())?;
    same("keys in the entries", keys, summary.keys)?;
    let state = snapshot.state(subject.keyspace).map_err(|error| error.to_string())?;
    let state = state.ok_or("the keyspace has no entries")?;
    same("heads in the entries", state.heads.hash(), summary.heads_hash)?;
    same("fingerprint in the entries", state.fingerprint, summary.fingerprint)?;
    same("authors", summary.authors, subject.applied.heads.len())
}

fn each_key(
    subject: &Subject<'_>,
    check: impl Fn(&str, &KeyReads, &KeyReads) -> Result<(), String>,
) -> Result<(), String> {
    let nothing = KeyReads::default();
    let keys = subject.got.keys().chain(subject.expected.keys());
    for key in keys {
        let got = subject.got.get(key).unwrap_or(&nothing);
        let expected = subject.expected.get(key).unwrap_or(&nothing);
        check(&String::from_utf8_lossy(key), got, expected)?;
    }
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "numbers and references")]
fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, expected: T) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("{what}: got {got:?}, want {expected:?}")) }
}
