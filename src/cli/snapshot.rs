//! `snapshot save` and `snapshot restore`: strong keyspaces, from an anchor to a file, and from there into another cluster.
//!
//! Restoring writes ordinary operations, in bounded batches. Whatever can be refused is looked at first: the whole file,
//! the cluster, and each keyspace. If writing is stopped in the middle, what is there is a part, and the node says so:
//! a cluster that holds data is not restored into a second time.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tidelock_engine::id::KeyspaceName;

use super::args::SnapshotCommand;
use super::client::{Client, ClientError};
use super::client_args::NodeArgs;
use super::commands::{in_keyspace, print};
use super::files::pieces;
use super::import::import_next;
use super::progress::{ProgressLine, size};
use super::text::cell;
use super::value::Value;
use crate::backup::{NewFile, date};
use crate::snapshot::{SavedKeyspace, SnapshotFile, SnapshotHeader};

/// How long a node that was just started may take to know its group of anchors.
const FOUNDED_WITHIN: Duration = Duration::from_secs(3);

/// How often it is asked.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Saves or restores a snapshot, and prints what was done on stdout.
///
/// # Errors
/// [`ClientError`]; its text is for people.
pub(crate) fn snapshot(command: &SnapshotCommand) -> Result<(), ClientError> {
    snapshot_on(command, &mut io::stdout().lock())
}

/// Saves or restores a snapshot, and prints what was done.
pub(super) fn snapshot_on(command: &SnapshotCommand, out: &mut dyn Write) -> Result<(), ClientError> {
    match command {
        SnapshotCommand::Save { file, keyspaces, node } => save(file, keyspaces, node, out),
        SnapshotCommand::Restore { file, node } => restore(file, node, out),
        SnapshotCommand::Ls { .. } => unreachable!("it asks no node"),
    }
}

fn save(
    path: &Path,
    keyspaces: &[KeyspaceName],
    node: &NodeArgs,
    out: &mut dyn Write,
) -> Result<(), ClientError> {
    let mut client = Client::connect(&NodeArgs { keyspace: None, ..node.clone() })?;
    let mut file = NewFile::begin(path)?;
    let (mut progress, mut bytes) = (ProgressLine::default(), 0);
    let named = keyspaces.iter().map(KeyspaceName::as_str).chain(node.keyspace.as_deref());
    let command: Vec<&[u8]> = std::iter::once("TIDE.SNAPSHOT").chain(named).map(str::as_bytes).collect();
    pieces(&mut client, &command, |piece| {
        bytes += piece.len() as u64;
        progress.show(|| format!("{} written", size(bytes)));
        Ok(file.write(piece)?)
    })?;
    let saved: SnapshotFile = file.finish_if(|written| {
        let mut show = |done| progress.show(|| format!("{} of {} read back", size(done), size(bytes)));
        SnapshotFile::check(written, &mut show).map_err(ClientError::from)
    })?;
    drop(progress);
    let SnapshotHeader { cluster, group, unix_ms, keyspaces } = &saved.header;
    if node.json {
        let saved = json!({
            "path": path.display().to_string(),
            "cluster": cluster,
            "group": group,
            "unix_ms": unix_ms,
            "bytes": saved.bytes,
            "keyspaces": keyspaces,
        });
        return print(out, &format!("{saved}\n"));
    }
    let mut text = format!("{}: {}, of {}\n", path.display(), size(saved.bytes), date(*unix_ms));
    for SavedKeyspace { name, revision, .. } in keyspaces {
        text.extend(["keyspace ", name.as_str(), " at revision ", &revision.to_string(), "\n"]);
    }
    print(out, &text)
}

fn restore(path: &Path, node: &NodeArgs, out: &mut dyn Write) -> Result<(), ClientError> {
    let mut progress = ProgressLine::default();
    let snapshot = SnapshotFile::check(path, &mut |done| progress.show(|| format!("{} read", size(done))))?;
    drop(progress);
    let node = NodeArgs { keyspace: None, ..node.clone() };
    let mut client = Client::connect(&node)?;
    check(&node, &mut client, &snapshot.header)?;
    for SavedKeyspace { name, .. } in &snapshot.header.keyspaces {
        let made = client.call(&[b"TIDE.MODE", name.as_str().as_bytes(), b"STRONG"]);
        made.map_err(|error| stopped(name, &error, "no data was restored"))?;
    }
    let mut input = snapshot.exports()?;
    let mut restored = BTreeMap::new();
    for SavedKeyspace { name, .. } in &snapshot.header.keyspaces {
        let keys = Client::connect(&in_keyspace(&node, name))
            .and_then(|client| import_next(client, &mut input))
            .map_err(|error| {
                stopped(name, &error, "restore into another new cluster: this one has a part")
            })?;
        restored.insert(name.as_str(), keys);
    }
    if node.json {
        return print(out, &format!("{}\n", json!({ "keys": restored })));
    }
    restored
        .iter()
        .try_for_each(|(name, keys)| print(out, &format!("keyspace {name}: {keys} keys restored\n")))
}

/// Whether the node is of another cluster than the snapshot, and nothing would be replaced there.
fn check(node: &NodeArgs, client: &mut Client, header: &SnapshotHeader) -> Result<(), ClientError> {
    let refuse = |reason: String| Err(ClientError::Restore(format!("{reason}; nothing was restored")));
    match group_of(client)? {
        Some(group) if group == header.group.as_bytes() => {
            return refuse(
                "the snapshot is of the cluster of this node; a snapshot is restored into a new cluster, which \
                 `tidelock run --found` makes"
                    .to_owned(),
            );
        }
        Some(_) => {}
        None => {
            return refuse(
                "the node knows of no anchors, which agree on what is restored; `tidelock run --found` makes the first"
                    .to_owned(),
            );
        }
    }
    let known = client.call(&[b"TIDE.KEYSPACES"])?;
    for SavedKeyspace { name, .. } in &header.keyspaces {
        let is_it = |keyspace: &&Value| *keyspace.field("name") == Value::Bytes(name.as_str().into());
        if !known.items().iter().any(|keyspace| is_it(&keyspace)) {
            continue;
        }
        let keys = Client::connect(&in_keyspace(node, name))?.call(&[b"DBSIZE"])?;
        if keys.integer() != Some(0) {
            return refuse(format!("keyspace {name} holds {} keys", cell(&keys)));
        }
    }
    Ok(())
}

/// The group of anchors that the node knows. The first anchor of a cluster needs a moment to make it.
fn group_of(client: &mut Client) -> Result<Option<Vec<u8>>, ClientError> {
    let begun = Instant::now();
    loop {
        let status = client.call(&[b"TIDE.STATUS"])?;
        match status.field("anchors").field("group") {
            Value::Bytes(group) => return Ok(Some(group.clone())),
            _ if begun.elapsed() >= FOUNDED_WITHIN => return Ok(None),
            _ => thread::sleep(ASK_AGAIN),
        }
    }
}

fn stopped(name: &KeyspaceName, error: &ClientError, what: &str) -> ClientError {
    ClientError::Restore(format!("keyspace {name}: {error}; {what}"))
}
