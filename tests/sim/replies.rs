//! What the first action of a request must answer, by the specification.

use std::collections::BTreeSet;

use tidelock_engine::condition::Condition;
use tidelock_engine::crdt::VisibleKind;
use tidelock_engine::read::{Query, SortedPage};
use tidelock_engine::request::{
    Action, ActionError, ActionReply, Decided, Decision, Request, RequestError, RequestReply,
};
use tidelock_engine::row::Fingerprint;
use tidelock_engine::score::Score;
use tidelock_engine::write::{Addend, Edit, ExpireIf, Outcome, Write, WriteError};

use crate::answers::{self, Shown};
use crate::sight::{ScoredAfter, combined, edited, field_after, listed, outermost, score, scored_after};
use crate::specification::KeyReads;

/// Whether the first action was accepted, refused and answered as the specification says. What was not
/// committed, and what a node refuses that takes no writes, has no answer to compare.
///
/// # Errors
/// It was not.
pub fn check(before: &Shown, request: &Request, reply: &RequestReply) -> Result<(), String> {
    let Some(first) = request.actions.first() else { return Ok(()) };
    match reply {
        Ok(replies) => check_action(before, first, replies[0].as_ref()),
        Err(RequestError::Action { index: 0, source }) => check_action(before, first, Err(source)),
        Err(_) => Ok(()),
    }
}

fn check_action(
    before: &Shown,
    action: &Action,
    reply: Result<&ActionReply, &ActionError>,
) -> Result<(), String> {
    match (action, reply) {
        (Action::Write(write), reply) => check_write(before, write, reply),
        (Action::Query(query), Ok(ActionReply::Answer(answer))) => answers::check(before, query, Ok(answer)),
        (Action::Query(query), Err(ActionError::Query(error))) => answers::check(before, query, Err(error)),
        (Action::Decide(decision), reply) => check_decision(before, decision, reply),
        (Action::Whole(actions), Ok(ActionReply::Whole(replies))) => {
            let first = actions.first().zip(replies.first());
            first.map_or(Ok(()), |(action, reply)| check_action(before, action, Ok(reply)))
        }
        // One of its actions was refused, and so all of it.
        (Action::Whole(_), Err(_)) => Ok(()),
        (action, reply) => Err(format!("{action:?} was answered {reply:?}")),
    }
}

fn check_write(
    before: &Shown,
    write: &Write,
    reply: Result<&ActionReply, &ActionError>,
) -> Result<(), String> {
    let got = match reply {
        // Which row a change became, only its frame knows.
        Ok(ActionReply::Outcome(Outcome::At(_))) => Some(Outcome::Done),
        Ok(ActionReply::Outcome(outcome)) => Some(outcome.clone()),
        // How much there is, only the rows say.
        Err(ActionError::Write(WriteError::OverQuota { .. })) => return Ok(()),
        Err(ActionError::Write(_)) => None,
        other => return Err(format!("{write:?} was answered {other:?}")),
    };
    let is_fine = match (write, &got) {
        // Who has written, and was retired, is nothing that is read.
        (Write::Retire { .. }, _) => true,
        (Write::Pop { key, .. }, None) => !is_free(&before.key(key), VisibleKind::Set),
        (Write::Pop { key, count, .. }, Some(Outcome::Elements(elements))) => {
            let before = before.key(key).elements;
            let popped: BTreeSet<Vec<u8>> = elements.iter().cloned().collect();
            let count = usize::try_from(*count).unwrap_or(usize::MAX).min(before.len());
            popped.len() == elements.len() && popped.len() == count && popped.is_subset(&before)
        }
        _ => got == expected(before, write),
    };
    if is_fine {
        return Ok(());
    }
    Err(format!("{write:?}: got {got:?}, want {:?}", expected(before, write)))
}

