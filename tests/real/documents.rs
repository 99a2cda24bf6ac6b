//! Documents on real nodes: two and more in one process, over libp2p on loopback and with their stores on disk.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::processes::{Node as Process, Options, PROGRAM, run};
use tidelock::automerge::transaction::Transactable;
use tidelock::automerge::{AutoCommit, Automerge, ObjType, ROOT, ReadDoc};
use tidelock::config::RetentionConfig;
use tidelock::document::{Document, DocumentError, ROWS_MAX};
use tidelock::node::RetireError;
use tidelock::watch::WatchEvent;
use tidelock::{Keyspace, Node, NodeConfig};
use tidelock_engine::bounds::CHUNK_BYTES_MAX;
use tidelock_engine::causality::Dot;
use tidelock_engine::crdt::VisibleKind;
use tidelock_engine::ports::Durability;
use tidelock_engine::request::{Action, Atomicity, Request};
use tidelock_engine::write::Write;

type Checked = Result<(), Box<dyn std::error::Error>>;

async fn open(folder: &Path, name: &str, peers: Vec<String>) -> Result<Node, Box<dyn std::error::Error>> {
    let listen = vec!["/ip4/127.0.0.1/tcp/0".to_owned()];
    Ok(Node::open(NodeConfig { listen, peers, ..NodeConfig::at(folder.join(name)) }).await?)
}

/// Two nodes that are connected, and where they keep their data.
type Pair = (tempfile::TempDir, [Node; 2], [Keyspace; 2]);

async fn pair() -> Result<Pair, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let a = open(folder.path(), "a", Vec::new()).await?;
    let b = open(folder.path(), "b", a.listen_addresses()).await?;
    let keyspaces = [a.keyspace("notes")?, b.keyspace("notes")?];
    Ok((folder, [a, b], keyspaces))
}

/// The same, cut apart: A deletes what B edits at the same time.
async fn pair_that_deletes_and_edits() -> Result<Pair, Box<dyn std::error::Error>> {
    let (folder, [a, b], [of_a, of_b]) = pair().await?;
    put(&of_a.document("page"), "x", 1).await?;
    put(&of_a.document("page"), "y", 2).await?;
    meet(&[&of_a, &of_b]).await?;
    b.set_online(false);
    assert!(of_a.delete("page").await?);
    put(&of_b.document("page"), "z", 3).await?;
    assert_eq!(json(&of_a.document("page")).await?, "none");
    Ok((folder, [a, b], [of_a, of_b]))
}

/// A document, and its last change alone, which builds on the one before.
fn change_that_waits() -> Result<(AutoCommit, Vec<u8>), Box<dyn std::error::Error>> {
    let mut document = AutoCommit::new();
    document.put(ROOT, "x", 1)?;
    let first = document.get_heads();
    document.put(ROOT, "y", 2)?;
    let waits = document.save_after(&first);
    Ok((document, waits))
}

