//! Real processes: nodes started by hand, cut off, killed and restarted, driven through their Redis ports.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::processes::{Client, Node, Options, PROGRAM, eventually, run};

struct Cluster {
    nodes: Vec<Node>,
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Nodes of which each later one dials the first only.
    fn start(count: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut cluster = Self { nodes: Vec::new(), folder };
        (0..count).for_each(|_| cluster.join());
        cluster
    }

    fn join(&mut self) {
        let peers = self.nodes.first().map(|first| first.listen().to_vec()).unwrap_or_default();
        let data = self.folder.path().join(format!("node-{}", self.nodes.len()));
        self.nodes.push(Node::start(PROGRAM, &data, Options { peers, ..Options::default() }));
    }

    fn converges(&mut self, keyspace: &str) {
        eventually("all fingerprints are equal", || {
            let prints: BTreeSet<String> =
                self.nodes.iter_mut().map(|node| node.fingerprint(keyspace)).collect();
            prints.len() == 1
        });
    }

    fn everywhere(&mut self, command: &[&str], expected: &str) {
        for node in &mut self.nodes {
            assert_eq!(node.command(command), expected, "{command:?}");
        }
    }
}

#[test]
fn three_nodes_converge_after_writes_on_all_while_one_is_offline() {
    let mut cluster = Cluster::start(3);
    assert_eq!(cluster.nodes[0].command(&["SADD", "s", "old"]), "1");
    cluster.converges("default");
    assert_eq!(cluster.nodes[2].command(&["TIDE.NETWORK", "OFFLINE"]), "OK");
    for (index, node) in cluster.nodes.iter_mut().enumerate() {
        assert!(!node.command(&["INCRBY", "n", "10"]).starts_with("error"));
        assert_eq!(node.command(&["SADD", "s", &format!("e{index}")]), "1");
        assert_eq!(node.command(&["SET", "r", &index.to_string()]), "OK");
    }
    assert_eq!(cluster.nodes[0].command(&["SREM", "s", "old"]), "1");
    assert_eq!(cluster.nodes[2].command(&["SADD", "s", "old"]), "0", "it is there, and added again");
    assert_eq!(cluster.nodes[2].command(&["TIDE.NETWORK", "ONLINE"]), "OK");
    cluster.converges("default");
    cluster.everywhere(&["GET", "n"], "30");
    cluster.everywhere(&["SMEMBERS", "s"], "[e0 e1 e2 old]");
    let read = cluster.nodes[0].command(&["GET", "r"]);
    cluster.everywhere(&["GET", "r"], &read);
}

#[test]
fn two_nodes_that_dial_only_a_third_find_each_other() {
    let mut cluster = Cluster::start(3);
    for index in [1, 2] {
        eventually("both are connected with the other two", || {
            cluster.nodes[index].command(&["TIDE.PEERS"]).matches(" state connected ").count() >= 2
        });
    }
    cluster.nodes[0].kill();
    assert_eq!(cluster.nodes[1].command(&["SET", "k", "without the third"]), "OK");
    eventually("the write goes the direct way", || {
        cluster.nodes[2].command(&["GET", "k"]) == "without the third"
    });
}

#[test]
fn killed_in_mid_write_a_node_has_all_that_it_acknowledged() {
    let mut cluster = Cluster::start(3);
    for victim in [0, 1, 2] {
        let stop = AtomicBool::new(false);
        let key = format!("list-{victim}");
        let acknowledged = thread::scope(|scope| {
            let node = &mut cluster.nodes[victim];
            let address = node.redis().to_owned();
            let writer = scope.spawn({
                let (stop, key) = (&stop, &key);
                move || write_until_killed(&address, key, stop)
            });
            eventually("some writes were acknowledged", || {
                let count = node.command(&["SCARD", &key]);
                count.parse::<usize>().expect("a number") > 60
            });
            node.kill();
            stop.store(true, Ordering::Relaxed);
            writer.join().expect("the writer ends")
        });
        assert!(acknowledged > 50);
        cluster.nodes[victim].restart();
        cluster.converges("default");
        let found: u64 = cluster.nodes[victim].command(&["SCARD", &key]).parse().expect("a number");
        // One write may have been on its way when the node died.
        assert!(found == acknowledged || found == acknowledged + 1, "{found} of {acknowledged}");
        cluster.everywhere(&["SCARD", &key], &found.to_string());
    }
}

