//! The HTTP port of real nodes: how they are, and what clients cannot do to them.

use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::thread;

use crate::processes::http::{Response, connect, get, read, send};
use crate::processes::{Node, Options, PROGRAM, eventually, run};

/// A node whose config has these lines under `[http]`.
fn start(folder: &tempfile::TempDir, settings: &str) -> Node {
    let config = folder.path().join("tidelock.toml");
    std::fs::write(&config, format!("[http]\n{settings}")).expect("it is ours");
    let arguments = vec!["--config".to_owned(), config.to_str().expect("a plain name").to_owned()];
    Node::start(PROGRAM, &folder.path().join("node"), Options { arguments, ..Options::default() })
}

fn reasons(response: &Response) -> String {
    response.json()["reasons"].to_string()
}

#[test]
fn node_says_that_it_lives_is_ready_and_how_it_is() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = start(&folder, "");
    assert_eq!(node.command(&["SADD", "list", "apples"]), "1");
    assert_eq!(get(node.http(), "/livez").text(), "ok\n");
    let ready = get(node.http(), "/readyz");
    assert_eq!((ready.status, ready.text().as_str()), (200, r#"{"ready":true,"reasons":[]}"#));
    let health = get(node.http(), "/healthz");
    assert_eq!(health.status, 200);
    let health = health.json();
    assert_eq!(health["store"]["keys"], 1);
    assert_eq!(health["keyspaces"][0]["name"], "default");
    assert!(health["log"]["first"].is_u64() && health["disk"]["left_bytes"].as_u64() > Some(0), "{health}");
    assert!(health["diverged"] == false && health["parked"]["frames"] == 0, "{health}");
    let nowhere = get(node.http(), "/nowhere");
    assert_eq!((nowhere.status, nowhere.code().as_str()), (404, "not_found"));
    assert!(nowhere.head.contains("application/problem+json"), "{}", nowhere.head);
    let posted = send(node.http(), "POST", "/livez", &[], b"x").expect("it answers");
    assert_eq!((posted.status, posted.code().as_str()), (405, "method_not_allowed"));
    assert_eq!(node.terminate(), Some(0));
}

/// The port is open before the node: a store that replays a long log is not taken for a node that is dead.
#[test]
fn node_that_is_opening_lives_and_is_not_ready() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // A key that never comes keeps the node opening for as long as the test wants.
    let key = folder.path().join("key");
    let made = Command::new("mkfifo").args(["-m", "600"]).arg(&key).status().expect("mkfifo is there");
    assert!(made.success());
    // The port that was free a moment ago, for the daemon says which it took only when it is ready.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("it has one").to_string();
    drop(free);
    let mut daemon = Command::new(PROGRAM)
        .arg("run")
        .arg("--data")
        .arg(folder.path())
        .args(["--redis", "off", "--listen", "off", "--http", &address])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts");
    let held = thread::spawn(move || File::options().write(true).open(key));
    eventually("the daemon reads its key", || held.is_finished());
    assert_eq!(get(&address, "/livez").status, 200);
    for path in ["/readyz", "/healthz"] {
        let response = get(&address, path);
        assert_eq!(response.status, 503);
        assert!(reasons(&response).contains("opening"), "{}", response.text());
    }
    Command::new("kill").arg(daemon.id().to_string()).status().expect("kill is there");
    assert_eq!(daemon.wait().expect("it is our child").code(), Some(0));
}

/// Being retired stands for all that only a command of the operator ends.
#[test]
fn node_that_refuses_writes_is_not_ready_and_says_why() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut first = Node::start(PROGRAM, &folder.path().join("first"), Options::default());
    assert_eq!(first.command(&["SET", "k", "v"]), "OK");
    let replica = first.command(&["TIDE.REPLICAS"]);
    let replica = replica.split_whitespace().find(|word| word.trim_matches(['[', ']']).len() == 32);
    let replica = replica.expect("an id").trim_matches(['[', ']']).to_owned();
    let retired = run(PROGRAM, &["retire", &replica, "--force", "--node", first.redis()]);
    assert!(retired.status.success(), "{retired:?}");
    eventually("it is not ready", || get(first.http(), "/readyz").status == 503);
    assert_eq!(reasons(&get(first.http(), "/readyz")), r#"["read_only"]"#);
    let health = get(first.http(), "/healthz");
    assert_eq!(health.status, 503);
    assert!(reasons(&health).contains("was retired"), "{}", health.text());
    let rejoined = run(PROGRAM, &["rejoin", "--node", first.redis()]);
    assert!(rejoined.status.success(), "{rejoined:?}");
    eventually("it is ready again", || get(first.http(), "/readyz").status == 200);
}

