//! The Redis port against real semantics: a node's double over a store in memory, real sockets on loopback.

mod auth;
mod channels;
mod clients;
mod conformance;
mod conformance_collections;
mod conformance_decisions;
mod conformance_documents;
mod conformance_expiry;
mod conformance_server;
mod conformance_session;
mod conformance_sorted_sets;
mod conformance_tide;
mod conformance_values;
mod decoding;
pub(crate) mod double;
mod limits;
mod pause;
mod pipelines;
mod scan;
mod serving;
mod side_by_side;
mod strong;
mod tracking;
mod transactions;
mod world;

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(crate) use double::Double;

use super::inline;
use super::{Password, RedisConfig, RedisServer};

/// No reply takes as long; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server over a double, on a port of its own.
pub(crate) struct Port {
    pub(crate) server: RedisServer,
    pub(crate) double: Double,
}

impl Port {
    pub(crate) async fn open() -> Self {
        Self::open_with(|_| ()).await
    }

    pub(crate) async fn open_with(change: impl FnOnce(&mut RedisConfig)) -> Self {
        let mut config = RedisConfig { address: ([127, 0, 0, 1], 0).into(), ..RedisConfig::default() };
        change(&mut config);
        let double = Double::new(1);
        let server = RedisServer::start(config, double.clone()).await.expect("loopback has a free port");
        Self { server, double }
    }

    async fn link(&self) -> Link {
        Link { stream: TcpStream::connect(self.server.address()).await.expect("the server listens") }
    }
}

/// A client that looks at bytes.
struct Link {
    stream: TcpStream,
}

impl Link {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(PATIENCE, self.stream.write_all(bytes.as_ref()))
            .await
            .expect("the server reads")
            .expect("the connection is open");
    }

    /// Reads exactly these bytes.
    async fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let mut found = vec![0; expected.len()];
        let mut count = 0;
        while count < found.len() && found[..count] == expected[..count] {
            match timeout(PATIENCE, self.stream.read(&mut found[count..])).await {
                Ok(Ok(read @ 1..)) => count += read,
                _ => break,
            }
        }
        assert_eq!(found[..count].escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    /// Reads to the end, which must come.
    async fn rest(&mut self) -> String {
        let mut found = Vec::new();
        // A connection that is closed with bytes unread ends with a reset, which is an end all the same.
        let end = timeout(PATIENCE, self.stream.read_to_end(&mut found)).await;
        assert!(end.is_ok(), "the server did not close: {}", found.escape_ascii());
        found.escape_ascii().to_string()
    }

    /// Sends a line as an array and answers the reply, which is one line.
    async fn ask(&mut self, line: &str) -> String {
        self.send(&encode(line)).await;
        self.line().await
    }

    /// Reads so many bytes, and the end of the line.
    async fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut found = vec![0; length + 2];
        let read = timeout(PATIENCE, self.stream.read_exact(&mut found)).await;
        read.expect("the server answers").expect("the connection is open");
        found.truncate(length);
        found
    }

    /// Reads a line.
    async fn line(&mut self) -> String {
        let mut found = Vec::new();
        while !found.ends_with(b"\r\n") {
            let byte = timeout(PATIENCE, self.stream.read_u8()).await;
            found.push(byte.expect("the server answers").expect("the connection is open"));
        }
        String::from_utf8_lossy(&found).trim_end().to_owned()
    }

    /// Sends a line as an array and expects the lines of a reply, and nothing behind it.
    async fn check(&mut self, line: &str, reply: &str) {
        let mut bytes = encode(line);
        bytes.extend(encode("ECHO end-of-reply"));
        self.send(&bytes).await;
        let mut expected = lines(reply);
        expected.push_str("$12\r\nend-of-reply\r\n");
        eprintln!("{line}");
        self.expect(expected).await;
    }
}

/// The array that a typed line means.
fn encode(line: &str) -> Vec<u8> {
    array(&inline::split(line.as_bytes()).expect("the test's quotes are balanced"))
}

fn array(arguments: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        let argument = argument.as_ref();
        bytes.extend(format!("${}\r\n", argument.len()).into_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// A reply as it is written in the tests: `\n` for the ends of lines, and none for that of the last.
fn lines(reply: &str) -> String {
    reply.replace('\n', "\r\n") + "\r\n"
}
