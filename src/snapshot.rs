//! Snapshots of strong keyspaces: what they held at one moment, in a file that is restored into another cluster.
//!
//! A snapshot is lines of JSON. The first one is the header. Behind it each keyspace is an [`export`](crate::export), from
//! its first line to its last, in the order of the header. The last line has the hash of all before it.
//!
//! | line | fields |
//! |---|---|
//! | first | `tidelock`: `"snapshot"`, `version`: 1, `cluster`: its name, `group`: the name of its group of anchors, `unix_ms`, `keyspaces`: of each `name`, `epoch`, `revision` |
//! | last | `tidelock`: `"end"`, `blake3`: the hash of all lines before it, in hexadecimal |
//!
//! All keyspaces are of one moment, behind everything that was acknowledged before the snapshot was asked for. Which
//! operations made that, and what became of the operations of clients, is not in it: a new cluster counts anew.
//! While a snapshot is made, the store keeps the pages of its moment.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use thiserror::Error;
use tidelock_engine::id::KeyspaceName;
use tidelock_engine::ports::ReadError;
use tidelock_engine::read::QueryError;

use crate::backup::unix_ms;
use crate::export::{Export, ExportError, LINE_BYTES_MAX};
use crate::node::Node;

/// The version of the snapshots that this code writes, and the newest that it reads.
pub const SNAPSHOT_VERSION: u64 = 1;

/// What is read of a file at a time, in bytes.
const READ_BYTES: usize = 1 << 20;

/// What a snapshot says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHeader {
    /// The name of the cluster that it is of.
    pub cluster: String,
    /// The name of the group of anchors that agreed on what is in it. No two clusters have the same.
    pub group: String,
    /// When it was begun, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The keyspaces in it, in their order.
    pub keyspaces: Vec<SavedKeyspace>,
}

/// A keyspace of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedKeyspace {
    /// Its name.
    pub name: KeyspaceName,
    /// Its epoch, which is odd.
    pub epoch: u64,
    /// The number of the last operation that is in it.
    pub revision: u64,
}

/// Why no snapshot is made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SaveError {
    /// A keyspace cannot be read here, or not now.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// Only strong keyspaces are in snapshots.
    #[error("keyspace {0} is not strong; `export` writes what it shows, and `backup` all that the node has")]
    NotStrong(KeyspaceName),
    /// No strong keyspace is known here.
    #[error("the node knows of no strong keyspace")]
    Nothing,
    /// The mode of a keyspace has just changed, or the group of anchors was just made.
    #[error("keyspace {0} is being made; try again in a moment")]
    Changing(KeyspaceName),
}

impl From<ReadError> for SaveError {
    fn from(error: ReadError) -> Self {
        Self::Export(error.into())
    }
}

/// Why a file is not taken for a snapshot.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is something else.
    #[error("{0} is no snapshot of strong keyspaces")]
    Other(PathBuf),
    /// It was made by a newer tidelock.
    #[error("{path} is a snapshot of version {version}, and this tidelock reads up to {SNAPSHOT_VERSION}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// Its end is missing.
    #[error("{0} is cut off")]
    CutOff(PathBuf),
    /// Its content is not what its hash says.
    #[error("{0} is damaged: its content does not have the hash that it says")]
    Damaged(PathBuf),
}

/// A snapshot being made: an iterator over its lines, each with its line end.
#[derive(Debug)]
pub struct Snapshotting {
    header: Option<SnapshotHeader>,
    exports: VecDeque<Export>,
    hasher: blake3::Hasher,
    is_over: bool,
}

impl Node {
    /// Begins a snapshot of strong keyspaces: of these, or of all that there are if none is named. It holds everything
    /// that was acknowledged before in any of them, and all of it as of one moment. Only an anchor that stands where
    /// the log does makes one.
    ///
    /// # Errors
    /// [`SaveError`].
    pub async fn save_snapshot(&self, keyspaces: &[KeyspaceName]) -> Result<Snapshotting, SaveError> {
        let names = self.hold_all(keyspaces).await?;
        let group = self.anchors().and_then(|group| group.key);
        let reader = self.reader()?;
        let (unix_ms, replica, moment) = (unix_ms(), reader.replica(), reader.snapshot());
        let (mut saved, mut exports) = (Vec::new(), VecDeque::new());
        for name in names {
            let (id, mode) = (self.id_of(&name), self.mode(&name));
            let is_here = mode.is_exact && !moment.is_partial(id);
            let Some(author) = mode.author.filter(|_| is_here && group.is_some()) else {
                return Err(SaveError::Changing(name));
            };
            let revision = moment.state(id)?.map_or(0, |state| state.heads.seq(author));
            saved.push(SavedKeyspace { name: name.clone(), epoch: mode.epoch.0, revision });
            exports.push_back(Export::of_moment(moment.clone(), replica, id, name));
        }
        let cluster = self.status().cluster;
        let group = group.map(|group| group.to_string()).unwrap_or_default();
        let header = Some(SnapshotHeader { cluster, group, unix_ms, keyspaces: saved });
        Ok(Snapshotting { header, exports, hasher: blake3::Hasher::new(), is_over: false })
    }

