//! The client commands against a server over a node's double.

use std::net::TcpListener;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use tidelock_engine::row::Kind;
use tokio::runtime::Runtime;

use super::args::{Cli, Command, KeyspacesArg, PortArg};
use super::client::ClientError;
use super::commands::execute_on;
use super::compaction::compact_node;
use super::text::Style;
use crate::config::NodeConfig;
use crate::redis::tests::double::name;
use crate::redis::tests::{Double, Port};
use crate::watch::{Change, Cursor, WatchEvent};

/// A node to talk to.
pub(super) struct World {
    pub(super) address: String,
    pub(super) double: Double,
    /// Serves in the background until it is dropped.
    _runtime: Runtime,
    _port: Port,
}

impl World {
    pub(super) fn new() -> Self {
        let runtime = Runtime::new().expect("threads can be made");
        let port = runtime.block_on(Port::open());
        let (address, double) = (port.server.address().to_string(), port.double.clone());
        Self { address, double, _runtime: runtime, _port: port }
    }

    pub(super) fn run(&self, line: &str) -> Result<String, ClientError> {
        let words: Vec<&str> = line.split(' ').collect();
        self.run_words(&words)
    }

    fn run_words(&self, words: &[&str]) -> Result<String, ClientError> {
        run_on(&self.address, words)
    }

