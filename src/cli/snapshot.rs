//! `snapshot save` and `snapshot restore`: strong keyspaces, from an anchor to a file, and from there into another cluster.
//!
//! Restoring writes ordinary operations, in bounded batches. Whatever can be refused is looked at first: the whole file,
//! the cluster, and each keyspace. If writing is stopped in the middle, what is there is a part, and the same snapshot goes
//! on with it, for a day: an operation that is named by its hash says in each keyspace how far it came. Nothing else is
//! restored into a cluster that holds data.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tidelock_engine::command::OperationId;
use tidelock_engine::id::{ClientId, Epoch, KeyspaceName};

use super::args::SnapshotCommand;
use super::client::{Client, ClientError};
use super::client_args::NodeArgs;
use super::commands::{in_keyspace, print};
use super::files::pieces;
use super::import;
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

/// How far a snapshot was restored into a keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Restored {
    Nothing,
    Part,
    All,
}

/// The operations that say so in the keyspace itself, by their numbers. Their client is the hash of the snapshot, and they
/// do nothing but be remembered, for a day.
const BEGUN: u64 = 0;
const DONE: u64 = 1;

fn restore(path: &Path, node: &NodeArgs, out: &mut dyn Write) -> Result<(), ClientError> {
    let mut progress = ProgressLine::default();
    let snapshot = SnapshotFile::check(path, &mut |done| progress.show(|| format!("{} read", size(done))))?;
    drop(progress);
    let node = NodeArgs { keyspace: None, ..node.clone() };
    let mut client = Client::connect(&node)?;
    let before = check(&node, &mut client, &snapshot)?;
    for SavedKeyspace { name, .. } in &snapshot.header.keyspaces {
        let made = client.call(&[b"TIDE.MODE", name.as_str().as_bytes(), b"STRONG"]);
        made.map_err(|error| stopped(name, &error, "no data was restored"))?;
    }
    let mut input = snapshot.exports()?;
    let mut restored = BTreeMap::new();
    for (SavedKeyspace { name, .. }, before) in snapshot.header.keyspaces.iter().zip(before) {
        if before == Restored::All {
            import::pass_over_next(&mut input)?;
            continue;
        }
        let keys = restore_next(&in_keyspace(&node, name), &snapshot, &mut input).map_err(|error| {
            stopped(
                name,
                &error,
                "the cluster has a part: write nothing there, and restore the same snapshot again within a day, or \
                 restore into another new cluster",
            )
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

/// Writes the next keyspace of a snapshot, between the marks that say so.
fn restore_next(
    node: &NodeArgs,
    snapshot: &SnapshotFile,
    input: &mut dyn BufRead,
) -> Result<u64, ClientError> {
    let name = mark_client(snapshot);
    let mark = |number: u64| {
        let number = number.to_string();
        // No key has this name, so nothing is removed.
        let words = [&b"TIDE.AS"[..], name.as_bytes(), number.as_bytes(), b"DEL", name.as_bytes()];
        Client::connect(node)?.call(&words)
    };
    mark(BEGUN)?;
    let keys = import::import_next(Client::connect(node)?, input)?;
    mark(DONE)?;
    Ok(keys)
}

/// In whose name the marks of a snapshot are made.
fn mark_client(snapshot: &SnapshotFile) -> String {
    format!("snapshot {}", snapshot.hash)
}

/// How far the snapshot was restored into a keyspace before.
fn restored_before(
    client: &mut Client,
    name: &KeyspaceName,
    snapshot: &SnapshotFile,
) -> Result<Restored, ClientError> {
    let mode = client.call(&[b"TIDE.MODE", name.as_str().as_bytes()])?;
    let epoch = mode.items().get(1).and_then(Value::integer).and_then(|epoch| u64::try_from(epoch).ok());
    let epoch = Epoch(epoch.unwrap_or_default());
    if !epoch.is_strong() {
        return Ok(Restored::Nothing);
    }
    let of = ClientId::named(mark_client(snapshot).as_bytes());
    for (number, restored) in [(DONE, Restored::All), (BEGUN, Restored::Part)] {
        let id = OperationId { epoch, client: of, number }.to_string();
        let outcome = client.call(&[b"TIDE.OUTCOME", name.as_str().as_bytes(), id.as_bytes()])?;
        if outcome.items().first() == Some(&Value::Bytes(b"done".to_vec())) {
            return Ok(restored);
        }
    }
    Ok(Restored::Nothing)
}

/// Whether the node is of another cluster than the snapshot, and nothing would be replaced there but what this very
/// snapshot left when its restore was stopped: how far that came, of each keyspace.
fn check(
    node: &NodeArgs,
    client: &mut Client,
    snapshot: &SnapshotFile,
) -> Result<Vec<Restored>, ClientError> {
    let header = &snapshot.header;
    let refuse = |reason: String| ClientError::Restore(format!("{reason}; nothing was restored"));
    match group_of(client)? {
        Some(group) if group == header.group.as_bytes() => {
            return Err(refuse(
                "the snapshot is of the cluster of this node; a snapshot is restored into a new cluster, which \
                 `tidelock run --found` makes"
                    .to_owned(),
            ));
        }
        Some(_) => {}
        None => {
            return Err(refuse(
                "the node knows of no anchors, which agree on what is restored; `tidelock run --found` makes the first"
                    .to_owned(),
            ));
        }
    }
    let known = client.call(&[b"TIDE.KEYSPACES"])?;
    let (mut before, mut held) = (Vec::new(), None);
    for SavedKeyspace { name, .. } in &header.keyspaces {
        let is_it = |keyspace: &&Value| *keyspace.field("name") == Value::Bytes(name.as_str().into());
        if !known.items().iter().any(|keyspace| is_it(&keyspace)) {
            before.push(Restored::Nothing);
            continue;
        }
        let keys = Client::connect(&in_keyspace(node, name))?.call(&[b"DBSIZE"])?;
        let restored = restored_before(client, name, snapshot)?;
        if keys.integer() != Some(0) {
            let holds = refuse(format!("keyspace {name} holds {} keys", cell(&keys)));
            if restored == Restored::Nothing {
                return Err(holds);
            }
            held.get_or_insert(holds);
        }
        before.push(restored);
    }
    // All of it was restored, and may have been written in since.
    match held {
        Some(holds) if before.iter().all(|restored| *restored == Restored::All) => Err(holds),
        _ => Ok(before),
    }
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
