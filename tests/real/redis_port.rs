//! The Redis port of a real daemon, against those who know no password, hold on, or speak something else.

mod processes;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use processes::{Client, DEADLINE, Node, Options, PROGRAM, eventually};

/// A node whose `[redis]` settings are these.
fn start(folder: &Path, settings: &str) -> Node {
    let config = folder.join("node.toml");
    std::fs::write(&config, format!("[redis]\n{settings}\n")).expect("a temporary folder");
    let arguments = vec!["--config".to_owned(), config.to_str().expect("a plain path").to_owned()];
    Node::start(PROGRAM, &folder.join("node"), Options { arguments, ..Options::default() })
}

fn connect(node: &Node) -> TcpStream {
    let stream = TcpStream::connect(node.redis()).expect("the node listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    stream
}

/// What is answered until the node closes. One that is closed with bytes unread ends with a reset, which is an end too.
fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8(bytes).expect("it answers text")
}

#[test]
fn daemon_with_a_password_serves_who_says_it_and_shows_it_to_nobody() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = start(folder.path(), "password = \"open-sesame\"");
    let mut client = Client::connect(node.redis());
    let mut ask = |line: &str| client.command(&line.split(' ').collect::<Vec<_>>()).expect("it answers");
    assert_eq!(ask("SET k v"), "error: NOAUTH Authentication required.");
    assert_eq!(ask("CLIENT LIST"), "error: NOAUTH Authentication required.");
    assert!(ask("AUTH wrong").starts_with("error: WRONGPASS"));
    assert_eq!(ask("AUTH open-sesame"), "OK");
    assert_eq!(ask("SET k v"), "OK");
    assert_eq!(ask("CONFIG GET requirepass"), "[requirepass ]");
    assert!(ask("CLIENT INFO").contains(" user=default "));
    for shown in [ask("CONFIG GET *"), ask("INFO everything"), ask("CLIENT LIST")] {
        assert!(!shown.contains("sesame"), "{shown}");
    }
}

#[test]
fn clients_are_killed_whatever_they_do_and_the_node_goes_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = start(folder.path(), "");
    let idle = connect(&node);
    let mut half = connect(&node);
    half.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100\r\nonly").expect("it reads");
    let mut waiting = connect(&node);
    waiting.write_all(b"WAIT 1 0\r\n").expect("it reads");
    eventually("all are there", || {
        node.command(&["CLIENT", "LIST"]).lines().count() == 4
            && node.command(&["CLIENT", "LIST"]).contains(" flags=b ")
    });
    let address = idle.local_addr().expect("it is connected").to_string();
    assert_eq!(node.command(&["CLIENT", "KILL", &address]), "OK");
    assert_eq!(rest(idle), "");
    assert_eq!(node.command(&["CLIENT", "KILL", "TYPE", "normal"]), "2");
    assert_eq!((rest(half), rest(waiting)), (String::new(), String::new()));
    eventually("they are gone", || node.command(&["CLIENT", "LIST"]).lines().count() == 1);
    assert_eq!(node.command(&["EXISTS", "k"]), "0");
}

/// The memory that the node has asked for, used or not, in MiB, where the kernel tells it.
fn allocated_mib(node: &Node) -> Option<usize> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmData:"))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok().map(|kib| kib >> 10)
}

#[test]
fn what_is_announced_and_not_sent_costs_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = start(folder.path(), "");
    let mut gigabyte = connect(&node);
    gigabyte.write_all(b"*2\r\n$4\r\nECHO\r\n$1073741824\r\n").expect("it reads");
    assert_eq!(rest(gigabyte), "-ERR Protocol error: invalid bulk length\r\n");
    let before = allocated_mib(&node);
    // The longest values, and the most arguments, that may be announced.
    let mut announcers = Vec::new();
    for _ in 0..100 {
        for announced in ["*2\r\n$4\r\nECHO\r\n$16777216\r\nonly", "*1048576\r\n$3\r\nDEL\r\n$1\r\n"] {
            let mut stream = connect(&node);
            stream.write_all(announced.as_bytes()).expect("it reads");
            announcers.push(stream);
        }
    }
    eventually("all are there", || node.command(&["CLIENT", "LIST"]).lines().count() == 201);
    assert_eq!(node.command(&["SET", "k", "v"]), "OK");
    assert_eq!(node.command(&["GET", "k"]), "v");
    if let (Some(before), Some(after)) = (before, allocated_mib(&node)) {
        // What they announced is 1.6 GiB.
        assert!(after < before + 256, "{before} MiB became {after} MiB");
    }
}

#[test]
fn browser_that_posts_to_the_port_is_hung_up_on_and_writes_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = start(folder.path(), "");
    let mut browser = connect(&node);
    let request = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nSET k v\r\n";
    browser.write_all(request).expect("it reads");
    assert_eq!(rest(browser), "");
    assert_eq!(node.command(&["EXISTS", "k"]), "0");
}