    /// Waits until this anchor has all that was acknowledged before in these keyspaces, or in all that are strong.
    async fn hold_all(&self, wanted: &[KeyspaceName]) -> Result<Vec<KeyspaceName>, SaveError> {
        if let Some(name) = wanted.iter().find(|name| !self.mode(name).epoch.is_strong()) {
            return Err(SaveError::NotStrong(name.clone()));
        }
        let mut held: Vec<KeyspaceName> = Vec::new();
        loop {
            // Of which keyspaces there are an anchor may hear while it catches up.
            let known = if wanted.is_empty() { self.strong_keyspaces() } else { wanted.to_vec() };
            let Some(next) = known.into_iter().find(|name| !held.contains(name)) else { break };
            self.hold_all_of(&next).await?;
            held.push(next);
        }
        if held.is_empty() { Err(SaveError::Nothing) } else { Ok(held) }
    }
}

impl Iterator for Snapshotting {
    type Item = Result<Vec<u8>, QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(header) = self.header.take() {
            let mut json = json!({ "tidelock": "snapshot", "version": SNAPSHOT_VERSION });
            if let (Json::Object(json), Ok(Json::Object(rest))) = (&mut json, serde_json::to_value(header)) {
                json.extend(rest);
            }
            return Some(Ok(self.hashed(line(&json))));
        }
        while let Some(export) = self.exports.front_mut() {
            match export.next() {
                Some(Ok(line)) => return Some(Ok(self.hashed(line))),
                Some(Err(error)) => {
                    (self.is_over, self.exports) = (true, VecDeque::new());
                    return Some(Err(error));
                }
                None => drop(self.exports.pop_front()),
            }
        }
        let is_over = std::mem::replace(&mut self.is_over, true);
        let hash = self.hasher.finalize().to_hex();
        (!is_over).then(|| Ok(line(&json!({ "tidelock": "end", "blake3": hash.as_str() }))))
    }
}

impl Snapshotting {
    fn hashed(&mut self, line: Vec<u8>) -> Vec<u8> {
        self.hasher.update(&line);
        line
    }
}

fn line(json: &Json) -> Vec<u8> {
    (json.to_string() + "\n").into_bytes()
}

/// A snapshot that was read once, and is what its hash says.
#[derive(Debug)]
pub struct SnapshotFile {
    /// What it says of itself.
    pub header: SnapshotHeader,
    /// Its length in bytes.
    pub bytes: u64,
    /// The hash of all but its last line, which no other snapshot has, in hexadecimal.
    pub hash: String,
    path: PathBuf,
}

impl SnapshotFile {
    /// Reads a snapshot to its end; says now and then how many bytes were read.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn check(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<Self, SnapshotError> {
        let of = || path.to_owned();
        let io_error = |source| SnapshotError::Io { path: path.to_owned(), source };
        let mut input = BufReader::with_capacity(READ_BYTES, File::open(path).map_err(io_error)?);
        let first = head(&mut input).map_err(io_error)?;
        let json: Json = serde_json::from_slice(&first).map_err(|_| SnapshotError::Other(of()))?;
        let version = json["version"].as_u64().filter(|_| json["tidelock"] == "snapshot");
        let version = version.ok_or_else(|| SnapshotError::Other(of()))?;
        if version > SNAPSHOT_VERSION {
            return Err(SnapshotError::Newer { path: of(), version });
        }
        let header = serde_json::from_value(json).map_err(|_| SnapshotError::Damaged(of()))?;
        let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
        let mut last = first;
        loop {
            let mut next = Vec::new();
            let read = (&mut input).take(LINE_BYTES_MAX).read_until(b'\n', &mut next).map_err(io_error)?;
            bytes += last.len() as u64;
            progress(bytes);
            if read == 0 {
                break;
            }
            hasher.update(&last);
            last = next;
        }
        let end: Json = serde_json::from_slice(&last).unwrap_or_default();
        if last.last() != Some(&b'\n') || end["tidelock"] != "end" {
            return Err(SnapshotError::CutOff(of()));
        }
        let hash = hasher.finalize().to_hex().to_string();
        if end["blake3"] != hash.as_str() {
            return Err(SnapshotError::Damaged(of()));
        }
        Ok(Self { header, bytes, hash, path: of() })
    }

    /// The exports of its keyspaces, one behind the other, and the last line.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn exports(&self) -> Result<impl BufRead + use<>, SnapshotError> {
        let io_error = |source| SnapshotError::Io { path: self.path.clone(), source };
        let mut input = BufReader::with_capacity(READ_BYTES, File::open(&self.path).map_err(io_error)?);
        head(&mut input).map_err(io_error)?;
        Ok(input)
    }
}

