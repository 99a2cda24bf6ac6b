//! `tidelock watch`: prints changes as the node pushes them.

use std::ffi::OsStr;
use std::io::Write;

use serde_json::{Value as Json, json};

use super::client::{Client, ClientError};
use super::client_args::NodeArgs;
use super::commands::print;
use super::json;
use super::text::cell;
use super::value::Value;

/// What to watch, and from where on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range<'a> {
    pub(super) key: Option<&'a OsStr>,
    pub(super) prefix: Option<&'a OsStr>,
    pub(super) from: Option<u64>,
    pub(super) after_revision: Option<u64>,
}

/// Prints one line per change until the connection ends, which is an error: somebody waits for changes.
pub(super) fn watch(range: &Range<'_>, node: &NodeArgs, out: &mut dyn Write) -> Result<(), ClientError> {
    let mut client = Client::connect(node)?;
    let begin = match (range.from, range.after_revision) {
        (Some(cursor), _) => Some(("FROM", cursor.to_string())),
        (None, revision) => revision.map(|revision| ("AFTER", revision.to_string())),
    };
    let mut arguments: Vec<&[u8]> = vec![b"TIDE.WATCH"];
    match (range.prefix, range.key) {
        (Some(prefix), _) => arguments.extend([&b"PREFIX"[..], prefix.as_encoded_bytes()]),
        (None, key) => arguments.extend(key.map(OsStr::as_encoded_bytes)),
    }
    if let Some((word, number)) = &begin {
        arguments.extend([word.as_bytes(), number.as_bytes()]);
    }
    client.call(&arguments)?;
    client.wait_forever()?;
    loop {
        let event = client.next()?;
        let line = if node.json { as_json(&event).to_string() } else { as_text(&event) };
        print(out, &(line + "\n"))?;
    }
}

/// As `cursor  key  [subkey]  old -> new  by author`; by revision, a line for each change of an operation.
fn as_text(event: &Value) -> String {
    match event.items() {
        [_, cursor, _, key, kind, subkey, old, new, author, replayed] => {
            let author: String = cell(author).chars().take(8).collect();
            let replayed = if *replayed == Value::Boolean(true) { ", replayed" } else { "" };
            let (cursor, key, kind, subkey) = (cell(cursor), cell(key), cell(kind), within(subkey));
            format!(
                "{cursor}  {key}{subkey}  {kind}: {} -> {}  (by {author}{replayed})",
                cell(old),
                cell(new)
            )
        }
        [_, revision, _, changes] => {
            let lines =
                changes.items().iter().map(|change| format!("{}  {}", cell(revision), changed(change)));
            lines.collect::<Vec<_>>().join("\n")
        }
        [word, revision, _] if is(word, "tide.compacted") => format!(
            "{}  operations up to this revision are held no more: read what is watched; it goes on behind it",
            cell(revision)
        ),
        [word, _, reason] if is(word, "tide.ended") => format!("the watch ends: {}", cell(reason)),
        [_, cursor] => format!("{}  changes were lost: this watcher was too slow", cell(cursor)),
        _ => cell(event),
    }
}

fn is(value: &Value, word: &str) -> bool {
    matches!(value, Value::Bytes(bytes) if bytes == word.as_bytes())
}

/// The element, field or member, if it is one.
fn within(subkey: &Value) -> String {
    if *subkey == Value::Bytes(Vec::new()) { String::new() } else { format!(" [{}]", cell(subkey)) }
}

/// What one change of an operation was.
fn changed(change: &Value) -> String {
    match change.items() {
        [_, key, kind, subkey, value] => {
            format!("{}{}  {}: {}", cell(key), within(subkey), cell(kind), cell(value))
        }
        [_, key, kind, subkey] => format!("{}{}  {}: removed", cell(key), within(subkey), cell(kind)),
        [_, key] => format!("{}  removed", cell(key)),
        _ => "all keys removed".to_owned(),
    }
}

fn as_json(event: &Value) -> Json {
    match event.items() {
        [_, cursor, keyspace, key, kind, subkey, old, new, author, replayed] => json!({
            "event": "change",
            "cursor": json::of(cursor),
            "keyspace": json::of(keyspace),
            "key": json::of(key),
            "kind": json::of(kind),
            "subkey": json::of(subkey),
            "old": json::of(old),
            "new": json::of(new),
            "author": json::of(author),
            "replayed": json::of(replayed),
        }),
        [_, revision, keyspace, changes] => json!({
            "event": "operation",
            "revision": json::of(revision),
            "keyspace": json::of(keyspace),
            "changes": changes.items().iter().map(changed_as_json).collect::<Vec<_>>(),
        }),
        [word, revision, keyspace] if is(word, "tide.compacted") => json!({
            "event": "compacted", "revision": json::of(revision), "keyspace": json::of(keyspace),
        }),
        [word, keyspace, reason] if is(word, "tide.ended") => json!({
            "event": "ended", "keyspace": json::of(keyspace), "reason": json::of(reason),
        }),
        [_, cursor] => json!({ "event": "lagged", "cursor": json::of(cursor) }),
        _ => json::of(event),
    }
}

fn changed_as_json(change: &Value) -> Json {
    let names = ["change", "key", "kind", "subkey", "value"];
    names.into_iter().map(str::to_owned).zip(change.items().iter().map(json::of)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Value {
        Value::Bytes(text.as_bytes().to_vec())
    }

    fn list(words: &[&str]) -> Value {
        Value::List(words.iter().map(|word| bytes(word)).collect())
    }

    #[test]
    fn operations_are_shown_with_all_that_they_changed() {
        let changes = Value::List(vec![
            list(&["written", "k", "register", "", "v"]),
            list(&["written", "m", "map", "f", "1"]),
            list(&["removed", "m", "map", "g"]),
            list(&["key-removed", "s"]),
            list(&["all-removed"]),
        ]);
        let operation =
            Value::List(vec![bytes("tide.operation"), Value::Integer(7), bytes("orders"), changes]);
        assert_eq!(
            as_text(&operation),
            "7  k  register: v\n7  m [f]  map: 1\n7  m [g]  map: removed\n7  s  removed\n7  all keys removed"
        );
        let shown = as_json(&operation);
        assert_eq!((&shown["event"], &shown["revision"]), (&json!("operation"), &json!(7)));
        assert_eq!(shown["changes"][1]["subkey"], json!("f"));
        assert_eq!(shown["changes"][4], json!({ "change": "all-removed" }));
    }

    #[test]
    fn what_is_not_told_is_said() {
        let compacted = Value::List(vec![bytes("tide.compacted"), Value::Integer(9), bytes("orders")]);
        assert!(as_text(&compacted).starts_with("9  operations up to this revision are held no more"));
        assert_eq!(as_json(&compacted)["event"], json!("compacted"));
        let ended = list(&["tide.ended", "orders", "it was left"]);
        assert_eq!(as_text(&ended), "the watch ends: it was left");
        assert_eq!(as_json(&ended)["reason"], json!("it was left"));
    }
}
