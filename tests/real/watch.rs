//! Watching through the Redis port of a real node: what a cursor promises.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::processes::{Client, Node, Options, PROGRAM};

/// Ends the writer of a test also when the test fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The keys of one watch from a cursor, with their cursors, until `is_enough`.
fn watched(node: &Node, from: u64, mut is_enough: impl FnMut(&str) -> bool) -> Vec<(u64, String)> {
    let mut client = Client::connect(node.redis());
    let from = from.to_string();
    assert_eq!(client.command(&["TIDE.WATCH", "PREFIX", "q", "FROM", &from]).expect("it runs"), "OK");
    let mut seen = Vec::new();
    loop {
        // A push is a list: [tide.change cursor keyspace key kind subkey old new author replayed].
        let event = client.read_next().expect("it runs");
        let fields: Vec<&str> = event.trim_matches(['[', ']']).split(' ').collect();
        seen.push((fields[1].parse().expect("a cursor"), fields[3].to_owned()));
        if is_enough(fields[3]) {
            return seen;
        }
    }
}

#[test]
fn cursor_of_one_change_does_not_skip_the_others_of_its_turn() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = Node::start(PROGRAM, &folder.path().join("node"), Options::default());
    assert_eq!(node.command(&["MSET", "q1", "a", "q2", "b", "q3", "c"]), "OK");
    assert_eq!(node.command(&["SET", "q4", "d"]), "OK");
    let first = watched(&node, 0, |_| true);
    let rest = watched(&node, first[0].0, |key| key == "q4");
    let keys: BTreeSet<&str> = first.iter().chain(&rest).map(|(_, key)| key.as_str()).collect();
    assert_eq!(keys, BTreeSet::from(["q1", "q2", "q3", "q4"]));
}

#[test]
fn nothing_is_lost_where_the_replay_ends_and_the_live_watch_begins() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(PROGRAM, &folder.path().join("node"), Options::default());
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::connect(node.redis());
            while !stop.load(Ordering::Relaxed) {
                let number = written.load(Ordering::Relaxed);
                client.command(&["SET", &format!("q{number:08}"), "v"]).expect("it runs");
                written.store(number + 1, Ordering::Relaxed);
            }
        });
        let _stop = StopAtEnd(&stop);
        for _ in 0..40 {
            let target = format!("q{:08}", written.load(Ordering::Relaxed) + 30);
            let seen = watched(&node, 0, |key| key >= target.as_str());
            let keys: Vec<&String> = seen.iter().map(|(_, key)| key).collect();
            let expected: Vec<String> = (0..keys.len()).map(|number| format!("q{number:08}")).collect();
            let is_whole = keys.iter().copied().eq(&expected);
            assert!(is_whole, "a gap or a repetition among {} keys", keys.len());
        }
    });
}

/// Prints operations by revision, from the first that is held, until it is ended.
#[test]
fn command_line_watches_a_strong_keyspace_by_revision() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = Options { arguments: vec!["--found".to_owned()], ..Options::default() };
    let mut node = Node::start(PROGRAM, &folder.path().join("node"), options);
    assert_eq!(node.command(&["TIDE.MODE", "orders", "STRONG"]), "OK");
    for command in [&["SELECT", "orders"][..], &["SET", "k", "v"], &["MSET", "a", "1", "b", "2"]] {
        assert_eq!(node.command(command), "OK");
    }
    let lines = |more: &[&str], count: usize| {
        let mut watch = Command::new(PROGRAM)
            .args(["watch", "--prefix", "", "--keyspace", "orders", "--node", node.redis()])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = BufReader::new(watch.stdout.take().expect("it is piped"));
        let lines: Vec<String> = stdout.lines().take(count).map(|line| line.expect("it is text")).collect();
        watch.kill().expect("it runs");
        watch.wait().expect("it ends");
        lines
    };
    let lines_of_all = lines(&["--after-revision", "0"], 3);
    let first = lines_of_all[0].strip_suffix("  k  register: v").expect("the first one");
    assert!(lines_of_all[1].ends_with("  a  register: 1") && lines_of_all[2].ends_with("  b  register: 2"));
    let behind = lines(&["--after-revision", first, "--json"], 1);
    let operation: serde_json::Value = serde_json::from_str(&behind[0]).expect("it is JSON");
    assert_eq!(operation["event"], "operation");
    assert_eq!(operation["changes"][1]["key"], "b");
}