/// What a write does where this is shown; `None` when it is refused.
fn expected(before: &Shown, write: &Write) -> Option<Outcome> {
    let at = |key: &Vec<u8>| before.key(key);
    let changed = |count: usize| Outcome::Changed(count as u64);
    let is_changed = |is_changed: bool| Some(changed(usize::from(is_changed)));
    match write {
        Write::Set { .. } | Write::SetFor { .. } | Write::Clear => Some(Outcome::Done),
        // Whether what it builds on is there, the rows say; a story that wants it refused looks for itself.
        Write::Change { key, .. } => is_free(&at(key), VisibleKind::Document).then_some(Outcome::Done),
        Write::Delete { key } => is_changed(at(key).visible().is_some()),
        Write::Increment { key, by } => {
            let key = at(key);
            let is_number =
                matches!(key.visible(), None | Some(VisibleKind::Register | VisibleKind::Counter));
            let shown = key.shown().unwrap_or_else(|| b"0".to_vec());
            let number = tidelock_engine::crdt::integer(&shown)?;
            is_number.then(|| number.checked_add(*by).map(Outcome::Number)).flatten()
        }
        Write::Add { key, elements } => {
            let new = distinct(elements).filter(|element| !at(key).elements.contains(*element)).count();
            is_free(&at(key), VisibleKind::Set).then(|| changed(new))
        }
        Write::Remove { key, elements } => {
            let old = distinct(elements).filter(|element| at(key).elements.contains(*element)).count();
            is_free(&at(key), VisibleKind::Set).then(|| changed(old))
        }
        Write::Put { key, fields } => {
            let names: BTreeSet<&Vec<u8>> = fields.iter().map(|(field, _)| field).collect();
            let new = names.into_iter().filter(|field| !at(key).fields.contains_key(*field)).count();
            is_free(&at(key), VisibleKind::Map).then(|| changed(new))
        }
        Write::Unset { key, fields } => {
            let old = distinct(fields).filter(|field| at(key).fields.contains_key(*field)).count();
            is_free(&at(key), VisibleKind::Map).then(|| changed(old))
        }
        Write::Score { .. }
        | Write::AddToScore { .. }
        | Write::Unscore { .. }
        | Write::UnscoreRange { .. }
        | Write::PopScored { .. }
        | Write::StoreRange { .. } => sorted_outcome(before, write),
        Write::Edit { key, edit } => edit_outcome(&at(key), edit),
        Write::AddToField { key, field, by: by @ Addend::Integer(_) } => {
            let value = field_after(&at(key), field, *by)?;
            tidelock_engine::crdt::integer(&value).map(Outcome::Number)
        }
        Write::AddToField { key, field, by } => field_after(&at(key), field, *by).map(Outcome::Value),
        // Who has written, and which elements there are to choose from, was looked at.
        Write::Retire { .. } | Write::Pop { .. } => None,
        Write::Copy { from, .. } => is_changed(at(from).visible().is_some()),
        Write::Combine { how, keys, .. } => {
            let are_sets = keys.iter().all(|key| is_free(&at(key), VisibleKind::Set));
            let sets: Vec<BTreeSet<Vec<u8>>> = keys.iter().map(|key| at(key).elements).collect();
            are_sets.then(|| changed(combined(*how, &sets).len()))
        }
        Write::Expire { key, deadline_ms, only } => {
            let key = at(key);
            let applies = only.is_none_or(|only| applies(only, key.deadline_ms(), *deadline_ms));
            is_changed(key.visible().is_some() && applies)
        }
        Write::Persist { key } => is_changed(at(key).deadline_ms().is_some()),
    }
}

/// What a write of a sorted set does; of a stored range, where the key that is read is one.
fn sorted_outcome(before: &Shown, write: &Write) -> Option<Outcome> {
    let read = if let Write::StoreRange { page, .. } = write { Some(&page.key[..]) } else { write.key() };
    let key = before.key(read?);
    if !is_free(&key, VisibleKind::Sorted) {
        return None;
    }
    let changed = |count: usize| Outcome::Changed(count as u64);
    Some(match write {
        Write::Score { members, rule, .. } => {
            let ScoredAfter { added, changed, .. } = scored_after(&key, members, *rule);
            Outcome::Scored { added, changed }
        }
        Write::AddToScore { member, by, rule, .. } => {
            let sum = score(&key, member).unwrap_or(Score::ZERO).plus(*by)?;
            let after = scored_after(&key, &[(member.clone(), sum)], *rule);
            Outcome::Score(after.written.get(member).copied())
        }
        Write::Unscore { members, .. } => {
            changed(distinct(members).filter(|member| key.scores.contains_key(*member)).count())
        }
        Write::UnscoreRange { key: of, range } => {
            let page = SortedPage { range: range.clone(), ..SortedPage::all(of.clone()) };
            changed(listed(&key, &page).len())
        }
        Write::PopScored { count, is_highest, .. } => {
            Outcome::ScoredMembers(outermost(&key, *count, *is_highest))
        }
        Write::StoreRange { page, .. } => changed(listed(&key, page).len()),
        other => unreachable!("{other:?} is of no sorted set"),
    })
}