async fn until(
    what: &str,
    mut is_so: impl AsyncFnMut() -> Result<bool, Box<dyn std::error::Error>>,
) -> Checked {
    let started = Instant::now();
    while !is_so().await? {
        if started.elapsed() > Duration::from_mins(1) {
            return Err(format!("waited in vain: {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

async fn meet(keyspaces: &[&Keyspace]) -> Checked {
    until("equal fingerprints", async || {
        Ok(keyspaces.iter().all(|keyspace| keyspace.fingerprint() == keyspaces[0].fingerprint()))
    })
    .await
}

async fn put(document: &Document<'_>, field: &'static str, value: i64) -> Result<(), DocumentError> {
    document.transact(move |edit| edit.put(ROOT, field, value)).await
}

/// Bytes that do not deflate, by a generator that repeats.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x5eed_u64;
    let next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[1]
    };
    std::iter::repeat_with(next).take(count).collect()
}

async fn json(document: &Document<'_>) -> Result<String, DocumentError> {
    Ok(document.json("").await?.map_or_else(|| "none".to_owned(), |json| json.to_string()))
}

/// Waits until documents show the same as JSON.
async fn shows(documents: &[&Document<'_>], expected: &str) -> Checked {
    until(expected, async || {
        for document in documents {
            if json(document).await? != expected {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await
}

fn rows(keyspace: &Keyspace, key: &str) -> Result<Vec<Dot>, Box<dyn std::error::Error>> {
    Ok(keyspace.entry(key)?.rows.iter().map(|row| row.dot).collect())
}

async fn chunk(node: &Node, key: &str, chunk: Vec<u8>) {
    let key = key.as_bytes().to_vec();
    let write = Write::Change { key, chunk, base: Vec::new(), replaced: Vec::new() };
    let request = Request {
        keyspace: "notes".parse().expect("a name"),
        actions: vec![Action::Write(write)],
        atomicity: Atomicity::Each,
        durability: Durability::Durable,
    };
    assert!(matches!(&node.submit(vec![request]).await[..], [Ok(replies)] if replies[0].is_ok()));
}

/// Two edit one document without a network, text at one place too; when they meet, both hold both edits.
#[tokio::test(flavor = "multi_thread")]
async fn edits_that_were_made_apart_are_merged_on_both() -> Checked {
    let (folder, [a, b], [of_a, of_b]) = pair().await?;
    let (at_a, at_b) = (of_a.document("page"), of_b.document("page"));
    assert_eq!(json(&at_a).await?, "none");
    let text = at_a
        .transact(|edit| {
            let text = edit.put_object(ROOT, "text", ObjType::Text)?;
            edit.splice_text(&text, 0, 0, "one two")?;
            Ok(text)
        })
        .await?;
    meet(&[&of_a, &of_b]).await?;
    b.set_online(false);
    let (text_a, text_b) = (text.clone(), text);
    at_a.transact(move |edit| edit.splice_text(&text_a, 3, 0, " and")).await?;
    at_b.transact(move |edit| edit.splice_text(&text_b, 7, 0, " three")).await?;
    put(&at_b, "pages", 2).await?;
    b.set_online(true);
    shows(&[&at_a, &at_b], r#"{"pages":2,"text":"one and two three"}"#).await?;
    assert_eq!(at_a.heads().await?, at_b.heads().await?);
    let saved = at_b.save().await?.ok_or("it is there")?;
    assert_eq!(Automerge::load(&saved)?.get_heads(), at_a.heads().await?);
    assert_eq!(at_a.history().await?.len(), 4);
    assert_eq!(of_a.kind("page")?, Some(VisibleKind::Document));
    // What one node holds goes on after a restart.
    b.shutdown().await;
    let b = open(folder.path(), "b", a.listen_addresses()).await?;
    let of_b = b.keyspace("notes")?;
    assert_eq!(json(&of_b.document("page")).await?, json(&at_a).await?);
    put(&of_b.document("page"), "pages", 3).await?;
    shows(&[&at_a], r#"{"pages":3,"text":"one and two three"}"#).await?;
    a.shutdown().await;
    b.shutdown().await;
    assert!(matches!(at_a.get().await, Err(DocumentError::Closed)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn watcher_is_told_of_edits_of_others_and_of_the_end() -> Checked {
    let (_folder, [a, b], [of_a, of_b]) = pair().await?;
    let at_a = of_a.document("page");
    let mut watch = of_b.document("page").watch(None);
    for value in 0..2 {
        put(&at_a, "x", value).await?;
        let event = tokio::time::timeout(Duration::from_mins(1), watch.next()).await?;
        let Some(WatchEvent::Changed(change)) = event else { return Err(format!("{event:?}").into()) };
        assert_eq!((change.key.as_slice(), change.new.is_some()), (&b"page"[..], true));
        assert_eq!(json(&of_b.document("page")).await?, format!(r#"{{"x":{value}}}"#));
    }
    of_a.delete("page").await?;
    let event = tokio::time::timeout(Duration::from_mins(1), watch.next()).await?;
    assert!(matches!(event, Some(WatchEvent::Changed(change)) if change.new.is_none()));
    assert_eq!(json(&of_b.document("page")).await?, "none");
    a.shutdown().await;
    b.shutdown().await;
    Ok(())
}

/// Many edits: rows are bounded, and concurrent ones that each write the document whole lose nothing.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_bounded_and_two_that_compact_at_once_lose_nothing() -> Checked {
    let (_folder, [a, b], [of_a, of_b]) = pair().await?;
    let (of_a, of_b) = (of_a.buffered(), of_b.buffered());
    let (at_a, at_b) = (of_a.document("page"), of_b.document("page"));
    put(&at_a, "first", 1).await?;
    for _ in 1..ROWS_MAX {
        put(&at_a, "a", 0).await?;
    }
    assert_eq!(rows(&of_a, "page")?.len(), 1 + 1, "an edit that changes nothing is no row");
    for value in 2..i64::try_from(ROWS_MAX)? {
        put(&at_a, "a", value).await?;
    }
    assert_eq!(rows(&of_a, "page")?.len(), ROWS_MAX);
    meet(&[&of_a, &of_b]).await?;
    b.set_online(false);
    put(&at_a, "a", 1_000).await?;
    put(&at_b, "b", 2_000).await?;
    assert_eq!((rows(&of_a, "page")?.len(), rows(&of_b, "page")?.len()), (1, 1));
    put(&at_b, "c", 3_000).await?;
    b.set_online(true);
    let expected = r#"{"a":1000,"b":2000,"c":3000,"first":1}"#;
    shows(&[&at_a, &at_b], expected).await?;
    meet(&[&of_a, &of_b]).await?;
    assert_eq!(rows(&of_a, "page")?.len(), 3);
    at_a.compact().await?;
    meet(&[&of_a, &of_b]).await?;
    assert_eq!(rows(&of_b, "page")?.len(), 1);
    assert_eq!(json(&at_b).await?, expected);
    a.shutdown().await;
    b.shutdown().await;
    Ok(())
}

/// A deletes what B edits at the same time: the whole document comes back, with what B saw of it.
#[tokio::test(flavor = "multi_thread")]
async fn change_beside_a_delete_brings_the_whole_document_back() -> Checked {
    let (_folder, [a, b], [of_a, of_b]) = pair_that_deletes_and_edits().await?;
    let (at_a, at_b) = (of_a.document("page"), of_b.document("page"));
    b.set_online(true);
    shows(&[&at_a, &at_b], r#"{"x":1,"y":2,"z":3}"#).await?;
    meet(&[&of_a, &of_b]).await?;
    assert_eq!(rows(&of_a, "page")?.len(), 1);
    assert!(b.status().counters.contains(&("documents_restored".to_owned(), 1)));
    // A DEL that saw it all ends it.
    of_a.delete("page").await?;
    meet(&[&of_a, &of_b]).await?;
    assert_eq!((json(&at_a).await?, json(&at_b).await?), ("none".to_owned(), "none".to_owned()));
    assert_eq!(of_b.kind("page")?, None);
    a.shutdown().await;
    b.shutdown().await;
    Ok(())
}

/// The same, and the author forgets the document in between: it finds what is missing in its log.
#[tokio::test(flavor = "multi_thread")]
async fn author_that_was_restarted_restores_from_its_log() -> Checked {
    let (folder, [a, b], [of_a, _]) = pair_that_deletes_and_edits().await?;
    b.shutdown().await;
    let b = open(folder.path(), "b", a.listen_addresses()).await?;
    let of_b = b.keyspace("notes")?;
    shows(&[&of_a.document("page"), &of_b.document("page")], r#"{"x":1,"y":2,"z":3}"#).await?;
    a.shutdown().await;
    b.shutdown().await;
    Ok(())
}

/// The same, and the author has neither the document in memory nor a log: what is missing is what the DEL removes.
#[tokio::test(flavor = "multi_thread")]
async fn author_without_a_log_restores_what_the_delete_removed() -> Checked {
    let (folder, [a, b], [of_a, _]) = pair_that_deletes_and_edits().await?;
    b.shutdown().await;
    let retention = RetentionConfig { age_s: 0, peers_s: 0, bytes: 0 };
    let b = Node::open(NodeConfig { retention, ..NodeConfig::at(folder.path().join("b")) }).await?;
    until("what it builds on is not in the log", async || Ok(b.status().frames <= 1)).await?;
    a.listen_addresses().iter().for_each(|address| b.connect(address));
    let of_b = b.keyspace("notes")?;
    shows(&[&of_a.document("page"), &of_b.document("page")], r#"{"x":1,"y":2,"z":3}"#).await?;
    meet(&[&of_a, &of_b]).await?;
    assert!(b.status().counters.contains(&("documents_restored".to_owned(), 1)));
    a.shutdown().await;
    b.shutdown().await;
    Ok(())
}

/// A node that was retired goes on as another replica, and restores what it wrote as the former one.
#[tokio::test(flavor = "multi_thread")]
async fn node_that_rejoined_restores_its_former_changes() -> Checked {
    let (_folder, [a, b], [of_a, of_b]) = pair().await?;
    let (at_a, at_b) = (of_a.document("page"), of_b.document("page"));
    put(&at_a, "x", 1).await?;
    put(&at_b, "y", 2).await?;
    meet(&[&of_a, &of_b]).await?;
    let former = b.replica();
    assert!(matches!(a.retire(former, None, false).await, Err(RetireError::Connected(_))));
    assert!(matches!(b.retire(former, None, false).await, Err(RetireError::Own(_))));
    b.set_online(false);
    of_a.delete("page").await?;
    assert_eq!(a.retire(former, None, true).await?, 1);
    assert_eq!(a.retire(former, None, true).await?, 0, "once is enough");
    put(&at_b, "z", 3).await?;
    b.set_online(true);
    until("it knows", async || Ok(put(&at_b, "w", 4).await.is_err())).await?;
    b.rejoin().await?;
    assert_ne!(b.replica(), former);
    until("it is whole again", async || {
        // It was refused to write while it was retired, and does so when the document is next read there.
        let at_b = json(&at_b).await?;
        Ok(at_b.contains(r#""z":3"#) && json(&at_a).await? == at_b)
    })
    .await?;
    let shown = json(&at_a).await?;
    assert!(shown.contains(r#""x":1,"y":2,"z":3"#), "{shown}");
    let listed = a.replicas()?;
    let is_retired = |replica| {
        let found = listed.iter().find(|state| state.replica == replica);
        found.is_some_and(|state| state.keyspaces[0].retired.is_some())
    };
    assert!(is_retired(former) && !is_retired(b.replica()) && !is_retired(a.replica()));
    a.shutdown().await;
    b.shutdown().await;
    Ok(())
}

/// The largest document that can be saved, and one of a byte more, which leaves it as it was.
#[tokio::test(flavor = "multi_thread")]
async fn document_is_bounded_at_the_bound_and_past_it() -> Checked {
    let folder = tempfile::tempdir()?;
    let a = open(folder.path(), "a", Vec::new()).await?;
    let notes = a.keyspace("notes")?;
    let write = async |key: &str, count: usize| {
        notes.document(key).transact(move |edit| edit.put(ROOT, "b", noise(count))).await
    };
    let Err(DocumentError::TooLarge(saved)) = write("first", CHUNK_BYTES_MAX).await else {
        return Err("it has a header too".into());
    };
    // What deflate adds to bytes that it cannot shorten grows by a few bytes in a hundred thousand.
    let most = CHUNK_BYTES_MAX - (saved - CHUNK_BYTES_MAX);
    let slack = 8;
    match write("past", most + slack).await {
        Err(DocumentError::TooLarge(saved)) => assert!(saved <= CHUNK_BYTES_MAX + slack, "{saved}"),
        other => return Err(format!("{other:?}").into()),
    }
    assert_eq!(notes.kind("past")?, None);
    write("at", most).await?;
    let saved = notes.document("at").save().await?.map_or(0, |saved| saved.len());
    assert!((CHUNK_BYTES_MAX - slack..=CHUNK_BYTES_MAX).contains(&saved), "{saved}");
    a.shutdown().await;
    Ok(())
}

/// A change whose author never restores what it builds on: nobody sees it, an edit begins beside it, and both
/// become one document when the rest comes. Half a document is not even edited.
#[tokio::test(flavor = "multi_thread")]
async fn changes_that_wait_are_named_and_join_when_the_rest_comes() -> Checked {
    let folder = tempfile::tempdir()?;
    let a = open(folder.path(), "a", Vec::new()).await?;
    let notes = a.keyspace("notes")?;
    let page = notes.document("page");
    let (mut lost, waits) = change_that_waits()?;
    chunk(&a, "page", waits).await;
    assert_eq!(json(&page).await?, "none");
    assert!(
        a.status().warnings.iter().any(|warning| warning.contains("the author of the change restores it"))
    );
    put(&page, "z", 3).await?;
    assert_eq!(json(&page).await?, r#"{"z":3}"#);
    page.compact().await?;
    assert_eq!(rows(&notes, "page")?.len(), 1);
    page.merged(lost.save()).await?;
    assert_eq!(json(&page).await?, r#"{"x":1,"y":2,"z":3}"#);
    assert!(!a.status().warnings.iter().any(|warning| warning.contains("document page")));

    let (mut one, mut other) = (AutoCommit::new(), AutoCommit::new());
    one.put(ROOT, "x", 1)?;
    other.put(ROOT, "y", 2)?;
    let root = other.save_after(&[]);
    one.merge(&mut other)?;
    let both = one.get_heads();
    one.put(ROOT, "z", 3)?;
    chunk(&a, "half", root).await;
    chunk(&a, "half", one.save_after(&both)).await;
    let half = notes.document("half");
    assert_eq!(json(&half).await?, "none");
    assert!(matches!(put(&half, "w", 4).await, Err(DocumentError::Incomplete)));
    assert!(notes.delete("half").await?);
    put(&half, "w", 4).await?;
    assert_eq!(json(&half).await?, r#"{"w":4}"#);
    a.shutdown().await;
    Ok(())
}

/// An export holds what is shown. Rows as they are, of which some wait for others, are refused by name.
#[tokio::test(flavor = "multi_thread")]
async fn exports_leave_out_what_waits_and_imports_refuse_it() -> Checked {
    let folder = tempfile::tempdir()?;
    let a = open(folder.path(), "a", Vec::new()).await?;
    let notes = a.keyspace("notes")?;
    let (_, waits) = change_that_waits()?;
    for key in ["page", "hidden"] {
        chunk(&a, key, waits.clone()).await;
    }
    put(&notes.document("page"), "z", 3).await?;
    notes.register("text").set("v").await?;
    let lines = a.export(notes.name())?.collect::<Result<Vec<_>, _>>()?.concat();
    let mut other = Process::start(PROGRAM, &folder.path().join("b"), Options::default());
    let import = |name: &str, lines: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, lines).expect("it is ours");
        run(PROGRAM, &["import", "default", path.to_str().expect("a plain name"), "--node", other.redis()])
    };
    let done = import("export", &lines);
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("1 documents are not in it"), "{done:?}");
    let raw = String::from_utf8(lines)?;
    let hex: String = waits.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let begin = raw.lines().next().ok_or("it has lines")?;
    let line = format!(r#"{{"key":"half","kind":"document","saved":{{"hex":"{hex}"}}}}"#);
    let refused = import("half", format!("{begin}\n{line}\n{{\"end\":true,\"lines\":2}}\n").as_bytes());
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && error.contains("line 2") && error.contains("build on"), "{error}");
    assert_eq!(other.command(&["TIDE.DOC", "GET", "page"]), r#"{"z":3}"#);
    assert_eq!(other.command(&["GET", "text"]), "v");
    assert_eq!(other.command(&["EXISTS", "hidden", "half"]), "0");
    a.shutdown().await;
    Ok(())
}

/// Bytes that are no document, from a peer: skipped, named, and in the way of nobody.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_rows_are_skipped_and_named() -> Checked {
    let (_folder, [a, b], [of_a, of_b]) = pair().await?;
    put(&of_a.document("page"), "x", 1).await?;
    meet(&[&of_a, &of_b]).await?;
    chunk(&b, "page", b"no document".to_vec()).await;
    chunk(&b, "page", vec![0x85, 0x6f, 0x4a, 0x83, 0, 0, 0, 0, 0, 1, 0xff]).await;
    chunk(&b, "other", Vec::new()).await;
    meet(&[&of_a, &of_b]).await?;
    let at_a = of_a.document("page");
    assert_eq!(json(&at_a).await?, r#"{"x":1}"#);
    assert_eq!(json(&of_a.document("other")).await?, "none");
    put(&at_a, "y", 2).await?;
    put(&of_b.document("other"), "z", 3).await?;
    shows(&[&at_a, &of_b.document("page")], r#"{"x":1,"y":2}"#).await?;
    shows(&[&of_a.document("other")], r#"{"z":3}"#).await?;
    let status = a.status();
    assert!(status.warnings.iter().any(|warning| warning.contains("document page")), "{:?}", status.warnings);
    assert!(status.counters.iter().any(|(name, count)| name == "documents_changes_skipped" && *count >= 3));
    a.shutdown().await;
    b.shutdown().await;
    Ok(())
}

/// A closure that fails, panics, or writes too much costs its own edit only.
#[tokio::test(flavor = "multi_thread")]
async fn edit_that_fails_leaves_nothing_and_the_worker_goes_on() -> Checked {
    let folder = tempfile::tempdir()?;
    let a = open(folder.path(), "a", Vec::new()).await?;
    let notes = a.keyspace("notes")?;
    let page = notes.document("page");
    put(&page, "x", 1).await?;
    let panicked = page.transact::<()>(|edit| {
        edit.put(ROOT, "x", 2)?;
        panic!("as the test wants it");
    });
    let refused = page.transact(|edit| {
        edit.put(ROOT, "x", 3)?;
        edit.delete(ROOT, 7)
    });
    let (panicked, refused) = tokio::join!(panicked, refused);
    assert!(matches!(panicked, Err(DocumentError::Panicked(text)) if text == "as the test wants it"));
    assert!(matches!(refused, Err(DocumentError::Refused(_))));
    assert_eq!(json(&page).await?, r#"{"x":1}"#);
    let too_much = page.transact(|edit| edit.put(ROOT, "bytes", noise(17 << 20)));
    assert!(matches!(too_much.await, Err(DocumentError::TooLarge(bytes)) if bytes > 16 << 20));
    put(&page, "y", 2).await?;
    assert_eq!(json(&page).await?, r#"{"x":1,"y":2}"#);
    notes.register("text").set("v").await?;
    assert!(matches!(put(&notes.document("text"), "x", 1).await, Err(DocumentError::Read(_))));
    assert!(matches!(page.merged(b"nothing".to_vec()).await, Err(DocumentError::Invalid(_))));
    a.shutdown().await;
    Ok(())
}

/// What one keyspace saved another takes in, more than once, and what both hold is one history.
#[tokio::test(flavor = "multi_thread")]
async fn saved_document_is_merged_elsewhere() -> Checked {
    let folder = tempfile::tempdir()?;
    let a = open(folder.path(), "a", Vec::new()).await?;
    let (here, there) = (a.keyspace("here")?, a.keyspace("there")?);
    let (here, there) = (here.document("page"), there.document("page"));
    put(&here, "x", 1).await?;
    let saved = here.save().await?.ok_or("it is there")?;
    let merged = there.merged(saved.clone()).await?;
    assert!(merged.get(ROOT, "x")?.is_some());
    there.merged(saved).await?;
    put(&there, "y", 2).await?;
    here.merged(there.save().await?.ok_or("it is there")?).await?;
    assert_eq!(here.heads().await?, there.heads().await?);
    assert_eq!(json(&here).await?, r#"{"x":1,"y":2}"#);
    a.shutdown().await;
    Ok(())
}
