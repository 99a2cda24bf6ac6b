//! Messages between the clients of real nodes: on all peers, in order, and again after every restart.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::processes::{Client, DEADLINE, Node, Options, PROGRAM, RedisServer, eventually, run};

/// Nodes of which each later one dials the first only.
fn cluster(folder: &tempfile::TempDir, count: usize) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for number in 0..count {
        let peers = nodes.first().map(|first| first.listen().to_vec()).unwrap_or_default();
        let data = folder.path().join(format!("node-{number}"));
        nodes.push(Node::start(PROGRAM, &data, Options { peers, ..Options::default() }));
    }
    nodes
}

/// A client that listens to a channel.
fn listener(node: &Node, command: &str, channel: &str) -> Client {
    let mut client = Client::connect(node.redis());
    assert!(client.command(&[command, channel]).expect("it runs").contains("subscribe"));
    client
}

/// Publishes until this listener has heard something that was published here, so that what follows arrives.
fn introduce(from: &mut Node, listener: &mut Client) {
    let mark = format!("hello from {}", from.pid());
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let mark = &mark;
        scope.spawn(move || {
            while !listener.read_next().expect("it runs").contains(mark) {}
            sender.send(()).expect("somebody waits");
        });
        eventually("a message arrives", || {
            from.command(&["PUBLISH", "news", mark]);
            receiver.try_recv().is_ok()
        });
    });
}

/// Publishes 200 numbers and expects all of them, in order, at each listener.
fn all_hear_all(from: &mut Node, listeners: &mut [Client], round: usize) {
    for number in 0..200 {
        from.command(&["PUBLISH", "news", &format!("{round}:{number}")]);
    }
    for listener in listeners {
        let mut expected = 0;
        while expected < 200 {
            let heard = listener.read_next().expect("it runs");
            if heard.contains("hello from") {
                continue;
            }
            assert_eq!(heard, format!("[message news {round}:{expected}]"));
            expected += 1;
        }
    }
}

#[test]
fn clients_of_all_peers_hear_each_other_and_again_after_restarts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut nodes = cluster(&folder, 3);
    for round in 0..4 {
        let mut listeners: Vec<Client> =
            nodes.iter().map(|node| listener(node, "SUBSCRIBE", "news")).collect();
        for (number, from) in nodes.iter_mut().enumerate() {
            listeners.iter_mut().for_each(|listener| introduce(from, listener));
            all_hear_all(from, &mut listeners, round * 3 + number);
        }
        drop(listeners);
        nodes[round % 3].kill_and_restart();
    }
}

#[test]
fn node_tells_of_what_its_peers_write() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut nodes = cluster(&folder, 2);
    assert_eq!(nodes[1].command(&["CONFIG", "SET", "notify-keyspace-events", "KEA"]), "OK");
    let mut listener = listener(&nodes[1], "PSUBSCRIBE", "__key*__:*");
    let mut expect = |writer: &mut Node, command: &[&str], told: &[(&str, &str)]| {
        assert!(!writer.command(command).starts_with("error"), "{command:?}");
        for (channel, message) in told {
            let heard = listener.read_next().expect("it runs");
            assert_eq!(heard, format!("[pmessage __key*__:* {channel} {message}]"), "{command:?}");
        }
    };
    expect(&mut nodes[0], &["SET", "k", "v"], &[("__keyspace@0__:k", "set"), ("__keyevent@0__:set", "k")]);
    expect(
        &mut nodes[1],
        &["SADD", "s", "a", "b"],
        &[("__keyspace@0__:s", "sadd"), ("__keyevent@0__:sadd", "s")],
    );
    expect(&mut nodes[1], &["SREM", "s", "a"], &[("__keyspace@0__:s", "srem"), ("__keyevent@0__:srem", "s")]);
    expect(&mut nodes[1], &["SREM", "s", "b"], &[("__keyspace@0__:s", "del"), ("__keyevent@0__:del", "s")]);
    expect(
        &mut nodes[0],
        &["HSET", "h", "f", "v"],
        &[("__keyspace@0__:h", "hset"), ("__keyevent@0__:hset", "h")],
    );
    expect(&mut nodes[0], &["DEL", "k"], &[("__keyspace@0__:k", "del"), ("__keyevent@0__:del", "k")]);
    expect(
        &mut nodes[1],
        &["SET", "x", "v", "PX", "60"],
        &[
            ("__keyspace@0__:x", "set"),
            ("__keyevent@0__:set", "x"),
            ("__keyspace@0__:x", "expire"),
            ("__keyevent@0__:expire", "x"),
            ("__keyspace@0__:x", "expired"),
            ("__keyevent@0__:expired", "x"),
        ],
    );
    assert_eq!(nodes[1].command(&["SELECT", "7"]), "OK");
    expect(&mut nodes[1], &["SET", "k", "v"], &[("__keyspace@7__:k", "set"), ("__keyevent@7__:set", "k")]);
}

