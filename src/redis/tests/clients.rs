//! What clients see of each other, how one is killed, and replies that are not wanted.

use std::net::SocketAddr;

use super::{Link, Port};

/// What CLIENT LIST or CLIENT INFO answers, which is one bulk string.
async fn listed(link: &mut Link, command: &str) -> String {
    let head = link.ask(command).await;
    let length: usize = head[1..].parse().expect("a length");
    let mut bytes = vec![0; length + 2];
    tokio::io::AsyncReadExt::read_exact(&mut link.stream, &mut bytes).await.expect("it is open");
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}

fn address(link: &Link) -> SocketAddr {
    link.stream.local_addr().expect("it is connected")
}

/// Waits until the server has let go of all clients but so many.
async fn left(port: &Port, count: usize) {
    let gone = async {
        while port.server.observer().figures().clients != count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::PATIENCE, gone).await.expect("clients that were killed leave");
}

#[tokio::test]
async fn clients_are_listed_with_what_they_said_and_did() {
    let port = Port::open().await;
    let (mut one, mut two) = (port.link().await, port.link().await);
    one.check("CLIENT SETNAME me", "+OK").await;
    one.check("CLIENT SETINFO lib-name redis-py", "+OK").await;
    one.check("CLIENT SETINFO lib-ver 5.0", "+OK").await;
    one.check("SELECT 7", "+OK").await;
    one.send("MULTI\r\nGET k\r\n").await;
    one.expect("+OK\r\n+QUEUED\r\n").await;
    two.check("SELECT notes", "+OK").await;
    let list = listed(&mut two, "CLIENT LIST").await;
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 2, "{list}");
    assert!(lines[0].starts_with(&format!(
        "id=1 addr={} laddr={} fd=",
        address(&one),
        port.server.address()
    )));
    let fields = " name=me age=0 idle=0 flags=x db=7 sub=0 psub=0 ssub=0 multi=1 ";
    for field in [fields, " cmd=get ", " resp=2 lib-name=redis-py lib-ver=5.0", " user=default "] {
        assert!(lines[0].contains(field), "{field} is missing in {}", lines[0]);
    }
    assert!(lines[1].contains(" flags=N db=-1 ") && lines[1].contains(" cmd=client|list "), "{}", lines[1]);
    assert_eq!(listed(&mut two, "CLIENT LIST ID 2 99 2").await.lines().count(), 2);
    let own = listed(&mut two, "CLIENT INFO").await;
    assert!(own.starts_with("id=2 ") && own.contains(" cmd=client|info "), "{own}");
    drop(one);
    left(&port, 1).await;
    assert_eq!(listed(&mut two, "CLIENT LIST TYPE normal").await.lines().count(), 1);
}

#[tokio::test]
async fn killed_clients_are_closed_and_others_are_not() {
    let port = Port::open().await;
    let mut victims = Vec::new();
    for _ in 0..3 {
        let mut link = port.link().await;
        link.check("PING", "+PONG").await;
        victims.push(link);
    }
    let mut other = port.link().await;
    other.check("CLIENT KILL ID 1", ":1").await;
    assert_eq!(victims[0].rest().await, "");
    left(&port, 3).await;
    other.check("CLIENT KILL ID 1", ":0").await;
    other.check(&format!("CLIENT KILL {}", address(&victims[1])), "+OK").await;
    assert_eq!(victims[1].rest().await, "");
    victims[2].check("SET k v", "+OK").await;
    let laddr = port.server.address();
    other.check(&format!("CLIENT KILL LADDR {laddr} TYPE normal USER default"), ":1").await;
    assert_eq!(victims[2].rest().await, "");
    left(&port, 1).await;
    other.check("GET k", "$1\nv").await;
    other.check("CLIENT KILL TYPE normal", ":0").await;
}

#[tokio::test]
async fn client_that_kills_itself_is_told_so_first() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.send("SET k v\r\nCLIENT KILL TYPE normal SKIPME no\r\nSET k w\r\n").await;
    assert_eq!(link.rest().await, "+OK\\r\\n:1\\r\\n");
    let mut link = port.link().await;
    link.send(format!("GET k\r\nCLIENT KILL {}\r\nSET k w\r\n", address(&link))).await;
    assert_eq!(link.rest().await, "$1\\r\\nv\\r\\n+OK\\r\\n");
}

#[tokio::test]
async fn client_that_waits_or_watches_is_killed_too() {
    let port = Port::open().await;
    let (mut waits, mut watches) = (port.link().await, port.link().await);
    waits.check("PING", "+PONG").await;
    watches.check("HELLO 4", "-NOPROTO unsupported protocol version").await;
    watches.send("TIDE.WATCH k\r\n").await;
    waits.send("WAIT 3 0\r\n").await;
    let mut other = port.link().await;
    let is_waiting = async {
        while !listed(&mut other, "CLIENT LIST ID 1").await.contains(" flags=b ") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::PATIENCE, is_waiting).await.expect("it waits");
    other.check("CLIENT KILL ID 1", ":1").await;
    assert_eq!(waits.rest().await, "");
    other.check("CLIENT KILL ID 2", ":1").await;
    watches.rest().await;
    left(&port, 1).await;
}

#[tokio::test]
async fn replies_that_are_not_wanted_are_not_sent() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.send(
        "CLIENT REPLY OFF\r\nSET k v\r\nfrobnicate\r\nCLIENT REPLY SKIP\r\nCLIENT REPLY ON\r\nGET k\r\n",
    )
    .await;
    link.expect("+OK\r\n$1\r\nv\r\n").await;
    link.send("SET a 1\r\nCLIENT REPLY SKIP\r\nINCR a\r\nGET a\r\n").await;
    link.expect("+OK\r\n$1\r\n2\r\n").await;
    link.send("CLIENT REPLY SKIP\r\nWAIT 0 0\r\nCLIENT REPLY SKIP\r\nfrobnicate\r\nPING\r\n").await;
    link.expect("+PONG\r\n").await;
    link.send("CLIENT REPLY OFF\r\nMULTI\r\nSET k w\r\nRESET\r\nGET k\r\nCLIENT REPLY OFF\r\n").await;
    link.expect("+RESET\r\n$1\r\nv\r\n").await;
    link.send("GET k\r\nQUIT\r\n").await;
    assert_eq!(link.rest().await, "");
}

#[tokio::test]
async fn names_are_bounded() {
    let port = Port::open().await;
    let mut link = port.link().await;
    let (fits, long) = ("n".repeat(1024), "n".repeat(1025));
    link.check(&format!("CLIENT SETNAME {fits}"), "+OK").await;
    link.check(&format!("CLIENT SETNAME {long}"), "-ERR Client names have at most 1024 bytes.").await;
    link.check(&format!("CLIENT SETINFO lib-ver {long}"), "-ERR lib-ver has at most 1024 bytes.").await;
    link.check("CLIENT GETNAME", &format!("$1024\n{fits}")).await;
}
