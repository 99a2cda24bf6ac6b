//! What a keyspace shows, as JSON lines: one value a line, in order of the keys, made as it is asked for.
//!
//! | line | fields |
//! |---|---|
//! | first | `tidelock`: `"export"`, `version`: 1, `keyspace` |
//! | a register | `key`, `kind`: `"register"`, `value` |
//! | a counter | `key`, `kind`: `"counter"`, `count`: its number in digits, as text, because JSON's may be too short |
//! | a set | `key`, `kind`: `"set"`, `elements` |
//! | a map | `key`, `kind`: `"map"`, `fields`: pairs of field and value |
//! | a sorted set | `key`, `kind`: `"sorted"`, `members`: pairs of member and score, the score as text |
//! | the end of the key before | `key`, `kind`: `"deadline"`, `unix_ms` |
//! | a document | `key`, `kind`: `"document"`, `saved`: its changes in automerge's own format |
//! | last | `end`: true, `keys`, `lines`: how many there were before; `hidden`: how many documents show nothing, if any |
//!
//! Keys, values, elements, fields and members are bytes. Those that are UTF-8 are strings; all others are `{"hex": "..."}`,
//! which no string is. A large collection takes several lines with the same key.
//!
//! A document is exported as it is shown, so without changes that wait for others, and not at all as long as it shows
//! nothing because of them.
//!
//! Each line is of one moment, and later lines of later ones: what is written meanwhile may be in or not. Only within a
//! snapshot of strong keyspaces all are of one. What lost
//! to concurrent writes is not exported, nor is who wrote what.

use std::fmt::Write;
use std::ops::ControlFlow;

use serde_json::{Value as Json, json};
use thiserror::Error;
use tidelock_engine::crdt::VisibleKind;
use tidelock_engine::id::{KeyspaceId, KeyspaceName, ReplicaId};
use tidelock_engine::ports::{After, Durability, ReadError, RowRange, Rows, Within};
use tidelock_engine::read::{Answer, Collection, KeyPage, Query, QueryError, Scored, SubkeyPage, answer};
use tidelock_engine::replica::Terms;
use tidelock_engine::request::{Atomicity, Request, RequestError};
use tidelock_engine::row::Kind;
use tidelock_store::{Reader, Snapshot};

use crate::document;
use crate::node::Node;

/// The version of the lines that this code writes and reads.
pub const EXPORT_VERSION: u64 = 1;

/// The longest line, in bytes: the largest value in hexadecimal, and its key.
pub(crate) const LINE_BYTES_MAX: u64 = 64 << 20;

/// The keys that are looked for at a time.
const KEYS_PER_PAGE: usize = 1_000;

/// A line of a collection holds about so many bytes, and so many elements, fields or members.
const LINE_BYTES: usize = 256 << 10;
const LINE_MEMBERS: usize = 1_000;

/// A keyspace being exported: an iterator over its lines, each with its line end.
#[derive(Debug)]
pub struct Export {
    source: Source,
    id: KeyspaceId,
    stage: Stage,
    /// The keys that were found and not exported yet, last first.
    keys: Vec<Vec<u8>>,
    after: Option<Vec<u8>>,
    /// What is to come of the key that is being told.
    deadline: Option<Json>,
    keys_done: u64,
    lines: u64,
    /// The documents that show nothing.
    hidden: u64,
}

/// What is exported.
#[derive(Debug)]
enum Source {
    /// What is there when it is asked for.
    Now(Reader),
    /// What was there at one moment, which this replica read.
    Then(Snapshot, ReplicaId),
}

impl Source {
    fn snapshot(&self) -> Snapshot {
        match self {
            Self::Now(reader) => reader.snapshot(),
            Self::Then(snapshot, _) => snapshot.clone(),
        }
    }

    fn replica(&self) -> ReplicaId {
        match self {
            Self::Now(reader) => reader.replica(),
            Self::Then(_, replica) => *replica,
        }
    }
}