#[test]
fn command_line_publishes_and_listens() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let nodes = cluster(&folder, 1);
    let at = ["--node", nodes[0].redis()];
    let mut listening = Command::new(PROGRAM)
        .args(["subscribe", "--json", "--pattern", "n*"])
        .args(at)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program is there");
    eventually("it listens", || {
        let said = run(PROGRAM, &[&["publish", "news", "hello"], &at[..]].concat());
        String::from_utf8_lossy(&said.stdout) == "1\n"
    });
    let mut line = [0; 60];
    let expected = b"{\"channel\":\"news\",\"message\":\"hello\",\"pattern\":\"n*\"}\n";
    let stdout = listening.stdout.as_mut().expect("it is piped");
    stdout.read_exact(&mut line[..expected.len()]).expect("it prints");
    listening.kill().expect("it runs");
    listening.wait().expect("it ends");
    assert_eq!(line[..expected.len()].escape_ascii().to_string(), expected.escape_ascii().to_string());
}

/// What a listener reads while another client publishes, to the byte.
fn heard<S: Read + Write, T: Read + Write>(mut listener: S, mut teller: T, protocol: u8) -> Vec<u8> {
    let ask = |stream: &mut dyn Write, line: &str| stream.write_all(format!("{line}\r\n").as_bytes());
    ask(&mut listener, &format!("HELLO {protocol}")).expect("it reads");
    ask(&mut listener, "PING begin").expect("it reads");
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"$5\r\nbegin\r\n") {
        listener.read_exact(&mut byte).expect("it answers");
        bytes.extend(byte);
    }
    bytes.clear();
    // No two patterns match one channel: Redis tells them in an order of its own at each start.
    ask(&mut listener, "SUBSCRIBE a b\r\nPSUBSCRIBE a* [b]\r\nSSUBSCRIBE a\r\nPING subscribed")
        .expect("it reads");
    let mut until = |end: &[u8]| {
        while !bytes.ends_with(end) {
            listener.read_exact(&mut byte).expect("it answers");
            bytes.extend(byte);
        }
        bytes.len()
    };
    until(b"$10\r\nsubscribed\r\n");
    for line in [
        "PUBLISH a one",
        "PUBLISH abc two",
        "PUBLISH b \"\"",
        "SPUBLISH a three",
        "PUBLISH none four",
        "PUBLISH b end",
    ] {
        ask(&mut teller, line).expect("it reads");
    }
    // By the channel, and by the pattern of one character.
    until(b"$3\r\nend\r\n");
    until(b"$1\r\nb\r\n$3\r\nend\r\n");
    bytes
}

#[test]
fn messages_are_those_of_redis_server() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(server) = RedisServer::start(folder.path()) else {
        eprintln!("skipped: there is no redis-server on this machine");
        return;
    };
    let nodes = cluster(&folder, 1);
    let connect = || {
        let stream = TcpStream::connect(nodes[0].redis()).expect("the node listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        stream
    };
    for protocol in [2, 3] {
        let expected = heard(server.connect(), server.connect(), protocol);
        let found = heard(connect(), connect(), protocol);
        assert_eq!(found.escape_ascii().to_string(), expected.escape_ascii().to_string(), "RESP{protocol}");
    }
}