/// The first line.
fn head(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut first = Vec::new();
    input.take(LINE_BYTES_MAX).read_until(b'\n', &mut first)?;
    Ok(first)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::NodeConfig;
    use crate::node::Node;

    async fn founder(folder: &Path) -> Node {
        let config = NodeConfig { listen: Vec::new(), found: true, ..NodeConfig::at(folder) };
        let node = Node::open(config).await.expect("a node opens");
        node.make_strong("orders").await.expect("it is strong");
        node.make_strong("stock").await.expect("it is strong");
        node
    }

    fn named(names: &[&str]) -> Vec<KeyspaceName> {
        names.iter().map(|name| name.parse().expect("a name")).collect()
    }

    async fn put(node: &Node, keyspace: &str, key: &str) {
        let keyspace = node.keyspace(keyspace).expect("a name").strong();
        keyspace.put(key, "v").await.expect("it is written");
    }

    #[tokio::test]
    async fn all_of_a_snapshot_is_of_the_moment_at_which_it_began() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let node = founder(&folder.path().join("node")).await;
        for key in ["a", "b"] {
            put(&node, "orders", key).await;
            put(&node, "stock", key).await;
        }
        let revision =
            node.keyspace("stock").expect("a name").strong().revision().await.expect("it is strong");
        assert!(revision > 0);
        let mut snapshot = node.save_snapshot(&[]).await.expect("it begins");
        let mut bytes = snapshot.next().expect("a header").expect("it reads");
        // Neither what is written meanwhile nor what is removed shows.
        put(&node, "stock", "c").await;
        let orders = node.keyspace("orders").expect("a name").strong();
        assert!(orders.delete("b").await.expect("it is removed"));
        bytes.extend(snapshot.flat_map(|line| line.expect("it reads")));
        let path = folder.path().join("saved");
        fs::write(&path, &bytes).expect("it is ours");
        let file = SnapshotFile::check(&path, &mut |_| {}).expect("it is whole");
        assert_eq!(file.bytes, bytes.len() as u64);
        let group = node.anchors().and_then(|group| group.key).expect("it is known");
        assert_eq!((file.header.cluster.as_str(), file.header.group), ("local", group.to_string()));
        let saved = |name: &str| SavedKeyspace { name: named(&[name]).remove(0), epoch: 1, revision };
        assert_eq!(file.header.keyspaces, [saved("orders"), saved("stock")]);
        let keys: Vec<String> = String::from_utf8(bytes)
            .expect("JSON")
            .lines()
            .map(|line| serde_json::from_str::<Json>(line).expect("JSON"))
            .filter_map(|line| line["key"].as_str().map(str::to_owned))
            .collect();
        assert_eq!(keys, ["a", "b", "a", "b"]);
        node.shutdown().await;
    }

    #[tokio::test]
    async fn only_strong_keyspaces_are_saved() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let node = founder(&folder.path().join("node")).await;
        let refused = node.save_snapshot(&named(&["orders", "notes"])).await.expect_err("notes is eventual");
        assert!(matches!(refused, SaveError::NotStrong(name) if name.as_str() == "notes"));
        let one = node.save_snapshot(&named(&["stock"])).await.expect("it begins").next();
        let header: SnapshotHeader =
            serde_json::from_slice(&one.expect("a header").expect("it reads")).expect("JSON");
        assert_eq!(header.keyspaces.len(), 1);
        node.shutdown().await;
        let config = NodeConfig { listen: Vec::new(), ..NodeConfig::at(folder.path().join("other")) };
        let other = Node::open(config).await.expect("a node opens");
        assert!(matches!(other.save_snapshot(&[]).await, Err(SaveError::Nothing)));
        other.shutdown().await;
    }

    #[test]
    fn file_that_is_not_a_whole_snapshot_is_refused() {
        let head =
            r#"{"tidelock":"snapshot","version":1,"cluster":"c","group":"g","unix_ms":1,"keyspaces":[]}"#;
        let sound = |head: &str| {
            let head = format!("{head}\n{{}}\n");
            let hash = blake3::hash(head.as_bytes()).to_hex();
            format!("{head}{{\"tidelock\":\"end\",\"blake3\":\"{hash}\"}}\n")
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("snapshot");
        let check = |text: &str| {
            fs::write(&path, text).expect("it is ours");
            SnapshotFile::check(&path, &mut |_| {})
        };
        let whole = sound(head);
        assert!(check(&whole).is_ok());
        for end in [whole.len() - 1, whole.len() - 20, head.len() + 4, head.len() + 1] {
            assert!(matches!(check(&whole[..end]), Err(SnapshotError::CutOff(_))), "{end}");
        }
        assert!(matches!(check(&whole.replace("{}", "{ ")), Err(SnapshotError::Damaged(_))));
        assert!(matches!(check(&whole.replace(r#""g""#, r#""h""#)), Err(SnapshotError::Damaged(_))));
        assert!(matches!(check(&sound(&head.replace("unix_ms", "when"))), Err(SnapshotError::Damaged(_))));
        let newer = check(&sound(&head.replace(":1,\"c", ":2,\"c"))).expect_err("it is newer");
        assert!(matches!(newer, SnapshotError::Newer { version: 2, .. }), "{newer}");
        for other in ["", "a note of mine", "7\n", r#"{"tidelock":"export","version":1,"keyspace":"k"}"#] {
            assert!(matches!(check(other), Err(SnapshotError::Other(_))), "{other}");
        }
    }
}