fn edit_outcome(key: &KeyReads, edit: &Edit) -> Option<Outcome> {
    let before = key.shown().unwrap_or_default();
    let value = match edit {
        // It changes nothing, and is not refused but for the kind of the key.
        Edit::Splice { bytes, .. } if bytes.is_empty() => edited(key, &Edit::Append(Vec::new()))?,
        edit => edited(key, edit)?,
    };
    Some(match edit {
        Edit::Append(_) | Edit::Splice { .. } => Outcome::Length(value.len() as u64),
        Edit::Bit { offset, .. } => {
            let byte = usize::try_from(offset / 8).ok().and_then(|at| before.get(at)).copied();
            Outcome::Bit(byte.unwrap_or(0) >> (7 - offset % 8) & 1 == 1)
        }
        Edit::Add(_) => Outcome::Value(value),
    })
}

/// A key without a deadline lives longer than any.
fn applies(only: ExpireIf, before_ms: Option<u64>, after_ms: u64) -> bool {
    match (only, before_ms) {
        (ExpireIf::HasNone, before_ms) => before_ms.is_none(),
        (ExpireIf::HasOne, before_ms) => before_ms.is_some(),
        (ExpireIf::Later | ExpireIf::HasLater, None) => false,
        (ExpireIf::Sooner, None) => true,
        (ExpireIf::Later, Some(before_ms)) => before_ms < after_ms,
        (ExpireIf::Sooner | ExpireIf::HasLater, Some(before_ms)) => after_ms < before_ms,
    }
}

/// What is decided is decided by what is shown; of what is done then the first action is looked at.
fn check_decision(
    before: &Shown,
    decision: &Decision,
    reply: Result<&ActionReply, &ActionError>,
) -> Result<(), String> {
    let told = |wanted: &str| Err(format!("{decision:?}: got {reply:?}, want {wanted}"));
    if let Err(ActionError::NeedsStrong(_) | ActionError::TooDeep) = reply {
        // Stories are about who may decide.
        return Ok(());
    }
    let is_answered = |query: &Query| before.answers(query);
    // The first condition that does not hold ends it, before those behind it are looked at.
    let mut held = Some(true);
    if !decision.reads.iter().all(is_answered) {
        held = None;
    }
    for condition in &decision.conditions {
        if held == Some(true) {
            held = holds(before, condition);
        }
    }
    match (held, reply) {
        (None, Err(ActionError::Query(_)))
        | (Some(false), Ok(ActionReply::Decided(Decided { given: None, .. }))) => Ok(()),
        (None, _) => told("an error"),
        (Some(false), _) => told("that nothing is done"),
        (Some(true), Ok(ActionReply::Decided(Decided { answers, given: Some(given) }))) => {
            for (query, answer) in decision.reads.iter().zip(answers) {
                answers::check(before, query, Ok(answer))?;
            }
            let first = decision.actions.first().zip(given.first());
            first.map_or(Ok(()), |(action, reply)| check_action(before, action, reply.as_ref()))
        }
        // One of its actions was refused, and so all of it.
        (Some(true), Err(_)) if decision.is_whole => Ok(()),
        (Some(true), _) => told("that it is done"),
    }
}

/// Whether a condition holds; `None` if the key is of another kind than it is about.
fn holds(before: &Shown, condition: &Condition) -> Option<bool> {
    let is_free = |key: &Vec<u8>, kind| is_free(&before.key(key), kind);
    Some(match condition {
        Condition::Exists(key) => before.key(key).visible().is_some(),
        Condition::Missing(key) => before.key(key).visible().is_none(),
        Condition::FieldMissing { key, field } => {
            is_free(key, VisibleKind::Map).then(|| !before.key(key).fields.contains_key(field))?
        }
        Condition::Contains { key, element, is_in } => {
            is_free(key, VisibleKind::Set).then(|| before.key(key).elements.contains(element) == *is_in)?
        }
        Condition::Equals { key, value } => {
            before.answers(&Query::Get(key.clone())).then(|| before.get(key) == *value)?
        }
        // Nobody who reads sees what a revision is but that all missing keys have the same.
        Condition::Unchanged { key, revision } => {
            (*revision == Fingerprint::default()) == before.key(key).visible().is_none()
        }
    })
}

fn is_free(key: &KeyReads, wanted: VisibleKind) -> bool {
    key.visible().is_none_or(|visible| visible == wanted)
}

fn distinct(names: &[Vec<u8>]) -> impl Iterator<Item = &Vec<u8>> {
    let set: BTreeSet<&Vec<u8>> = names.iter().collect();
    set.into_iter()
}
