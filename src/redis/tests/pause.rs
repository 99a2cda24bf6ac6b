//! CLIENT PAUSE: what waits, what goes on, and what ends the waiting.

use super::{Link, Port};

/// Asks until a client waits.
async fn until_waiting(link: &mut Link, clients: usize) {
    let found = format!("blocked_clients:{clients}\r\n");
    for _ in 0..10_000 {
        link.send("INFO clients\r\n").await;
        let length = link.line().await.trim_start_matches('$').parse().expect("a length");
        if String::from_utf8_lossy(&link.bytes(length).await).contains(&found) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("nobody waits");
}

#[tokio::test]
async fn writes_wait_until_the_pause_is_over_and_reads_go_on() {
    let port = Port::open().await;
    let (mut link, mut other) = (port.link().await, port.link().await);
    link.check("CLIENT PAUSE 600000 WRITE", "+OK").await;
    other.send("GET k\r\nMULTI\r\nGET k\r\nEXEC\r\nSET k v\r\nGET k\r\n").await;
    other.expect("$-1\r\n+OK\r\n+QUEUED\r\n*1\r\n$-1\r\n").await;
    until_waiting(&mut link, 1).await;
    link.check("GET k", "$-1").await;
    link.check("CLIENT UNPAUSE", "+OK").await;
    other.expect("+OK\r\n$1\r\nv\r\n").await;
    link.check("GET k", "$1\nv").await;
}

#[tokio::test]
async fn transaction_that_writes_waits_as_a_whole() {
    let port = Port::open().await;
    let (mut link, mut other) = (port.link().await, port.link().await);
    link.check("CLIENT PAUSE 600000 write", "+OK").await;
    other.send("MULTI\r\nGET k\r\nSET k v\r\nEXEC\r\n").await;
    other.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n").await;
    until_waiting(&mut link, 1).await;
    link.check("EXISTS k", ":0").await;
    link.check("CLIENT PAUSE 1", "+OK").await;
    other.expect("*2\r\n$-1\r\n+OK\r\n").await;
}

/// Who is paused can be let go, and can be ended, and does not keep the server from stopping.
#[tokio::test]
async fn everything_waits_but_what_can_end_it() {
    let port = Port::open().await;
    let (mut link, mut other, mut third) = (port.link().await, port.link().await, port.link().await);
    third.check("CLIENT ID", ":3").await;
    link.check("INCR n", ":1").await;
    link.send("CLIENT PAUSE 600000\r\n").await;
    link.expect("+OK\r\n").await;
    other.send("PING\r\n").await;
    third.send("CLIENT GETNAME\r\nPING\r\n").await;
    third.expect("$-1\r\n").await;
    link.send("CLIENT KILL ID 3\r\n").await;
    link.expect(":1\r\n").await;
    assert_eq!(third.rest().await, "");
    link.send("CLIENT UNPAUSE\r\n").await;
    link.expect("+OK\r\n").await;
    other.expect("+PONG\r\n").await;
    link.send("CLIENT PAUSE 600000\r\n").await;
    link.expect("+OK\r\n").await;
    other.send("PING\r\n").await;
    port.server.shutdown().await;
}
