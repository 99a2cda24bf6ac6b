//! What an operator is shown of a replica with two histories: both of them, operation by operation.

use tidelock_engine::frame::Frame;
use tidelock_engine::op::Op;
use tidelock_engine::replica::{Evidence, Report};

use crate::cli::escape_line;

/// The frames that are shown at most, and the operations of each.
const SHOWN_FRAMES: usize = 5;
const SHOWN_OPS: usize = 3;

/// The longest text of an operation, in characters.
const SHOWN_CHARS: usize = 120;

/// What was written here and elsewhere under the same names, if this node's own replica forked.
pub(super) fn describe(report: &Report) -> Vec<String> {
    let Some(fork) = report.fork else { return Vec::new() };
    let own = report.evidence.iter().filter(|proof| proof.dot.replica == fork.replica);
    own.take(SHOWN_FRAMES).map(|proof| describe_proof(report, proof)).collect()
}

fn describe_proof(report: &Report, proof: &Evidence) -> String {
    let keyspace = report.keyspaces.iter().find(|keyspace| keyspace.id == proof.keyspace);
    let keyspace = keyspace.map_or_else(|| proof.keyspace.to_string(), |keyspace| keyspace.name.to_string());
    let is_same_place = |bytes: &&[u8]| Frame::peek(bytes).is_some_and(|last| last.seq >= proof.dot.seq);
    let here =
        proof.applied.as_deref().filter(is_same_place).map_or_else(|| "nothing".to_owned(), describe_frame);
    let elsewhere = describe_frame(&proof.other);
    let seq = proof.dot.seq;
    format!("operation {seq} of this replica in keyspace {keyspace}: here {here}, elsewhere {elsewhere}")
}

fn describe_frame(bytes: &[u8]) -> String {
    let Ok(frame) = Frame::decode(bytes) else { return "something else".to_owned() };
    let shown: Vec<String> = frame.ops().iter().take(SHOWN_OPS).map(describe_op).collect();
    let rest = frame.ops().len().saturating_sub(SHOWN_OPS);
    let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    shown.join("; ") + &rest
}

fn describe_op(op: &Op) -> String {
    let line = |words: &[&[u8]]| {
        let words: Vec<String> = words.iter().map(|word| escape_line(word)).collect();
        words.join(" ").chars().take(SHOWN_CHARS).collect()
    };
    match op {
        Op::Set { key, value, .. } => line(&[b"SET", key, value]),
        Op::Increment { key, sum, .. } => line(&[b"INCR", key, b"to", sum.to_string().as_bytes()]),
        Op::Add { key, elements } => {
            let elements = elements.iter().map(|element| &element.element[..]);
            line(&[&b"SADD"[..], key].into_iter().chain(elements).collect::<Vec<_>>())
        }
        Op::Put { key, fields } => {
            let fields = fields.iter().flat_map(|field| [&field.field[..], &field.value[..]]);
            line(&[&b"HSET"[..], key].into_iter().chain(fields).collect::<Vec<_>>())
        }
        Op::Score { key, members } => {
            let scores = members.iter().map(|member| member.score.to_string().into_bytes());
            let scores: Vec<Vec<u8>> = scores.collect();
            let pairs =
                scores.iter().zip(members).flat_map(|(score, member)| [&score[..], &member.member[..]]);
            line(&[&b"ZADD"[..], key].into_iter().chain(pairs).collect::<Vec<_>>())
        }
        // Removals, and what comes to be later: their contents are what they remove.
        _ => "another operation".to_owned(),
    }
}