/// Adds elements one by one until the node dies; answers how many were acknowledged.
fn write_until_killed(address: &str, key: &str, stop: &AtomicBool) -> u64 {
    let mut client = Client::connect(address);
    let mut acknowledged = 0;
    while !stop.load(Ordering::Relaxed) {
        match client.command(&["SADD", key, &acknowledged.to_string()]) {
            Ok(reply) => {
                assert_eq!(reply, "1");
                acknowledged += 1;
            }
            Err(_) => break,
        }
    }
    acknowledged
}

#[test]
fn late_joiner_with_an_empty_folder_gets_everything() {
    let mut cluster = Cluster::start(1);
    for batch in 0..20 {
        let fields: Vec<String> = (0..500).flat_map(|n| [format!("k{batch}-{n}"), format!("v{n}")]).collect();
        let mut command = vec!["MSET"];
        command.extend(fields.iter().map(String::as_str));
        assert_eq!(cluster.nodes[0].command(&command), "OK");
    }
    cluster.join();
    cluster.converges("default");
    cluster.everywhere(&["DBSIZE"], "10000");
    cluster.everywhere(&["GET", "k19-499"], "v499");
}

#[test]
fn deleted_on_both_sides_and_added_again_a_key_is_there_once() {
    let mut cluster = Cluster::start(2);
    cluster.nodes[0].command(&["SADD", "s", "a", "b", "c"]);
    cluster.nodes[0].command(&["HSET", "h", "f", "1"]);
    cluster.converges("default");
    cluster.nodes[1].command(&["TIDE.NETWORK", "OFFLINE"]);
    cluster.everywhere(&["DEL", "s", "h"], "2");
    cluster.nodes[1].command(&["SADD", "s", "b"]);
    cluster.nodes[0].command(&["HSET", "h", "g", "2"]);
    cluster.nodes[1].command(&["TIDE.NETWORK", "ONLINE"]);
    cluster.converges("default");
    cluster.everywhere(&["SMEMBERS", "s"], "[b]");
    cluster.everywhere(&["HGETALL", "h"], "[g 2]");
}

#[test]
fn all_killed_at_once_agree_after_a_restart() {
    let mut cluster = Cluster::start(3);
    for round in 0..3 {
        for node in &mut cluster.nodes {
            assert!(!node.command(&["INCR", "n"]).starts_with("error"));
        }
        cluster.nodes.iter_mut().for_each(Node::kill);
        cluster.nodes.iter_mut().for_each(Node::restart);
        cluster.converges("default");
        cluster.everywhere(&["GET", "n"], &(3 * (round + 1)).to_string());
    }
}

#[test]
fn wait_counts_peers_that_have_the_write_on_disk() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].command(&["SET", "a", "1"]);
    cluster.converges("default");
    cluster.nodes[0].command(&["SET", "a", "2"]);
    assert_eq!(cluster.nodes[0].command(&["WAIT", "2", "30000"]), "2");
    cluster.nodes[0].command(&["TIDE.NETWORK", "OFFLINE"]);
    cluster.nodes[0].command(&["SET", "a", "3"]);
    assert_eq!(cluster.nodes[0].command(&["WAIT", "1", "100"]), "0");
}

