//! The life of connections: how they end, and how the server does.

use tokio::io::AsyncWriteExt;

use super::Port;
use crate::redis::{RedisConfig, RedisServer, RedisStartError};

#[tokio::test]
async fn quit_answers_what_came_before_and_nothing_after() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.send("SET k v\r\nQUIT\r\nSET k w\r\n").await;
    assert_eq!(link.rest().await, "+OK\\r\\n+OK\\r\\n");
    port.link().await.check("GET k", "$1\nv").await;
}

#[tokio::test]
async fn client_that_only_closes_its_side_is_still_answered() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.send("SET k v\r\nGET k\r\nGET unfinish").await;
    link.stream.shutdown().await.expect("the connection is open");
    assert_eq!(link.rest().await, "+OK\\r\\n$1\\r\\nv\\r\\n");
}

#[tokio::test]
async fn command_is_answered_when_its_last_byte_comes() {
    let port = Port::open().await;
    let mut link = port.link().await;
    for byte in b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n" {
        link.send([*byte]).await;
        tokio::task::yield_now().await;
    }
    link.expect("$2\r\nhi\r\n").await;
}

#[tokio::test]
async fn connections_have_numbers_of_their_own() {
    let port = Port::open().await;
    let (mut one, mut two) = (port.link().await, port.link().await);
    one.check("CLIENT ID", ":1").await;
    two.check("CLIENT ID", ":2").await;
    two.check("SELECT 5", "+OK").await;
    two.check("SET k v", "+OK").await;
    one.check("GET k", "$-1").await;
}

#[tokio::test]
async fn shutdown_answers_what_was_sent_and_closes_everybody() {
    let port = Port::open().await;
    let (mut idle, mut busy) = (port.link().await, port.link().await);
    idle.check("PING", "+PONG").await;
    busy.send("SET k v\r\n").await;
    busy.expect("+OK\r\n").await;
    let address = port.server.address();
    port.server.shutdown().await;
    assert_eq!((idle.rest().await, busy.rest().await), (String::new(), String::new()));
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn port_that_is_taken_is_said_to_be() {
    let port = Port::open().await;
    let config = RedisConfig { address: port.server.address(), ..RedisConfig::default() };
    let refused = RedisServer::start(config, port.double.clone()).await.expect_err("the port is taken");
    assert!(matches!(refused, RedisStartError::Listen { .. }), "{refused}");
    let config = RedisConfig { clients_max: 0, ..RedisConfig::default() };
    let refused = RedisServer::start(config, port.double.clone()).await.expect_err("no client may come");
    assert_eq!(refused.to_string(), "redis.clients_max is 0; it must be from 1 to 18446744073709551615");
}
