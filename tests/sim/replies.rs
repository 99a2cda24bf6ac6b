//! What the first action of a request must answer, by the specification.

use tidelock_engine::crdt::VisibleKind;
use tidelock_engine::request::{Action, ActionError, ActionReply, Request, RequestError, RequestReply};
use tidelock_engine::write::{Outcome, Write, WriteError};

use crate::specification::{KeyReads, Reads};

/// Whether the first action was accepted, refused and answered as the specification says. What was not
/// committed, and what a node refuses that takes no writes, has no answer to compare.
///
/// # Errors
/// It was not.
pub fn check(before: &Reads, request: &Request, reply: &RequestReply) -> Result<(), String> {
    let Some(Action::Write(write)) = request.actions.first() else { return Ok(()) };
    // Who has written, and was retired, is nothing that is read.
    if let Write::Retire { .. } = write {
        return Ok(());
    }
    let got = match reply {
        Ok(replies) => match &replies[0] {
            // Which row a change became, only its frame knows.
            Ok(ActionReply::Outcome(Outcome::At(_))) => Some(Outcome::Done),
            Ok(ActionReply::Outcome(outcome)) => Some(outcome.clone()),
            Ok(other) => return Err(format!("{write:?} was answered {other:?}")),
            // How much there is, only the rows say.
            Err(ActionError::Write(WriteError::OverQuota { .. })) => return Ok(()),
            Err(ActionError::Write(_)) => None,
            Err(other) => return Err(format!("{write:?}: {other}")),
        },
        Err(RequestError::Action { index: 0, .. }) => None,
        Err(_) => return Ok(()),
    };
    let wanted = expected(before, write);
    if got == wanted { Ok(()) } else { Err(format!("{write:?}: got {got:?}, want {wanted:?}")) }
}

/// What a write does where this is read; `None` when it is refused.
pub fn expected(before: &Reads, write: &Write) -> Option<Outcome> {
    let nothing = KeyReads::default();
    let at = |key: &Vec<u8>| before.get(key).unwrap_or(&nothing);
    let changed = |count: usize| Outcome::Changed(count as u64);
    match write {
        Write::Set { .. } | Write::SetFor { .. } | Write::Clear => Some(Outcome::Done),
        Write::Retire { .. } | Write::Expire { .. } | Write::Persist { .. } => None,
        // Whether what it builds on is there, the rows say; a story that wants it refused looks for itself.
        Write::Change { key, .. } => is_free(at(key), VisibleKind::Document).then_some(Outcome::Done),
        Write::Delete { key } => Some(changed(usize::from(at(key).visible().is_some()))),
        Write::Increment { key, by } => {
            let key = at(key);
            let is_number =
                matches!(key.visible(), None | Some(VisibleKind::Register | VisibleKind::Counter));
            let shown = key.shown().unwrap_or_else(|| b"0".to_vec());
            let number: i64 = std::str::from_utf8(&shown).ok()?.parse().ok()?;
            is_number.then(|| number.checked_add(*by).map(Outcome::Number)).flatten()
        }
        Write::Add { key, elements } => {
            let new = distinct(elements).filter(|element| !at(key).elements.contains(*element)).count();
            is_free(at(key), VisibleKind::Set).then(|| changed(new))
        }
        Write::Remove { key, elements } => {
            let old = distinct(elements).filter(|element| at(key).elements.contains(*element)).count();
            is_free(at(key), VisibleKind::Set).then(|| changed(old))
        }
        Write::Put { key, fields } => {
            let names: Vec<Vec<u8>> = fields.iter().map(|(field, _)| field.clone()).collect();
            let new = distinct(&names).filter(|field| !at(key).fields.contains_key(*field)).count();
            is_free(at(key), VisibleKind::Map).then(|| changed(new))
        }
        Write::Unset { key, fields } => {
            let old = distinct(fields).filter(|field| at(key).fields.contains_key(*field)).count();
            is_free(at(key), VisibleKind::Map).then(|| changed(old))
        }
        edit => unreachable!("no workload makes {edit:?}"),
    }
}

fn is_free(key: &KeyReads, wanted: VisibleKind) -> bool {
    key.visible().is_none_or(|visible| visible == wanted)
}

fn distinct(names: &[Vec<u8>]) -> impl Iterator<Item = &Vec<u8>> {
    let set: std::collections::BTreeSet<&Vec<u8>> = names.iter().collect();
    set.into_iter()
}