#[derive(Debug)]
enum Stage {
    Start(KeyspaceName),
    Keys,
    /// Within a collection, behind this element, field or member.
    Members(Vec<u8>, Kind, Vec<u8>),
    Over,
}

/// Why a keyspace is not exported.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The node was shut down.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The anchors of a strong keyspace did not say in time what was acknowledged.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Only an anchor that stands where the log does has all that was acknowledged in a strong keyspace.
    #[error("keyspace {0} is strong, and this node does not know that it has all of it; ask an anchor")]
    NotAnAnchor(KeyspaceName),
}

impl Node {
    /// The same, of a keyspace of either mode: all that was acknowledged before in a strong one is in it.
    ///
    /// # Errors
    /// [`ExportError`].
    pub async fn export_all(&self, keyspace: &KeyspaceName) -> Result<Export, ExportError> {
        if self.mode(keyspace).epoch.is_strong() {
            self.hold_all_of(keyspace).await?;
        }
        Ok(self.export(keyspace)?)
    }

    /// Waits until this anchor has all that was acknowledged before in a strong keyspace: it is in whatever is read of
    /// its store later.
    pub(crate) async fn hold_all_of(&self, keyspace: &KeyspaceName) -> Result<(), ExportError> {
        let (atomicity, durability) = (Atomicity::Each, Durability::Durable);
        let request = Request { keyspace: keyspace.clone(), actions: Vec::new(), atomicity, durability };
        let (reply, _) = self.submit_on(vec![(request, Terms::default())]).await.into_only();
        reply?;
        let is_here = self.is_exact(keyspace);
        if is_here { Ok(()) } else { Err(ExportError::NotAnAnchor(keyspace.clone())) }
    }

    /// Exports what a keyspace shows on this node.
    ///
    /// # Errors
    /// The node was shut down.
    pub fn export(&self, keyspace: &KeyspaceName) -> Result<Export, ReadError> {
        Ok(Export::of(Source::Now(self.reader()?), self.id_of(keyspace), keyspace.clone()))
    }
}

impl Iterator for Export {
    type Item = Result<Vec<u8>, QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.line().transpose()?;
        if line.is_err() {
            self.stage = Stage::Over;
        }
        self.lines += 1;
        Some(line.map(|line| (line.to_string() + "\n").into_bytes()))
    }
}

impl Export {
    /// Exports what a keyspace showed at one moment, as this replica read it.
    pub(crate) fn of_moment(
        moment: Snapshot,
        replica: ReplicaId,
        id: KeyspaceId,
        name: KeyspaceName,
    ) -> Self {
        Self::of(Source::Then(moment, replica), id, name)
    }

    fn of(source: Source, id: KeyspaceId, name: KeyspaceName) -> Self {
        let (stage, keys, after, deadline) = (Stage::Start(name), Vec::new(), None, None);
        Self { source, id, stage, keys, after, deadline, keys_done: 0, lines: 0, hidden: 0 }
    }

    fn line(&mut self) -> Result<Option<Json>, QueryError> {
        match std::mem::replace(&mut self.stage, Stage::Keys) {
            Stage::Start(keyspace) => {
                let keyspace = keyspace.as_str();
                Ok(Some(json!({ "tidelock": "export", "version": EXPORT_VERSION, "keyspace": keyspace })))
            }
            Stage::Members(key, kind, after) => match self.members(&key, kind, Some(after))? {
                Some(line) => Ok(Some(line)),
                None => self.next(),
            },
            Stage::Keys => self.next(),
            Stage::Over => {
                self.stage = Stage::Over;
                Ok(None)
            }
        }
    }

    /// What comes behind all of a key: its deadline, if it has one, then another key.
    fn next(&mut self) -> Result<Option<Json>, QueryError> {
        match self.deadline.take() {
            Some(deadline) => Ok(Some(deadline)),
            None => self.next_key(),
        }
    }

