//! The limits of a running server: every one at its bound, and one past it.

use std::time::{Duration, Instant};

use super::{PATIENCE, Port, array};

#[tokio::test]
async fn one_client_too_many_is_told_and_closed() {
    let port = Port::open_with(|config| config.clients_max = 2).await;
    let (mut one, mut two) = (port.link().await, port.link().await);
    one.check("PING", "+PONG").await;
    two.check("PING", "+PONG").await;
    let mut three = port.link().await;
    assert_eq!(three.rest().await, "-ERR max number of clients reached\\r\\n");
    drop(one);
    // The place is free once the server has seen the end of the first.
    let mut served = false;
    for _ in 0..200 {
        let mut next = port.link().await;
        next.send("PING\r\nQUIT\r\n").await;
        served = next.rest().await == "+PONG\\r\\n+OK\\r\\n";
        if served {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(served);
    two.check("PING", "+PONG").await;
}

#[tokio::test]
async fn broken_input_is_answered_behind_the_commands_before_it() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.send("SET k v\r\n*1\r\n$x\r\n").await;
    assert_eq!(link.rest().await, "+OK\\r\\n-ERR Protocol error: invalid bulk length\\r\\n");
    let mut link = port.link().await;
    link.check("GET k", "$1\nv").await;
}

/// A client that writes all of a command before it reads hears why it was refused.
#[tokio::test]
async fn command_that_is_too_long_is_refused_and_the_connection_goes_on() {
    let port = Port::open_with(|config| config.command_bytes_max = 17 << 20).await;
    let mut link = port.link().await;
    link.send(array(&["SET", "k", &"v".repeat((16 << 20) + 1)])).await;
    link.expect("-ERR argument of 16777217 bytes; at most 16777216 are allowed\r\n").await;
    link.send(array(&["MSET", "a", &"v".repeat(9 << 20), "b", &"v".repeat(9 << 20)])).await;
    link.expect("-ERR command of more than 17825792 bytes\r\n").await;
    link.check("EXISTS k a b", ":0").await;
    link.send("MULTI\r\n").await;
    link.send(array(&["SET", "k", &"v".repeat(20 << 20)])).await;
    link.expect("+OK\r\n-ERR argument of 20971520 bytes; at most 16777216 are allowed\r\n").await;
    link.check("EXEC", "-EXECABORT Transaction discarded because of previous errors.").await;
}

#[tokio::test]
async fn web_pages_are_dropped_without_an_answer() {
    let port = Port::open().await;
    for request in ["POST / HTTP/1.1\r\nSET k v\r\n", "GET k\r\nHost: localhost\r\nSET k v\r\n"] {
        let mut link = port.link().await;
        link.send(request).await;
        assert_eq!(link.rest().await, "");
    }
    port.link().await.check("EXISTS k", ":0").await;
}

#[tokio::test]
async fn reply_longer_than_the_output_buffer_becomes_an_error() {
    let port = Port::open_with(|config| config.client_output_bytes_max = 2_000).await;
    let mut link = port.link().await;
    // A bulk reply of 1991 bytes has 9 more around it.
    let (fits, too_long) = ("v".repeat(1_991), "v".repeat(1_992));
    let error = "-ERR the reply is longer than the 2000 bytes that a client may leave unread\r\n";
    link.send(array(&["ECHO", &fits])).await;
    link.expect(format!("$1991\r\n{fits}\r\n")).await;
    link.send(array(&["ECHO", &too_long])).await;
    link.expect(error).await;
    link.send(array(&["MSET", "a", &fits, "b", &fits])).await;
    link.expect("+OK\r\n").await;
    link.send("MGET a b\r\n").await;
    link.expect(error).await;
    link.send("GET a\r\n").await;
    link.expect(format!("$1991\r\n{fits}\r\n")).await;
    for number in 0..40 {
        link.check(&format!("SET key:{number}:{} v", "x".repeat(100)), "+OK").await;
    }
    link.send("KEYS *\r\n").await;
    link.expect(error).await;
}

/// Asks for far more than the sockets hold and reads nothing.
async fn ask_without_reading(port: &Port) -> super::Link {
    let mut link = port.link().await;
    link.send(array(&["SET", "big", &"v".repeat(1 << 20)])).await;
    link.expect("+OK\r\n").await;
    link.send("GET big\r\n".repeat(64)).await;
    link
}

async fn closed_as_slow(port: &Port) {
    let mut other = port.link().await;
    let mut seen = String::new();
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        other.send("INFO stats\r\n").await;
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            let mut bytes = [0; 1024];
            let count =
                tokio::io::AsyncReadExt::read(&mut other.stream, &mut bytes).await.expect("it is open");
            assert_ne!(count, 0, "who reads was closed, too");
            text.extend_from_slice(&bytes[..count]);
        }
        seen = text.escape_ascii().to_string();
        if !seen.contains("limit_disconnections:0") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{seen}; no client was closed for reading slowly");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_reader_is_closed_and_blocks_nobody() {
    let port = Port::open_with(|config| config.client_output_bytes_max = 16 << 20).await;
    let slow = ask_without_reading(&port).await;
    port.link().await.check("GET missing", "$-1").await;
    closed_as_slow(&port).await;
    drop(slow);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn little_is_executed_for_who_does_not_read() {
    let port = Port::open_with(|config| config.client_output_bytes_max = 4 << 20).await;
    let mut slow = port.link().await;
    slow.send(array(&["SET", "big", &"v".repeat(1 << 20)])).await;
    slow.expect("+OK\r\n").await;
    slow.send("GET big\r\n".repeat(1_000)).await;
    closed_as_slow(&port).await;
    // What may be unread, what the sockets hold, and what is read ahead.
    let answers = port.double.answers();
    assert!((4..100).contains(&answers), "{answers} of 1000 reads");
    drop(slow);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_clients_together_are_bounded() {
    let port = Port::open_with(|config| {
        // One client alone stays within both bounds.
        config.client_output_bytes_max = 80 << 20;
        config.output_bytes_max = 80 << 20;
    })
    .await;
    let slow = [ask_without_reading(&port).await, ask_without_reading(&port).await];
    closed_as_slow(&port).await;
    port.link().await.check("GET missing", "$-1").await;
    drop(slow);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reader_of_large_replies_is_not_closed_for_their_size() {
    let port = Port::open_with(|config| config.client_output_bytes_max = 4 << 20).await;
    let mut link = ask_without_reading(&port).await;
    let reply = format!("$1048576\r\n{}\r\n", "v".repeat(1 << 20));
    for _ in 0..64 {
        link.expect(&reply).await;
    }
    link.check("PING", "+PONG").await;
}

#[tokio::test]
async fn half_sent_commands_of_all_clients_together_are_bounded() {
    let port = Port::open_with(|config| {
        config.bulk_bytes_max = 64 << 10;
        config.command_bytes_max = 128 << 10;
        config.input_bytes_max = 128 << 10;
    })
    .await;
    let mut links = Vec::new();
    let half = format!("*2\r\n$4\r\nECHO\r\n$65000\r\n{}", "x".repeat(60_000));
    for _ in 0..2 {
        let mut link = port.link().await;
        link.check("PING", "+PONG").await;
        link.send(&half).await;
        links.push(link);
    }
    let mut third = port.link().await;
    third.send(&half).await;
    let refused = "-ERR all clients together hold more than 131072 bytes of commands\\r\\n";
    let mut ends = Vec::new();
    for link in links.iter_mut().chain([&mut third]) {
        let mut text = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut link.stream, &mut text);
        if tokio::time::timeout(Duration::from_millis(500), read).await.is_ok() {
            ends.push(text.escape_ascii().to_string());
        }
    }
    assert_eq!(ends, [refused]);
}