/// A node that joins a keyspace again cannot answer for it until a peer has brought what it wrote there before.
#[test]
fn node_that_fetches_a_keyspace_is_not_ready() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut server = Node::start(PROGRAM, &folder.path().join("server"), Options::default());
    let peers = server.listen().to_vec();
    let mut phone =
        Node::start(PROGRAM, &folder.path().join("phone"), Options { peers, ..Options::default() });
    assert_eq!(phone.command(&["SELECT", "photos"]), "OK");
    assert_eq!(phone.command(&["SADD", "album", "photo"]), "1");
    let keyspace = |node: &Node, verb: &str| {
        run(PROGRAM, &["keyspace", verb, "photos", "--node", node.redis()]).status.success()
    };
    eventually("a peer vouches", || keyspace(&phone, "leave"));
    server.kill();
    eventually("it can join", || keyspace(&phone, "join"));
    eventually("it is not ready", || get(phone.http(), "/readyz").status == 503);
    assert_eq!(reasons(&get(phone.http(), "/readyz")), r#"["loading"]"#);
    assert!(reasons(&get(phone.http(), "/healthz")).contains("keyspace photos"), "with its name");
    server.restart();
    eventually("it is ready again", || get(phone.http(), "/readyz").status == 200);
    assert_eq!(phone.command(&["SMEMBERS", "album"]), "[photo]");
}

/// The node lives on a small disk of its own, which only its process sees.
#[test]
fn node_whose_disk_is_full_is_not_ready_until_there_is_room() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("disk");
    std::fs::create_dir(&data).expect("it is ours");
    let program = folder.path().join("on_a_small_disk");
    let script = format!(
        "#!/bin/sh\nexec unshare -rm sh -c 'mount -t tmpfs -o size=32m none {data} && head -c 12M /dev/zero \
         >{data}/filler && exec {PROGRAM} \"$@\"' sh \"$@\"\n",
        data = data.display()
    );
    std::fs::write(&program, script).expect("it is ours");
    std::fs::set_permissions(&program, Permissions::from_mode(0o700)).expect("it is ours");
    if !Command::new("unshare")
        .args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"])
        .status()
        .is_ok_and(|it| it.success())
    {
        eprintln!("not tested: this system lets nobody mount a small disk");
        return;
    }
    let program = program.to_str().expect("a plain name");
    let mut node = Node::start(program, &data.join("node"), Options::default());
    let value = "x".repeat(1 << 20);
    let refused = (0..64).map(|n| node.command(&["SET", &n.to_string(), &value])).find(|reply| reply != "OK");
    assert!(refused.expect("the disk is small").starts_with("error: READONLY"));
    eventually("it is not ready", || get(node.http(), "/readyz").status == 503);
    assert_eq!(reasons(&get(node.http(), "/readyz")), r#"["disk_full"]"#);
    let filler = format!("/proc/{}/root{}/filler", node.pid(), data.display());
    std::fs::remove_file(filler).expect("it can be reached");
    eventually("it is ready again", || get(node.http(), "/readyz").status == 200);
    assert_eq!(node.command(&["SET", "k", "v"]), "OK");
}