    fn next_key(&mut self) -> Result<Option<Json>, QueryError> {
        loop {
            if self.keys.is_empty() {
                let after = self.after.clone();
                let page = Query::Keys(KeyPage { prefix: Vec::new(), after, count: KEYS_PER_PAGE });
                if let Answer::List(keys) = answer(&self.source.snapshot(), self.id, &page)? {
                    self.keys = keys;
                    self.keys.reverse();
                }
            }
            let Some(key) = self.keys.pop() else {
                self.stage = Stage::Over;
                let mut end = json!({ "end": true, "keys": self.keys_done, "lines": self.lines });
                if self.hidden > 0 {
                    end["hidden"] = self.hidden.into();
                }
                return Ok(Some(end));
            };
            self.after = Some(key.clone());
            // A key may be gone since it was found.
            if let Some(line) = self.key(&key)? {
                self.keys_done += 1;
                if let Answer::Deadline(Some(Some(unix_ms))) =
                    answer(&self.source.snapshot(), self.id, &Query::Deadline(key.clone()))?
                {
                    let key = bytes(&key);
                    self.deadline = Some(json!({ "key": key, "kind": "deadline", "unix_ms": unix_ms }));
                }
                return Ok(Some(line));
            }
        }
    }

    fn key(&mut self, key: &[u8]) -> Result<Option<Json>, QueryError> {
        let snapshot = self.source.snapshot();
        let Answer::Kind(Some(kind)) = answer(&snapshot, self.id, &Query::Kind(key.to_vec()))? else {
            return Ok(None);
        };
        match kind {
            VisibleKind::Register | VisibleKind::Counter => {
                let Answer::Value(Some(value)) = answer(&snapshot, self.id, &Query::Get(key.to_vec()))?
                else {
                    return Ok(None);
                };
                Ok(Some(match kind {
                    VisibleKind::Counter => {
                        json!({ "key": bytes(key), "kind": "counter", "count": String::from_utf8_lossy(&value) })
                    }
                    _ => json!({ "key": bytes(key), "kind": "register", "value": bytes(&value) }),
                }))
            }
            VisibleKind::Set => self.members(key, Kind::Set, None),
            VisibleKind::Map => self.members(key, Kind::Map, None),
            VisibleKind::Sorted => self.members(key, Kind::Sorted, None),
            VisibleKind::Document => {
                let Answer::Chunks(chunks) = answer(&snapshot, self.id, &Query::Chunks(key.to_vec()))? else {
                    return Ok(None);
                };
                let Some(saved) = document::save_shown(self.source.replica(), &chunks) else {
                    self.hidden += 1;
                    return Ok(None);
                };
                Ok(Some(json!({ "key": bytes(key), "kind": "document", "saved": { "hex": hex(&saved) } })))
            }
        }
    }

    /// The next elements or fields of a key; `None` when there are no more.
    fn members(
        &mut self,
        key: &[u8],
        kind: Kind,
        after: Option<Vec<u8>>,
    ) -> Result<Option<Json>, QueryError> {
        if kind == Kind::Sorted {
            return self.scores(key, after);
        }
        let snapshot = self.source.snapshot();
        let after = after.map(|subkey| After::Group(key.to_vec(), kind, subkey));
        let range = RowRange { within: Within::Kind(key.to_vec(), kind), after };
        let (mut subkeys, mut length): (Vec<Vec<u8>>, usize) = (Vec::new(), 0);
        snapshot.scan(self.id, &range, &mut |row, _| {
            if subkeys.last() == Some(&row.subkey) {
                return ControlFlow::Continue(());
            }
            if subkeys.len() == LINE_MEMBERS || length >= LINE_BYTES {
                return ControlFlow::Break(());
            }
            length += row.subkey.len();
            subkeys.push(row.subkey);
            ControlFlow::Continue(())
        })?;
        let Some(last) = subkeys.last().cloned() else { return Ok(None) };
        if kind == Kind::Set {
            self.stage = Stage::Members(key.to_vec(), kind, last);
            let elements: Vec<Json> = subkeys.iter().map(|element| bytes(element)).collect();
            return Ok(Some(json!({ "key": bytes(key), "kind": "set", "elements": elements })));
        }
        let (fields, last) = self.fields(&snapshot, key, subkeys)?;
        self.stage = Stage::Members(key.to_vec(), kind, last);
        Ok(Some(json!({ "key": bytes(key), "kind": "map", "fields": fields })))
    }

