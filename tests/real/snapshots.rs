//! Strong keyspaces that are saved from one cluster and restored into another one, in real processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::processes::{Node, Options, PROGRAM, refused, run, succeeded};

/// The first anchor of a cluster of its own.
fn founder(data: &Path) -> Node {
    Node::start(PROGRAM, data, Options { arguments: vec!["--found".to_owned()], ..Options::default() })
}

fn snapshot(what: &str, file: &Path, node: &Node, rest: &[&str]) -> Output {
    let file = file.to_str().expect("a plain name");
    let arguments = [&["snapshot", what, file, "--node", node.redis()], rest].concat();
    run(PROGRAM, &arguments)
}

/// What is read of the keyspaces that are saved.
const READS: &[&[&str]] = &[
    &["SELECT", "orders"],
    &["DBSIZE"],
    &["GET", "register"],
    &["GET", "count"],
    &["SMEMBERS", "set"],
    &["SCARD", "large"],
    &["HGETALL", "hash"],
    &["ZRANGE", "sorted", "0", "-1", "WITHSCORES"],
    &["PEXPIRETIME", "deadline"],
    &["SELECT", "stock"],
    &["DBSIZE"],
    &["GET", "k"],
];

fn read(node: &mut Node) -> Vec<String> {
    READS.iter().map(|command| node.command(command)).collect()
}

/// Two strong keyspaces with every kind of value, and an eventual one.
fn filled(data: &Path) -> Node {
    let mut node = founder(data);
    for keyspace in ["orders", "stock"] {
        assert_eq!(node.command(&["TIDE.MODE", keyspace, "STRONG"]), "OK");
    }
    let large: Vec<String> = (0..3_000).map(|n| format!("element {n}")).collect();
    let large: Vec<&str> = ["SADD", "large"].into_iter().chain(large.iter().map(String::as_str)).collect();
    let writes: &[&[&str]] = &[
        &["SET", "eventual", "1"],
        &["SELECT", "stock"],
        &["SET", "k", "in stock"],
        &["SELECT", "orders"],
        &["SET", "register", "ünï"],
        &["INCRBY", "count", "-7"],
        &["SADD", "set", "a", "b"],
        &["HSET", "hash", "f", "1", "g", ""],
        &["ZADD", "sorted", "-1.5", "m", "inf", "n"],
        &["SET", "deadline", "v"],
        &["PEXPIREAT", "deadline", "9000000000000"],
        &["SET", "removed", "v"],
        &["DEL", "removed"],
        &large,
    ];
    for command in writes {
        let reply = node.command(command);
        assert!(!reply.contains("ERR"), "{command:?}: {reply}");
    }
    node
}

fn saved(folder: &Path, node: &Node) -> PathBuf {
    let file = folder.join("saved");
    let said = succeeded(&snapshot("save", &file, node, &[]));
    assert!(said.contains("keyspace orders at revision ") && said.contains("keyspace stock at "), "{said}");
    file
}

