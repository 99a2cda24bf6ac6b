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
}

/// Prints one line per change until the connection ends, which is an error: somebody waits for changes.
pub(super) fn watch(range: &Range<'_>, node: &NodeArgs, out: &mut dyn Write) -> Result<(), ClientError> {
    let mut client = Client::connect(node)?;
    let from = range.from.map(|cursor| cursor.to_string());
    let mut arguments: Vec<&[u8]> = vec![b"TIDE.WATCH"];
    match (range.prefix, range.key) {
        (Some(prefix), _) => arguments.extend([&b"PREFIX"[..], prefix.as_encoded_bytes()]),
        (None, key) => arguments.extend(key.map(OsStr::as_encoded_bytes)),
    }
    if let Some(from) = &from {
        arguments.extend([b"FROM", from.as_bytes()]);
    }
    client.call(&arguments)?;
    client.wait_forever()?;
    loop {
        let event = client.next()?;
        let line = if node.json { as_json(&event).to_string() } else { as_text(&event) };
        print(out, &(line + "\n"))?;
    }
}

/// As `cursor  key  [subkey]  old -> new  by author`.
fn as_text(event: &Value) -> String {
    match event.items() {
        [_, cursor, _, key, kind, subkey, old, new, author, replayed] => {
            let subkey = if *subkey == Value::Bytes(Vec::new()) {
                String::new()
            } else {
                format!(" [{}]", cell(subkey))
            };
            let author: String = cell(author).chars().take(8).collect();
            let replayed = if *replayed == Value::Boolean(true) { ", replayed" } else { "" };
            let (cursor, key, kind) = (cell(cursor), cell(key), cell(kind));
            format!(
                "{cursor}  {key}{subkey}  {kind}: {} -> {}  (by {author}{replayed})",
                cell(old),
                cell(new)
            )
        }
        [_, cursor] => format!("{}  changes were lost: this watcher was too slow", cell(cursor)),
        _ => cell(event),
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
        [_, cursor] => json!({ "event": "lagged", "cursor": json::of(cursor) }),
        _ => json::of(event),
    }
}