    pub(super) fn check(&self, line: &str, expected: &str) {
        let found = self.run(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(found, expected, "{line}");
    }
}

fn run_on(address: &str, words: &[&str]) -> Result<String, ClientError> {
    let cli =
        Cli::try_parse_from([&["tidelock"], words, &["--node", address]].concat()).expect("right usage");
    let Command::Client(command) = cli.command else { panic!("{words:?} does not act on a node") };
    let mut out = Vec::new();
    execute_on(&command, Style::default(), &mut out)?;
    Ok(String::from_utf8(out).expect("output is text"))
}

#[test]
fn values_sets_and_maps_are_written_and_read() {
    let world = World::new();
    world.check("get k", "(nil)\n");
    world.check("get k --json", "null\n");
    world.check("set k v", "OK\n");
    world.check("get k", "v\n");
    world.check("get k --json", "\"v\"\n");
    world.check("set n -5", "OK\n");
    world.check("incr n", "-4\n");
    world.check("incr n -6", "-10\n");
    world.check("decr n 5 --json", "-15\n");
    world.check("add s b a", "2\n");
    world.check("members s", "a\nb\n");
    world.check("members s --json", "[\"a\",\"b\"]\n");
    world.check("rem s a z", "1\n");
    world.check("hset h f 1 long-field 2", "2\n");
    world.check("hget h f", "1\n");
    world.check("hgetall h", "f           1\nlong-field  2\n");
    world.check("hgetall h --json", "{\"f\":\"1\",\"long-field\":\"2\"}\n");
    world.check("del k n missing", "2\n");
    world.check("get k --keyspace notes", "(nil)\n");
    world.check("set k noted --keyspace notes", "OK\n");
    world.check("get k", "(nil)\n");
}

#[test]
fn any_command_of_the_port_is_called() {
    let world = World::new();
    world.check("call zadd board 7 ann -1.5 bob", "2\n");
    world.check("call ZRANGE board 0 -1", "bob\nann\n");
    world.check("call ZRANGE board 0 -1 WITHSCORES --json", "[[\"bob\",-1.5],[\"ann\",7.0]]\n");
    world.check("call HSET h f 1", "1\n");
    world.check("call HGETALL h", "f  1\n");
    world.check("call GET missing --keyspace notes", "(nil)\n");
    let refused = world.run("call GET h").expect_err("it is a map").to_string();
    assert_eq!(refused, "WRONGTYPE Operation against a key holding the wrong kind of value");
}

/// Only the config knows what a node is without an option, so the help could tell something else.
#[test]
fn help_of_run_tells_the_defaults() {
    let mut command = Cli::command();
    let help = command.find_subcommand_mut("run").expect("it exists").render_long_help().to_string();
    let config = NodeConfig::default();
    assert!(config.keyspaces.is_empty(), "all are replicated");
    let data = config.data.display().to_string();
    let ports = [config.redis.address.to_string(), config.http.address.to_string()];
    for value in
        [data, config.cluster, config.listen.join(" and "), "all".to_owned()].into_iter().chain(ports)
    {
        assert!(help.contains(&format!("[default: {value}]")), "{value} is missing in {help}");
    }
}

#[test]
fn keys_lists_more_than_one_page() {
    let world = World::new();
    world.check("keys", "");
    world.check("keys --json", "[]\n");
    let mut expected = String::new();
    for number in 0..2_500 {
        let key = format!("key:{number:04}");
        world
            .double
            .write(tidelock_engine::write::Write::Set { key: key.clone().into_bytes(), value: Vec::new() });
        expected.push_str(&key);
        expected.push('\n');
    }
    world.check("set other v", "OK\n");
    world.check("keys key:*", &expected);
    let all = world.run("keys --json").expect("the node answers");
    let all: Vec<String> = serde_json::from_str(&all).expect("it is JSON");
    assert_eq!((all.len(), all.last().map(String::as_str)), (2_501, Some("other")));
}

#[test]
fn bytes_that_are_not_text_are_escaped() {
    let world = World::new();
    let key = b"k".to_vec();
    world.double.write(tidelock_engine::write::Write::Set { key, value: b"a\xff\x1b[31m\n".to_vec() });
    world.check("get k", "a\\xff\\u{1b}[31m\n\n");
    world.check("get k --json", "{\"hex\":\"61ff1b5b33316d0a\"}\n");
}

#[test]
fn node_is_described_in_tables_and_in_json() {
    let world = World::new();
    world.check("set k v", "OK\n");
    let status = world.run("status").expect("the node answers");
    let peer = tidelock_engine::id::PeerId::from_public_key([8; 32]);
    for line in [
        "name             double",
        "uptime           1d 1h",
        "on_disk          4.0 KiB",
        "log              2.0 KiB",
        "log_first        7",
        "log_age          1m 1s",
        &format!("log_kept         for peer {peer}, which does not have it"),
        "warning: the clock is wrong",
    ] {
        assert!(status.lines().any(|found| found == line), "{line} is missing in\n{status}");
    }
    let status: serde_json::Value =
        serde_json::from_str(&world.run("status --json").expect("the node answers")).expect("it is JSON");
    assert_eq!((&status["online"], &status["counters"]["frames_received"]), (&true.into(), &5.into()));
    assert_eq!((&status["log_kept"], &status["log_first"]), (&"peer".into(), &7.into()));
    assert_eq!(status["log_kept_for"], peer.to_string());
    world.check(
        "peers",
        "PEER  ADDRESS               STATE             ROUND TRIP  CONNECTED  QUEUED  IN SYNC\n\
         -     /ip4/127.0.0.1/tcp/2  connecting, slow  -           2s           10 B      1/2\n",
    );
    world.check(
        "replicas",
        "REPLICA                           PEER  SEEN       KEYSPACE  SEQ  RETIRED\n\
         abababababababababababababababab  -     connected  default     4  2027-01-15 08:00:00Z, but it has written since\n",
    );
    let replica = "ab".repeat(16);
    world.check(&format!("retire {replica} --force --keyspace notes"), "2\n");
    let fingerprint = world.run("fingerprint").expect("the node answers");
    let expected = format!(
        "NAME     MODE      KEYS  SIZE  QUOTA  CONDITIONAL  AUTHORS  PEERS  FINGERPRINT\n\
         default  eventual     1  2.0 KiB  4.0 KiB  strong  1      0  {}\n\
         warning: no connected peer replicates default, for 1m 1s\n",
        &fingerprint[..16]
    );
    let keyspaces = world.run("keyspaces").expect("the node answers");
    assert_eq!(
        keyspaces.split_whitespace().collect::<Vec<_>>(),
        expected.split_whitespace().collect::<Vec<_>>()
    );
}

#[test]
fn entries_and_conflicts_are_tables() {
    let world = World::new();
    world.check("conflicts k", "no conflicts\n");
    world.check("conflicts k --json", "[]\n");
    let other = Double::new(2);
    let set = |value: &[u8]| tidelock_engine::write::Write::Set { key: b"k".to_vec(), value: value.to_vec() };
    world.double.write(set(b"mine"));
    other.write(set(b"theirs"));
    world.double.pull(&other);
    let conflicts = world.run("conflicts k").expect("the node answers");
    assert!(conflicts.starts_with("KIND      SUBKEY  VALUE"), "{conflicts}");
    assert!(conflicts.contains("2027-01-15 08:00:00Z  no"), "{conflicts}");
    let entry = world.run("entry k").expect("the node answers");
    assert!(entry.starts_with("kind   register\nvalue  "), "{entry}");
    assert!(entry.contains("mine") && entry.contains("theirs"), "{entry}");
}

#[test]
fn network_is_left_and_joined() {
    let world = World::new();
    world.check("offline", "OK\n");
    assert!(!world.double.is_online());
    world.check("online", "OK\n");
    assert!(world.double.is_online());
    world.check("connect /ip4/127.0.0.1/tcp/1 --wait 0", "OK\n");
    let peer = tidelock_engine::id::PeerId::from_public_key([7; 32]);
    world.check("connect /ip4/127.0.0.1/tcp/1", &format!("connected to {peer}\n"));
}

#[test]
fn keyspaces_are_joined_and_left() {
    let world = World::new();
    world.check("keyspace join notes", "OK\n");
    world.check("keyspace leave notes --json", "\"OK\"\n");
    let error = world.run("keyspace leave alone").expect_err("nobody has it");
    assert!(error.to_string().contains("3 operations are not known to be anywhere else"), "{error}");
    world.check("keyspace leave alone --force", "OK\n");
    world.check("keyspace quota notes 4096", "OK\n");
    world.check("keyspace quota notes none", "OK\n");
    world.check("keyspace conditional notes local", "OK\n");
}

#[test]
fn errors_say_what_to_do() {
    let world = World::new();
    world.check("add s x", "1\n");
    let error = world.run("get s").expect_err("it is a set");
    assert_eq!(error.to_string(), "WRONGTYPE Operation against a key holding the wrong kind of value");
    let error = world.run("get k --keyspace elsewhere").expect_err("it is not replicated");
    assert_eq!(error.to_string(), "ERR keyspace elsewhere is not replicated on this node");
    let free =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let error = run_on(&free.to_string(), &["get", "k"]).expect_err("nobody listens");
    assert_eq!(error.to_string(), format!("no node answers on {free}; start one with `tidelock run`"));
}

#[test]
fn watch_prints_changes_until_the_node_ends() {
    let world = World::new();
    let pushes = std::thread::spawn({
        let double = world.double.clone();
        move || {
            while double.watchers() == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            double.push(&WatchEvent::Changed(Change {
                cursor: Cursor(8),
                keyspace: name("default"),
                key: b"k\n".to_vec(),
                kind: Kind::Map,
                subkey: b"f".to_vec(),
                old: None,
                new: Some(b"v".to_vec()),
                author: tidelock_engine::id::ReplicaId::from_bytes([9; 16]),
                is_replayed: true,
            }));
            double.push(&WatchEvent::Lagged(Cursor(9)));
            double.end_watches();
        }
    });
    let cli =
        Cli::try_parse_from(["tidelock", "watch", "--prefix", "", "--from", "7", "--node", &world.address]);
    let Command::Client(command) = cli.expect("right usage").command else { panic!("watch acts on a node") };
    let mut out = Vec::new();
    let error = execute_on(&command, Style::default(), &mut out).expect_err("the watch ended");
    assert!(matches!(error, ClientError::Lost(_)), "{error}");
    pushes.join().expect("the pushes were made");
    assert_eq!(
        String::from_utf8(out).expect("output is text"),
        "7  changes were lost: this watcher was too slow\n\
         8  k\\n [f]  map: (nil) -> v  (by 09090909, replayed)\n\
         9  changes were lost: this watcher was too slow\n"
    );
}

#[test]
fn command_line_is_consistent_and_wrong_usage_ends_with_2() {
    Cli::command().debug_assert();
    for line in [
        "",
        "get",
        "set k",
        "frobnicate",
        "incr k x",
        "watch",
        "watch k --from 1 --after-revision 1",
        "run --allow nobody",
        "demo --peers 1",
        "run k",
        "keyspace quota notes -1",
        "keyspace quota notes much",
        "completions",
        "completions tcsh",
        "keyspace conditional notes maybe",
    ] {
        let words = std::iter::once("tidelock").chain(line.split_whitespace());
        let error = Cli::try_parse_from(words).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn run_options_are_all_optional_and_some_repeat() {
    let parse = |line: &str| {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        let Command::Run(args) = cli.command else { panic!("{line} runs a node") };
        args
    };
    let none = parse("tidelock run");
    assert!(
        none.data.is_none() && none.listen.is_empty() && none.redis.is_none() && none.keyspaces.is_none()
    );
    let peer = tidelock_engine::id::PeerId::from_public_key([7; 32]);
    let all = parse(&format!(
        "tidelock run --data d --name n --cluster c --listen /a --listen /b --peer /p --allow {peer} \
         --redis 127.0.0.1:0 --http 127.0.0.1:1 --keyspaces a,b --config f.toml"
    ));
    assert_eq!((all.listen.len(), all.peer.len(), all.allow), (2, 1, vec![peer]));
    assert_eq!(all.redis, Some(PortArg::At(([127, 0, 0, 1], 0).into())));
    assert_eq!(all.keyspaces, Some(KeyspacesArg::Named(vec![name("a"), name("b")])));
    assert_eq!(all.http, Some(PortArg::At(([127, 0, 0, 1], 1).into())));
    let off = parse("tidelock run --redis off --http off --keyspaces all");
    assert_eq!((off.redis, off.http), (Some(PortArg::Off), Some(PortArg::Off)));
    assert_eq!(off.keyspaces, Some(KeyspacesArg::All));
}

#[test]
fn compaction_of_a_node_prints_sizes() {
    let world = World::new();
    let sizes = |words: &[&str]| {
        let cli = Cli::try_parse_from([&["tidelock", "compact", "--node", &world.address], words].concat());
        let Command::Compact(args) = cli.expect("right usage").command else { panic!("it compacts") };
        let mut out = Vec::new();
        compact_node(&args.node, &mut out).expect("the double answers");
        String::from_utf8(out).expect("output is text")
    };
    assert_eq!(sizes(&[]), "log.redb: 2 B before, 1 B now\n");
    assert_eq!(sizes(&["--json"]), "[{\"after_bytes\":1,\"before_bytes\":2,\"file\":\"log.redb\"}]\n");
}

/// What prints an answer prints it for programs too. The others are named here, with why.
#[test]
fn every_command_that_answers_can_answer_in_json() {
    // A node's one line, a story, and a script.
    const NOT_ANSWERS: [&str; 3] = ["run", "demo", "completions"];
    fn check(command: &clap::Command) {
        let mut groups = command.get_subcommands().peekable();
        if groups.peek().is_none() {
            let has_json = command.get_arguments().any(|argument| argument.get_long() == Some("json"));
            assert_ne!(has_json, NOT_ANSWERS.contains(&command.get_name()), "{}", command.get_name());
        }
        groups.for_each(check);
    }
    check(&Cli::command());
}
