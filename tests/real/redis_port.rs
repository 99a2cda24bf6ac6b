//! The Redis port of a real daemon, against those who know no password, hold on, or speak something else.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use crate::processes::{Client, DEADLINE, Node, Options, PROGRAM, eventually};

/// What an idle connection may take of the node's memory, in KiB.
const IDLE_KIB_MAX: usize = 16;

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

/// What the kernel tells of the node's memory, in MiB, where it does: `VmData`, asked for and used or not; `VmRSS`, used.
fn memory_mib(node: &Node, what: &str) -> Option<usize> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok().map(|kib| kib >> 10)
}

/// A figure of INFO.
fn figure(node: &mut Node, name: &str) -> usize {
    let info = node.command(&["INFO", "everything"]);
    let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.and_then(|figure| figure.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in {info}"))
}

/// The others' commands are done while somebody misbehaves, each of them.
fn others_are_served(node: &Node) {
    let threads: Vec<_> = (0..4)
        .map(|nth| {
            let mut client = Client::connect(node.redis());
            std::thread::spawn(move || {
                for round in 0..25 {
                    let (key, value) = (format!("other:{nth}"), round.to_string());
                    assert_eq!(client.command(&["SET", &key, &value]).expect("it is served"), "OK");
                    assert_eq!(client.command(&["GET", &key]).expect("it is served"), value);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("others are served"));
}

#[test]
fn clients_that_do_not_read_cost_what_they_may_leave_unread() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = start(folder.path(), "client_output_bytes_max = 1048576\noutput_bytes_max = 8388608");
    let value = "v".repeat(256 << 10);
    assert_eq!(node.command(&["SET", "large", &value]), "OK");
    others_are_served(&node);
    let before = memory_mib(&node, "VmRSS");
    let mut slow = Vec::new();
    for _ in 0..40 {
        let mut stream = connect(&node);
        // Who is closed while it asks sees that its bytes go nowhere.
        let _ = stream.write_all(&b"GET large\r\n".repeat(64));
        slow.push(stream);
    }
    others_are_served(&node);
    eventually("those that leave too much unread are closed", || {
        figure(&mut node, "client_output_buffer_limit_disconnections") == slow.len()
    });
    others_are_served(&node);
    if let (Some(before), Some(after)) = (before, memory_mib(&node, "VmRSS")) {
        // They asked for 640 MiB, and may leave 8 MiB.
        assert!(after < before + 96, "{before} MiB became {after} MiB");
    }
    assert_eq!(node.command(&["STRLEN", "large"]), value.len().to_string());
}

#[test]
fn commands_that_are_half_sent_cost_what_all_may_hold() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = "command_bytes_max = 16778240\ninput_bytes_max = 33554432";
    let mut node = start(folder.path(), settings);
    others_are_served(&node);
    let before = memory_mib(&node, "VmRSS");
    // Four MiB each of eight that will not come whole.
    let half = [b"*2\r\n$4\r\nECHO\r\n$8388608\r\n".to_vec(), vec![b'x'; 4 << 20]].concat();
    let mut senders: Vec<TcpStream> = (0..40).map(|_| connect(&node)).collect();
    for stream in &mut senders {
        // Who is closed while it sends sees that its bytes go nowhere.
        let _ = stream.write_all(&half);
    }
    others_are_served(&node);
    eventually("those beyond the bound are closed", || figure(&mut node, "connected_clients") <= 9);
    others_are_served(&node);
    if let (Some(before), Some(after)) = (before, memory_mib(&node, "VmRSS")) {
        // They sent 160 MiB, of which 32 MiB may be held.
        assert!(after < before + 96, "{before} MiB became {after} MiB");
    }
    // Those that were not closed are answered once their command is whole.
    let mut answered = 0;
    for mut stream in senders {
        if stream.write_all(&[vec![b'x'; 4 << 20], b"\r\nQUIT\r\n".to_vec()].concat()).is_ok() {
            answered += usize::from(rest(stream).len() > 8 << 20);
        }
    }
    assert!(answered > 0, "some were within the bound");
    eventually("all are gone", || figure(&mut node, "connected_clients") == 1);
}

/// The files that this process may have open, which its children may have, too.
fn open_files_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(1_024)
}

#[test]
fn ten_thousand_idle_connections_hurt_nobody() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let count = open_files_max().saturating_sub(300).min(10_000);
    if count < 10_000 {
        eprintln!("only {count} connections: this process may have no more files open");
    }
    let mut node = start(folder.path(), &format!("clients_max = {}", count + 10));
    others_are_served(&node);
    let before = memory_mib(&node, "VmRSS");
    let mut idle: Vec<TcpStream> = (0..count).map(|_| connect(&node)).collect();
    eventually("all are connected", || figure(&mut node, "connected_clients") > count);
    others_are_served(&node);
    if let (Some(before), Some(after)) = (before, memory_mib(&node, "VmRSS")) {
        let kib_each = (after.saturating_sub(before) << 10) / count;
        assert!(kib_each <= IDLE_KIB_MAX, "{kib_each} KiB each: {before} MiB became {after} MiB");
    }
    // One after the other they wake up, and each is answered.
    for stream in &mut idle {
        stream.write_all(b"PING\r\n").expect("it is connected");
    }
    for stream in &mut idle {
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).expect("it is answered");
        assert_eq!(&answer, b"+PONG\r\n");
    }
    drop(idle);
    eventually("all are gone", || figure(&mut node, "connected_clients") == 1);
    others_are_served(&node);
}

#[test]
fn what_is_announced_and_not_sent_costs_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = start(folder.path(), "");
    let mut gigabyte = connect(&node);
    gigabyte.write_all(b"*2\r\n$4\r\nECHO\r\n$1073741824\r\n").expect("it reads");
    assert_eq!(rest(gigabyte), "-ERR Protocol error: invalid bulk length\r\n");
    let before = memory_mib(&node, "VmData");
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
    if let (Some(before), Some(after)) = (before, memory_mib(&node, "VmData")) {
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
