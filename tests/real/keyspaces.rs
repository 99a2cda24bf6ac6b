//! Keyspaces that real nodes join and leave while they run, by the command line and by the Redis port.

use crate::processes::{Node, Options, PROGRAM, eventually, run};

fn tidelock(node: &Node, arguments: &[&str]) -> (bool, String) {
    let output = run(PROGRAM, &[arguments, &["--node", node.redis()]].concat());
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).expect("it prints text"))
}

/// A keyspace that was just left may still be being dropped.
fn joins(node: &Node, keyspace: &str) {
    eventually("it can join", || tidelock(node, &["keyspace", "join", keyspace]).0);
}

fn reads(node: &mut Node, command: &[&str], expected: &str) {
    eventually("it has come", || node.command(command) == expected);
}

/// A phone replicates one keyspace, joins another one without a restart, leaves it, is killed while what it left is
/// dropped, and joins again behind its last operation.
#[test]
fn phone_joins_and_leaves_a_keyspace() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut server = Node::start(PROGRAM, &folder.path().join("server"), Options::default());
    let mut phone = Node::start(
        PROGRAM,
        &folder.path().join("phone"),
        Options {
            peers: server.listen().to_vec(),
            arguments: ["--keyspaces", "default"].map(str::to_owned).to_vec(),
            ..Options::default()
        },
    );
    assert_eq!(server.command(&["SELECT", "photos"]), "OK");
    for n in 0..200 {
        assert_eq!(server.command(&["SADD", "album", &format!("photo {n}")]), "1");
    }
    assert_eq!(
        phone.command(&["SELECT", "photos"]),
        "error: ERR keyspace photos is not replicated on this node"
    );
    joins(&phone, "photos");
    assert_eq!(phone.command(&["SELECT", "photos"]), "OK");
    reads(&mut phone, &["SCARD", "album"], "200");
    assert_eq!(phone.command(&["INCRBY", "views", "5"]), "5");
    phone.kill_and_restart();
    assert_eq!(phone.command(&["SELECT", "photos"]), "OK", "the choice outlasts a restart");
    assert_eq!(phone.command(&["GET", "views"]), "5");
    eventually("a peer vouches", || tidelock(&phone, &["keyspace", "leave", "photos"]).0);
    assert!(phone.command(&["GET", "views"]).contains("not replicated"), "it is left at once");
    phone.kill_and_restart();
    assert!(phone.command(&["SELECT", "photos"]).contains("not replicated"));
    assert_eq!(server.command(&["INCRBY", "views", "10"]), "15");
    joins(&phone, "photos");
    // Until all of it has come it says that it is loading.
    reads(&mut phone, &["SELECT", "photos"], "OK");
    reads(&mut phone, &["GET", "views"], "15");
    assert_eq!(phone.command(&["INCR", "views"]), "16");
    reads(&mut server, &["GET", "views"], "16");
    assert_eq!(server.fingerprint("photos"), phone.fingerprint("photos"));
}

/// The only one that has a keyspace does not leave it, unless it is forced; then it is gone, also from the disk.
#[test]
fn last_holder_leaves_by_force_only() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("node");
    let mut node = Node::start(PROGRAM, &data, Options::default());
    assert_eq!(node.command(&["SELECT", "secrets"]), "OK");
    for n in 0..50 {
        assert_eq!(node.command(&["SET", &format!("key {n}"), "value"]), "OK");
    }
    let (is_done, text) = tidelock(&node, &["keyspace", "leave", "secrets"]);
    assert!(!is_done && text.contains("50 operations are not known to be anywhere else"), "{text}");
    assert_eq!(node.command(&["GET", "key 1"]), "value");
    let (is_done, text) = tidelock(&node, &["keyspace", "leave", "secrets", "--force"]);
    assert!(is_done, "{text}");
    joins(&node, "secrets");
    assert_eq!(node.command(&["SELECT", "secrets"]), "OK");
    assert_eq!(node.command(&["DBSIZE"]), "0");
    assert_eq!(node.command(&["SET", "key 1", "new"]), "OK");
    assert_eq!(node.terminate(), Some(0));
    let checked = run(PROGRAM, &["check", data.to_str().expect("a plain name")]);
    let text = String::from_utf8(checked.stdout).expect("it prints text");
    assert!(
        checked.status.success() && text.contains("1 rows, 1 keyspaces, ") && text.contains("vectors take "),
        "{text}"
    );
}

/// A node is asked for a lock, refuses it, is told to decide by itself, and remembers that over a kill.
#[test]
fn node_decides_once_it_is_told_to() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = Node::start(PROGRAM, &folder.path().join("node"), Options::default());
    let refusal = "error: CONSISTENCY SETNX needs a strong keyspace (TIDE.MODE default strong)";
    assert_eq!(node.command(&["SETNX", "lock", "me"]), refusal);
    let (is_done, text) = tidelock(&node, &["keyspace", "conditional", "default", "local"]);
    assert!(is_done, "{text}");
    assert_eq!(node.command(&["SETNX", "lock", "me"]), "1");
    node.kill_and_restart();
    assert_eq!(
        node.command(&["SETNX", "lock", "you"]),
        "0",
        "the choice outlasts a kill, and so does the lock"
    );
    assert_eq!(node.command(&["WATCH", "lock"]), "OK");
    assert_eq!(node.command(&["SET", "lock", "another"]), "OK");
    assert_eq!(node.command(&["MULTI"]), "OK");
    assert_eq!(node.command(&["DEL", "lock"]), "QUEUED");
    assert_eq!(node.command(&["EXEC"]), "nil");
    assert_eq!(node.command(&["GET", "lock"]), "another");
    let (_, shown) = tidelock(&node, &["keyspaces"]);
    assert!(shown.contains("CONDITIONAL") && shown.contains("local"), "{shown}");
    assert!(tidelock(&node, &["keyspace", "conditional", "default", "strong"]).0);
    assert_eq!(node.command(&["SETNX", "other", "me"]), refusal);
}

#[test]
fn what_was_ordered_shows_at_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = Node::start(PROGRAM, folder.path(), Options::default());
    assert_eq!(node.command(&["SET", "k", "v"]), "OK");
    for round in 0..20 {
        let (quota, decided) = (10_000 + round, ["LOCAL", "STRONG"][round % 2]);
        assert_eq!(node.command(&["TIDE.KEYSPACE", "QUOTA", "default", &quota.to_string()]), "OK");
        assert_eq!(node.command(&["TIDE.KEYSPACE", "CONDITIONAL", "default", decided]), "OK");
        let (shown, info) = (node.command(&["TIDE.KEYSPACES"]), node.command(&["INFO", "keyspace"]));
        let decided = decided.to_lowercase();
        assert!(shown.contains(&format!("quota {quota} conditional {decided} ")), "{shown}");
        assert!(info.contains(&format!("db0:keys=1,expires=0,avg_ttl=0,conditional={decided}")), "{info}");
    }
}
