//! Copies that clients keep, on real nodes: they are given up when a peer changes the key, and when it expires.

use crate::processes::{Client, Node, Options, PROGRAM, eventually};

/// A client that hears of the copies of another, and that one.
fn reader(node: &Node) -> (Client, Client) {
    let (mut hearer, mut reader) = (Client::connect(node.redis()), Client::connect(node.redis()));
    let id = hearer.command(&["CLIENT", "ID"]).expect("it runs");
    hearer.command(&["SUBSCRIBE", "__redis__:invalidate"]).expect("it runs");
    let tracked = reader.command(&["CLIENT", "TRACKING", "ON", "REDIRECT", &id]);
    assert_eq!(tracked.expect("it runs"), "OK");
    (hearer, reader)
}

#[test]
fn copies_are_given_up_for_what_peers_write_and_for_what_expires() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut here = Node::start(PROGRAM, &folder.path().join("here"), Options::default());
    let peers = here.listen().to_vec();
    let mut there =
        Node::start(PROGRAM, &folder.path().join("there"), Options { peers, ..Options::default() });
    let (mut hearer, mut reader) = reader(&here);
    let mut get = |key: &str| reader.command(&["GET", key]).expect("it runs");
    let mut hear = |key: &str| {
        let heard = hearer.read_next().expect("it runs");
        assert_eq!(heard, format!("[message __redis__:invalidate [{key}]]"));
    };
    assert_eq!(get("k"), "nil");
    there.command(&["SET", "k", "1"]);
    hear("k");
    assert_eq!(get("k"), "1");
    there.command(&["INCR", "k"]);
    hear("k");
    assert_eq!(get("k"), "2");
    there.command(&["DEL", "k"]);
    hear("k");
    // Who set the deadline is gone when it is past, so the key is hidden here and not yet removed.
    there.command(&["SET", "short", "v", "PX", "3000"]);
    eventually("the key arrives", || here.command(&["GET", "short"]) == "v");
    assert_eq!(get("short"), "v");
    there.kill();
    hear("short");
    assert_eq!(get("short"), "nil");
}
