//! Clients that others wrote, in sessions as applications have them: redis-py, node-redis, ioredis, redis-cli and
//! redis-benchmark, on a real node that is killed and started again while they are connected.
//!
//! The sessions are in `tests/real/clients`, beside the versions of the packages, which `.ci/clients` installs. What is
//! not installed is skipped with a message.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};

use crate::processes::{DEADLINE, Language, Node, Options, PROGRAM, guard, output};

/// A session of a client in a process of its own, which ends with its test.
struct Session {
    child: Child,
    said: Receiver<String>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
        guard::release(self.child.id());
    }
}

impl Session {
    fn start(mut command: Command, script: &str, node: &Node, log: &Path) -> Self {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/clients");
        let log = File::create(log).expect("a temporary folder");
        command.arg(scripts.join(script)).arg(port(node));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn();
        let mut child = child.expect("the language is there");
        guard::watch(child.id());
        let said = lines(child.stdout.take().expect("it is piped"));
        Self { child, said }
    }

    /// The next line that it prints, or nothing if it ended without one.
    fn next(&self) -> Option<String> {
        match self.said.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => Some(format!("nothing within {DEADLINE:?}")),
        }
    }

    fn tell(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        writeln!(stdin, "{line}").expect("it listens");
    }
}

/// What a process prints, line by line, as it comes.
fn lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn port(node: &Node) -> &str {
    node.redis().rsplit_once(':').expect("an address").1
}

/// Plays a session to its end, with a node that is killed and started again when the session asks for it.
fn play(command: Command, script: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("stderr");
    let mut node = Node::start(PROGRAM, &folder.path().join("node"), Options::default());
    let mut session = Session::start(command, script, &node, &log);
    let expected = |line: Option<String>, word: &str| {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        assert_eq!(line.as_deref(), Some(word), "{script}: {log}");
    };
    expected(session.next(), "restart");
    node.kill_and_restart_for_clients();
    session.tell("it runs again");
    expected(session.next(), "done");
    let status = session.child.wait().expect("it is our child");
    assert!(status.success(), "{script} ended with {status}");
}

#[test]
fn redis_py_has_its_session() {
    if let Some(command) = Language::Python.with("redis") {
        play(command, "redis_py.py");
    }
}

#[test]
fn node_redis_has_its_session() {
    if let Some(command) = Language::JavaScript.with("redis") {
        play(command, "node_redis.cjs");
    }
}

#[test]
fn ioredis_has_its_session() {
    if let Some(command) = Language::JavaScript.with("ioredis") {
        play(command, "ioredis.cjs");
    }
}

/// Whether a program of Debian's redis-tools is on this machine; if not, this is said.
fn has(program: &str) -> bool {
    let is_there =
        Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !is_there {
        eprintln!("skipped: there is no {program} on this machine");
    }
    is_there
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// What redis-cli prints for its arguments, and what it reads.
fn redis_cli(node: &Node, arguments: &[&str], reads: &str) -> String {
    let file = tempfile::NamedTempFile::new().expect("a temporary folder");
    std::fs::write(file.path(), reads).expect("it is ours");
    let stdin = File::open(file.path()).expect("it is there");
    let mut command = Command::new("redis-cli");
    let output = output(command.args(["-p", port(node)]).args(arguments).stdin(stdin));
    let (stdout, stderr) = text(&output);
    assert!(output.status.success(), "{arguments:?}: {stdout}{stderr}");
    stdout
}

#[test]
fn redis_cli_has_its_session() {
    if !has("redis-cli") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(PROGRAM, folder.path(), Options::default());
    let ask = |arguments: &[&str]| redis_cli(&node, arguments, "");

    // What it reads is done line by line, and what fails does not end it.
    let lines = "SET title groceries\nINCR title\nMULTI\nINCR visits\nINCR visits\nEXEC\nGET visits\n";
    let printed = redis_cli(&node, &[], lines);
    let error = "ERR value is not an integer or out of range";
    assert_eq!(printed, format!("OK\n{error}\n\nOK\nQUEUED\nQUEUED\n1\n2\n2\n"));
    assert_eq!(redis_cli(&node, &["-x", "SET", "file"], "two\nlines"), "OK\n");
    assert_eq!(ask(&["GET", "file"]), "two\nlines\n");
    assert_eq!(ask(&["-n", "5", "DBSIZE"]), "0\n");

    // The same in the newer protocol, whose forms it prints.
    ask(&["HSET", "profile", "city", "Bergen"]);
    assert_eq!(ask(&["-3", "--no-raw", "HGETALL", "profile"]), "1# \"city\" => \"Bergen\"\n");
    assert_eq!(ask(&["-3", "--json", "HGETALL", "profile"]), "{\"city\":\"Bergen\"}\n");
    assert_eq!(ask(&["--csv", "HGETALL", "profile"]), "\"city\",\"Bergen\"\n");
    assert_eq!(
        ask(&["--no-raw", "EVAL", "return 1", "0"]).lines().next().map(|line| &line[..11]),
        Some("(error) ERR")
    );

    // Mass insertion, iteration, and what walks through all keys.
    let many: Vec<String> = (0..2_000).map(|number| format!("SET page:{number} {number}\r\n")).collect();
    let printed = redis_cli(&node, &["--pipe"], &many.concat());
    assert!(printed.ends_with("errors: 0, replies: 2000\n"), "{printed}");
    assert_eq!(ask(&["--scan", "--pattern", "page:*"]).lines().count(), 2_000);
    assert_eq!(ask(&["DBSIZE"]), "2004\n");
    let keys = ask(&["--bigkeys"]);
    assert!(keys.contains("Sampled 2004 keys in the keyspace!"), "{keys}");
}

#[test]
fn redis_benchmark_runs_every_test_that_is_supported() {
    if !has("redis-benchmark") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = Node::start(PROGRAM, folder.path(), Options::default());
    // SPOP and ZPOPMIN decide, which a node does where it was told to.
    assert_eq!(node.command(&["TIDE.KEYSPACE", "CONDITIONAL", "default", "LOCAL"]), "OK");
    let tests = "ping_inline,ping_mbulk,set,get,incr,sadd,hset,spop,zadd,zpopmin,mset";
    for more in [&["-P", "1"][..], &["-P", "16", "-3"], &["-r", "1000", "-d", "100", "-k", "0"]] {
        let mut command = Command::new("redis-benchmark");
        command.args(["-p", port(&node), "-n", "500", "-c", "20", "-q", "-t", tests]).args(more);
        let output = output(command.stdin(Stdio::null()));
        let (stdout, stderr) = text(&output);
        assert!(output.status.success(), "{more:?}: {stdout}{stderr}");
        let measured = stdout.split(['\r', '\n']).filter(|line| line.contains("requests per second"));
        assert_eq!(measured.count(), tests.split(',').count(), "{more:?}: {stdout}{stderr}");
    }
}