#[test]
fn token_host_and_origin_are_checked() {
    const TOKEN: &str = "a-token-of-a-test";
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = start(&folder, &format!("token = \"{TOKEN}\"\nallowed_hosts = [\"node.example.org\"]\n"));
    let ask = |path: &str, headers: &[(&str, &str)]| {
        send(node.http(), "GET", path, headers, b"").expect("it answers").status
    };
    let right = ("authorization", &*format!("Bearer {TOKEN}"));
    assert_eq!(ask("/livez", &[]), 200);
    assert_eq!(ask("/readyz", &[]), 200);
    assert_eq!(ask("/healthz", &[]), 401);
    assert_eq!(ask("/healthz", &[("authorization", "Bearer wrong")]), 401);
    assert_eq!(ask("/healthz", &[right]), 200);
    assert_eq!(ask("/healthz", &[right, ("host", "node.example.org:1")]), 200);
    assert_eq!(ask("/healthz", &[right, ("host", "evil.example.org")]), 421);
    assert_eq!(ask("/livez", &[("host", "evil.example.org")]), 421);
    let same = format!("http://{}", node.http());
    assert_eq!(ask("/healthz", &[right, ("origin", &same)]), 200);
    assert_eq!(ask("/healthz", &[right, ("origin", "http://evil.example.org")]), 403);
    assert_eq!(ask("/healthz", &[right, ("sec-fetch-site", "cross-site")]), 403);
    let response = send(node.http(), "GET", "/healthz", &[right], b"").expect("it answers");
    assert!(!response.head.contains("access-control"), "{}", response.head);
}

#[test]
fn open_address_without_a_token_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("node");
    let data = data.to_str().expect("a plain name");
    let output = run(PROGRAM, &["run", "--data", data, "--redis", "off", "--http", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("http.token"), "{output:?}");
}

/// What is not HTTP, or too much of it, ends the connection and nothing else.
#[test]
fn hostile_heads_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = start(&folder, "");
    let send_raw = |bytes: &[u8]| {
        let mut stream = connect(node.http()).expect("it accepts");
        // It may hang up before it has read all.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        read(&mut stream).map_or(0, |response| response.status)
    };
    let head = |lines: &str| format!("GET /livez HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n").into_bytes();
    assert_eq!(send_raw(&head("")), 200);
    assert_eq!(send_raw(&head(&format!("x: {}\r\n", "y".repeat(64 << 10)))), 431);
    assert_eq!(send_raw(&head(&"x: y\r\n".repeat(100))), 431);
    assert_eq!(send_raw(&head("content-length: 1\r\ncontent-length: 2\r\n")), 400);
    assert_eq!(send_raw(b"GET /livez HTTP/1.1\r\n\r\n"), 400, "no host");
    assert_eq!(send_raw(format!("GET /{} HTTP/1.1\r\n", "x".repeat(1 << 20)).as_bytes()), 431);
    assert_eq!(send_raw(b"*1\r\n$4\r\nPING\r\n"), 400, "not HTTP");
    assert_eq!(send_raw(&[0xff; 4096]), 400);
    assert_eq!(send_raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 0, "HTTP/2 is hung up on");
    assert_eq!(get(node.http(), "/livez").status, 200);
}

/// Whoever takes too long for its head is hung up on, and one beyond the connections that may be is told so.
#[test]
fn slow_heads_do_not_keep_their_places() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = start(&folder, "timeout_s = 1\nconnections_max = 8\n");
    let mut slow: Vec<_> = (0..8).map(|_| connect(node.http()).expect("it accepts")).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: loc").expect("it reads");
    }
    eventually("there is no more place", || {
        send(node.http(), "GET", "/livez", &[], b"").map_or(503, |response| response.status) == 503
    });
    for stream in &mut slow {
        let mut rest = Vec::new();
        // It is closed with or without an answer.
        let _ = stream.read_to_end(&mut rest);
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
    }
    // So is one that rests for long, whether it ever asked or not.
    let resting = ["", "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"].map(|request| {
        let mut stream = connect(node.http()).expect("it accepts");
        stream.write_all(request.as_bytes()).expect("it reads");
        stream
    });
    for mut stream in resting {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("it is closed");
    }
    eventually("there are places again", || {
        send(node.http(), "GET", "/livez", &[], b"").is_ok_and(|response| response.status == 200)
    });
}
