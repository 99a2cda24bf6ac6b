//! What single writes must answer, and what their frames say of them.

use tidelock_engine::causality::{Dot, Hlc};
use tidelock_engine::crdt::VisibleKind;
use tidelock_engine::frame::Frame;
use tidelock_engine::op::Op;
use tidelock_engine::request::{ActionReply, RequestReply};
use tidelock_engine::write::Outcome;

use super::{Meant, Reads, What};

/// The time and dot of a register write, found by its value, which no other write has.
pub(crate) fn rank(frame: &Frame, meant: &Meant) -> Option<(Hlc, Dot)> {
    let (What::Set(value) | What::Put(value)) = meant.what else { return None };
    let bytes = value.to_string().into_bytes();
    let is_it = |op: &Op| match op {
        Op::Set { value, .. } => *value == bytes,
        Op::Put { fields, .. } => fields.iter().any(|field| field.value == bytes),
        _ => false,
    };
    let found = frame.operations().find(|(_, op)| is_it(op));
    found.map(|(dot, _)| (frame.header().hlc, dot))
}

/// Whether a single write was accepted, refused and answered as the specification says.
pub(crate) fn check_reply(before: &Reads, meant: &Meant, reply: &RequestReply) -> Result<(), String> {
    let key = &before[meant.key];
    let is_free = |visible: VisibleKind| key.visible().is_none_or(|kind| kind == visible);
    let expected = match meant.what {
        What::Set(_) | What::Clear => Some(Outcome::Done),
        What::Change(_) | What::Compact(_) => is_free(VisibleKind::Document).then_some(Outcome::Done),
        What::Delete => Some(Outcome::Changed(u64::from(key.visible().is_some()))),
        What::Increment(by) => (is_free(VisibleKind::Register) || is_free(VisibleKind::Counter)).then(|| {
            let number = key.number().unwrap_or(0) + i128::from(by);
            Outcome::Number(i64::try_from(number).expect("worlds are small"))
        }),
        What::Add => {
            is_free(VisibleKind::Set).then(|| Outcome::Changed(u64::from(!key.elements[meant.subkey])))
        }
        What::Remove => {
            is_free(VisibleKind::Set).then(|| Outcome::Changed(u64::from(key.elements[meant.subkey])))
        }
        What::Put(_) => {
            let is_new = key.fields[meant.subkey].is_empty();
            is_free(VisibleKind::Map).then_some(Outcome::Changed(u64::from(is_new)))
        }
        What::Unset => {
            let is_there = !key.fields[meant.subkey].is_empty();
            is_free(VisibleKind::Map).then_some(Outcome::Changed(u64::from(is_there)))
        }
    };
    let got = match reply {
        Ok(replies) => match &replies[..] {
            // Which row a change became, only its frame knows.
            [Ok(ActionReply::Outcome(Outcome::At(_)))] => Some(Outcome::Done),
            [Ok(ActionReply::Outcome(outcome))] => Some(outcome.clone()),
            other => return Err(format!("one write was answered {other:?}")),
        },
        Err(_) => None,
    };
    if got == expected { Ok(()) } else { Err(format!("{meant:?}: got {got:?}, want {expected:?}")) }
}