#[test]
fn snapshot_is_restored_into_another_cluster() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = filled(&folder.path().join("a"));
    let file = saved(folder.path(), &node);
    assert!(refused(&snapshot("save", &file, &node, &[])).contains("exists"), "a snapshot replaces nothing");
    let one = folder.path().join("one");
    let said = succeeded(&snapshot("save", &one, &node, &["stock", "--json"]));
    assert!(said.contains(r#""name":"stock""#) && !said.contains("orders"), "{said}");
    let eventual = refused(&snapshot("save", &folder.path().join("none"), &node, &["default"]));
    assert!(eventual.contains("keyspace default is not strong"), "{eventual}");

    let mut other = founder(&folder.path().join("b"));
    let said = succeeded(&snapshot("restore", &file, &other, &[]));
    assert_eq!(said, "keyspace orders: 7 keys restored\nkeyspace stock: 1 keys restored\n");
    assert!(other.command(&["TIDE.MODE", "orders"]).contains("strong"));
    assert_eq!(read(&mut other), read(&mut node));
    assert_eq!(other.command(&["SELECT", "default"]), "OK");
    assert_eq!(other.command(&["DBSIZE"]), "0", "what is eventual is in no snapshot");

    // It holds what was restored now, and is not restored into again.
    let again = refused(&snapshot("restore", &file, &other, &[]));
    assert!(again.contains("keyspace orders holds 7 keys; nothing was restored"), "{again}");
}

/// A restore that was stopped in its first keyspace: the mark that it began is there, and some of the data.
#[test]
fn restore_that_was_stopped_goes_on_with_the_same_snapshot_only() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = filled(&folder.path().join("a"));
    let file = saved(folder.path(), &node);
    let text = fs::read_to_string(&file).expect("it is text");
    let end: serde_json::Value =
        text.lines().last().and_then(|line| serde_json::from_str(line).ok()).expect("JSON");
    let mark = format!("snapshot {}", end["blake3"].as_str().expect("a hash"));
    let mut other = founder(&folder.path().join("b"));
    for keyspace in ["orders", "stock"] {
        assert_eq!(other.command(&["TIDE.MODE", keyspace, "STRONG"]), "OK");
    }
    assert_eq!(other.command(&["SELECT", "orders"]), "OK");
    assert_eq!(other.command(&["SADD", "set", "a"]), "1");
    let held = refused(&snapshot("restore", &file, &other, &[]));
    assert!(held.contains("keyspace orders holds 1 keys; nothing was restored"), "{held}");
    assert_eq!(other.command(&["TIDE.AS", &mark, "0", "DEL", &mark]), "0");
    let another = folder.path().join("another");
    succeeded(&snapshot("save", &another, &node, &["orders"]));
    let held = refused(&snapshot("restore", &another, &other, &[]));
    assert!(held.contains("keyspace orders holds 1 keys; nothing was restored"), "{held}");

    let said = succeeded(&snapshot("restore", &file, &other, &[]));
    assert_eq!(said, "keyspace orders: 7 keys restored\nkeyspace stock: 1 keys restored\n");
    assert_eq!(read(&mut other), read(&mut node));
    // What is whole is not written again, as somebody may have gone on there.
    let again = refused(&snapshot("restore", &file, &other, &[]));
    assert!(again.contains("keyspace orders holds 7 keys; nothing was restored"), "{again}");

    let mut third = founder(&folder.path().join("c"));
    for keyspace in ["orders", "stock"] {
        assert_eq!(third.command(&["TIDE.MODE", keyspace, "STRONG"]), "OK");
    }
    assert_eq!(third.command(&["SELECT", "orders"]), "OK");
    assert_eq!(third.command(&["SET", "mine", "1"]), "OK");
    for number in ["0", "1"] {
        assert_eq!(third.command(&["TIDE.AS", &mark, number, "DEL", &mark]), "0");
    }
    let said = succeeded(&snapshot("restore", &file, &third, &[]));
    assert_eq!(said, "keyspace stock: 1 keys restored\n", "the first one was whole");
    assert_eq!(third.command(&["SELECT", "orders"]), "OK");
    assert_eq!(third.command(&["DBSIZE"]), "1");
}

#[test]
fn snapshot_that_cannot_be_restored_changes_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = filled(&folder.path().join("a"));
    let file = saved(folder.path(), &node);
    let same = refused(&snapshot("restore", &file, &node, &[]));
    assert!(same.contains("is of the cluster of this node"), "{same}");

    let mut other = founder(&folder.path().join("b"));
    let text = fs::read_to_string(&file).expect("it is text");
    let cases = [
        ("turned", text.replacen("in stock", "in stack", 1), "is damaged"),
        ("cut", text[..text.len() / 2].to_owned(), "is cut off"),
        ("newer", text.replacen(r#""version":1"#, r#""version":2"#, 1), "is a snapshot of version 2"),
        ("other", "a note of mine".to_owned(), "is no snapshot"),
    ];
    for (name, text, reason) in cases {
        let wrong = folder.path().join(name);
        fs::write(&wrong, text).expect("it is ours");
        let said = refused(&snapshot("restore", &wrong, &other, &[]));
        assert!(said.contains(reason), "{name}: {said}");
    }
    assert!(!other.command(&["TIDE.KEYSPACES"]).contains("orders"));

    // What somebody wrote there stays, also as long as the keyspace is eventual.
    for command in [&["SELECT", "stock"][..], &["SET", "mine", "1"]] {
        assert_eq!(other.command(command), "OK");
    }
    let held = refused(&snapshot("restore", &file, &other, &[]));
    assert!(held.contains("keyspace stock holds 1 keys; nothing was restored"), "{held}");
    assert!(!other.command(&["TIDE.KEYSPACES"]).contains("orders"));

    let mut alone = Node::start(PROGRAM, &folder.path().join("c"), Options::default());
    let said = refused(&snapshot("restore", &file, &alone, &[]));
    assert!(said.contains("knows of no anchors"), "{said}");
    assert_eq!(alone.command(&["DBSIZE"]), "0");
}