    /// The next members of a sorted set, in their own order; `None` when there are no more.
    fn scores(&mut self, key: &[u8], after: Option<Vec<u8>>) -> Result<Option<Json>, QueryError> {
        let page =
            SubkeyPage { key: key.to_vec(), collection: Collection::Sorted, after, count: LINE_MEMBERS };
        let scored = match answer(&self.source.snapshot(), self.id, &Query::Page(page)) {
            Ok(Answer::Scored(scored)) => scored,
            // It is no sorted set any more; what it is now comes too late.
            Ok(_) | Err(QueryError::WrongKind { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some((last, _)) = scored.last() else { return Ok(None) };
        self.stage = Stage::Members(key.to_vec(), Kind::Sorted, last.clone());
        let pair = |(member, score): &Scored| json!([bytes(member), score.to_string()]);
        let members: Vec<Json> = scored.iter().map(pair).collect();
        Ok(Some(json!({ "key": bytes(key), "kind": "sorted", "members": members })))
    }

    /// Fields with their values, up to the bytes of a line, and the last of them.
    fn fields(
        &self,
        snapshot: &Snapshot,
        key: &[u8],
        subkeys: Vec<Vec<u8>>,
    ) -> Result<(Vec<Json>, Vec<u8>), QueryError> {
        let (mut fields, mut last, mut length) = (Vec::new(), Vec::new(), 0);
        for field in subkeys {
            if length >= LINE_BYTES {
                break;
            }
            let query = Query::Field(key.to_vec(), field.clone());
            match answer(snapshot, self.id, &query) {
                Ok(Answer::Value(Some(value))) => {
                    length += field.len() + value.len();
                    fields.push(json!([bytes(&field), bytes(&value)]));
                }
                // It is no map any more; what it is now comes too late.
                Ok(_) | Err(QueryError::WrongKind { .. }) => {}
                Err(error) => return Err(error),
            }
            last = field;
        }
        Ok((fields, last))
    }
}

/// Bytes as JSON.
pub(crate) fn bytes(bytes: &[u8]) -> Json {
    match str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "hex": hex(bytes) }),
    }
}

/// The bytes that [`bytes`] made into JSON; `None` if it made no such thing.
pub(crate) fn from_json(json: &Json) -> Option<Vec<u8>> {
    if let Json::String(text) = json {
        return Some(text.clone().into_bytes());
    }
    let Json::Object(object) = json else { return None };
    let digits = object.get("hex")?.as_str().filter(|digits| object.len() == 1 && digits.is_ascii())?;
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| match str::from_utf8(pair) {
        Ok(text) if pair.len() == 2 && !text.starts_with('+') => u8::from_str_radix(text, 16).ok(),
        _ => None,
    };
    pairs.map(byte).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to memory cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_json_and_nothing_else_is_taken_for_bytes() {
        for original in [&b""[..], b"text", b"\x00\n\"", b"\xff\x00", "grün".as_bytes(), b"{\"hex\":\"00\"}"]
        {
            assert_eq!(from_json(&bytes(original)).as_deref(), Some(original));
        }
        let wrong =
            [r#"{"hex":"0"}"#, r#"{"hex":"+1"}"#, r#"{"hex":"zz"}"#, r#"{"hex":"00","x":1}"#, "1", "null"];
        for text in wrong {
            let json: Json = serde_json::from_str(text).expect("it is JSON");
            assert_eq!(from_json(&json), None, "{text}");
        }
    }
}