#[test]
fn node_ends_cleanly_on_a_signal_and_its_store_checks() {
    let mut cluster = Cluster::start(1);
    cluster.nodes[0].command(&["SET", "k", "v"]);
    assert_eq!(cluster.nodes[0].terminate(), Some(0));
    let data = cluster.folder.path().join("node-0");
    let data = data.to_str().expect("a plain name");
    let output = run(PROGRAM, &["check", data]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 frames"), "{output:?}");
    cluster.nodes[0].restart();
    assert_eq!(cluster.nodes[0].command(&["GET", "k"]), "v");
    let busy = run(PROGRAM, &["check", data]);
    assert!(!busy.status.success());
    assert!(String::from_utf8_lossy(&busy.stderr).contains("another process"), "{busy:?}");
}

#[test]
fn listening_beyond_loopback_without_allow_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("node");
    let data = data.to_str().expect("a plain name");
    let arguments = ["--listen", "/ip4/0.0.0.0/tcp/0", "--redis", "off", "--http", "off"];
    let output = run(PROGRAM, &[&["run", "--data", data][..], &arguments].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--allow PEERID"), "{output:?}");
}

#[test]
fn peer_of_another_cluster_is_refused_on_both_sides() {
    let mut cluster = Cluster::start(1);
    let peers = cluster.nodes[0].listen().to_vec();
    let arguments = vec!["--cluster".to_owned(), "other".to_owned()];
    let data = cluster.folder.path().join("stranger");
    let mut stranger = Node::start(PROGRAM, &data, Options { peers, arguments, ..Options::default() });
    for node in [&mut cluster.nodes[0], &mut stranger] {
        eventually("both sides say why", || {
            let (peers, status) = (node.command(&["TIDE.PEERS"]), node.command(&["TIDE.STATUS"]));
            [peers, status].iter().all(|text| text.contains("in another cluster"))
        });
    }
    stranger.command(&["SET", "k", "of a stranger"]);
    assert_eq!(cluster.nodes[0].command(&["GET", "k"]), "nil");
}

#[test]
fn reads_of_one_transaction_are_bounded() {
    let mut cluster = Cluster::start(1);
    let node = &mut cluster.nodes[0];
    assert_eq!(node.command(&["SET", "large", &"v".repeat(9 << 20)]), "OK");
    assert_eq!(node.command(&["MULTI"]), "OK");
    node.command(&["SET", "w", "1"]);
    (0..8).for_each(|_| assert_eq!(node.command(&["GET", "large"]), "QUEUED"));
    let replies = node.command(&["EXEC"]);
    // Four answers reach the bound of 32 MiB; the others are errors, and the write was done.
    assert_eq!(replies.matches("longer than 33554432 bytes").count(), 4);
    assert!(replies.len() < 40 << 20);
    assert_eq!(node.command(&["GET", "w"]), "1");
}

#[test]
fn demo_holds_what_it_claims() {
    let output = run(PROGRAM, &["demo"]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(stdout.contains("Everything held") && !stdout.contains('\x1b'), "{stdout}");
}

/// Runs `tidelock connect` of a node; answers its status and what it says.
fn connect(node: &Node, address: &str) -> (Option<i32>, String) {
    let output = run(PROGRAM, &["connect", address, "--node", node.redis()]);
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code(), String::from_utf8(said).expect("it is text"))
}

#[test]
fn who_connects_is_told_what_becomes_of_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let start = |name: &str, arguments: &[&str]| {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Node::start(PROGRAM, &folder.path().join(name), Options { arguments, ..Options::default() })
    };
    let (mut one, mut two) = (start("one", &[]), start("two", &[]));
    let stranger = start("stranger", &["--cluster", "another"]);
    let address = two.listen()[0].clone();

    assert_eq!(one.command(&["TIDE.NETWORK", "OFFLINE"]), "OK");
    let (status, said) = connect(&one, &address);
    assert_eq!((status, said.contains("the node is offline")), (Some(1), true), "{said}");
    assert_eq!(one.command(&["TIDE.NETWORK", "ONLINE"]), "OK");

    let (status, said) = connect(&one, &address);
    assert_eq!((status, said.starts_with("connected to 12D3KooW")), (Some(0), true), "{said}");
    assert!(one.command(&["TIDE.PEERS"]).contains("state connected"), "it was said to be");
    assert_eq!(connect(&one, &address), (status, said), "it is so still");

    // Who is away is named with the reason, each time that it is asked for.
    two.kill();
    for _ in 0..2 {
        let (status, said) = connect(&stranger, &address);
        assert_eq!((status, said.contains("the node goes on trying")), (Some(1), true), "{said}");
        assert!(said.contains("refused"), "{said}");
    }
    let (status, said) = connect(&stranger, &one.listen()[0]);
    assert_eq!((status, said.contains("in another cluster")), (Some(1), true), "{said}");
    let (status, said) = connect(&one, "nowhere");
    assert_eq!((status, said.contains("nowhere")), (Some(1), true), "{said}");
}
