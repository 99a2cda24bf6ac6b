//! AUTH and HELLO AUTH: who has not said the password gets nothing, and guessing is slow.

use super::{Link, Password, Port, array};

const REQUIRED: &str = "-NOAUTH Authentication required.";
const WRONG: &str = "-WRONGPASS invalid username-password pair or user is disabled.";

async fn port() -> Port {
    Port::open_with(|config| config.password = Some(Password::new(b"secret"))).await
}

/// Sends a line and expects one reply; what comes behind it is not asked for.
async fn ask(link: &mut Link, command: &str, reply: &str) {
    link.send(format!("{command}\r\n")).await;
    link.expect(format!("{reply}\r\n")).await;
}

#[tokio::test]
async fn nothing_is_answered_before_the_password() {
    let port = port().await;
    let mut link = port.link().await;
    for line in [
        "PING",
        "GET k",
        "SET k v",
        "INFO",
        "MULTI",
        "EXEC",
        "COMMAND",
        "CLIENT ID",
        "TIDE.STATUS",
        "FLUSHALL",
    ] {
        ask(&mut link, line, REQUIRED).await;
    }
    ask(&mut link, "HELLO 3", "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time").await;
    ask(&mut link, "AUTH a b c", "-ERR syntax error").await;
    ask(&mut link, "AUTH", "-ERR wrong number of arguments for 'auth' command").await;
    ask(&mut link, "AUTH secret", "+OK").await;
    link.check("SET k v", "+OK").await;
    ask(&mut link, "RESET", "+RESET").await;
    ask(&mut link, "GET k", REQUIRED).await;
    ask(&mut link, "AUTH default secret", "+OK").await;
    link.check("GET k", "$1\nv").await;
    ask(&mut link, "QUIT", "+OK").await;
    assert_eq!(port.double.counts().0, 1, "only one write reached the node");
}

#[tokio::test]
async fn hello_lets_in_and_chooses_the_protocol_together() {
    let port = port().await;
    let mut link = port.link().await;
    ask(&mut link, "HELLO 3 AUTH default wrong", WRONG).await;
    ask(&mut link, "HELLO 3 AUTH somebody secret", WRONG).await;
    ask(&mut link, "GET k", REQUIRED).await;
    link.send("HELLO 3 AUTH default secret\r\n").await;
    link.expect("%7\r\n$6\r\nserver\r\n").await;
}

#[tokio::test]
async fn connection_that_guesses_is_closed() {
    let port = port().await;
    let mut link = port.link().await;
    link.send("AUTH wrong\r\n".repeat(9)).await;
    assert_eq!(link.rest().await.matches("WRONGPASS").count(), 5);
    port.link().await.send("AUTH secret\r\n").await;
}

#[tokio::test]
async fn address_that_guesses_waits_also_with_the_right_password() {
    let port = port().await;
    for _ in 0..4 {
        let mut link = port.link().await;
        link.send("AUTH wrong\r\n".repeat(5)).await;
        link.rest().await;
    }
    let mut link = port.link().await;
    ask(&mut link, "AUTH secret", "-ERR too many wrong passwords from this address; wait a minute").await;
    ask(&mut link, "GET k", REQUIRED).await;
}

#[tokio::test]
async fn stranger_cannot_make_the_node_hold_much() {
    let port = port().await;
    let mut link = port.link().await;
    link.send("*2\r\n$4\r\nECHO\r\n$1000000\r\n").await;
    link.send("x".repeat(300_000)).await;
    assert!(link.rest().await.starts_with(REQUIRED));
    let mut friend = port.link().await;
    friend.send([array(&["AUTH", "secret"]), array(&["ECHO", &"x".repeat(500_000)])].concat()).await;
    friend.expect("+OK\r\n$500000\r\nxxx").await;
}

#[tokio::test]
async fn without_a_password_auth_answers_as_redis_does() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("AUTH secret", "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?").await;
    link.check("AUTH default anything", "+OK").await;
    link.check("AUTH somebody anything", WRONG).await;
}

#[tokio::test]
async fn reset_makes_the_connection_new() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("CLIENT SETNAME me", "+OK").await;
    link.check("SELECT notes", "+OK").await;
    link.check("SET k v", "+OK").await;
    link.send("MULTI\r\nSET k w\r\nRESET\r\n").await;
    link.expect("+OK\r\n+QUEUED\r\n+RESET\r\n").await;
    link.check("EXEC", "-ERR EXEC without MULTI").await;
    link.check("CLIENT GETNAME", "$-1").await;
    link.check("GET k", "$-1").await;
    link.check("RESET now", "-ERR wrong number of arguments for 'reset' command").await;
}
