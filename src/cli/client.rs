//! A small blocking client of a node's Redis port.

use std::io::{self, BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use thiserror::Error;

use super::client_args::NodeArgs;
use super::value::{self, Value};
use crate::backup::BackupFileError;

/// A node on this machine or network accepts within this time, or is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A node answers within this time, or hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// Why a command was not done.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens there. Nothing was done.
    #[error("no node answers on {address}; start one with 'tidelock run'")]
    NoNode {
        /// The address.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// The node refused; its own words.
    #[error("{0}")]
    Refused(String),
    /// The connection was lost before the answer; whether the command was done is not known.
    #[error("the connection to the node was lost: {0}")]
    Lost(#[from] io::Error),
    /// What answers there does not speak the protocol.
    #[error("what answers there is not a tidelock node")]
    NotANode,
    /// A backup could not be written.
    #[error(transparent)]
    Backup(#[from] BackupFileError),
    /// An export could not be read, or not be written to the node; the text says what was done.
    #[error("{0}")]
    Import(String),
    /// Files could not be compacted, in the store's words.
    #[error("{0}")]
    Compact(String),
    /// The output could not be written.
    #[error("cannot print: {0}")]
    Print(io::Error),
}

/// A connection to a node, in the keyspace that was asked for.
#[derive(Debug)]
pub(super) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(super) fn connect(node: &NodeArgs) -> Result<Self, ClientError> {
        let stream = connect(&node.node)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let mut client = Self { stream: BufReader::new(stream) };
        client.call(&[b"HELLO", b"3"])?;
        if let Some(keyspace) = &node.keyspace {
            client.call(&[b"SELECT", keyspace.as_bytes()])?;
        }
        Ok(client)
    }

    /// Gives a command and reads the answer.
    pub(super) fn call(&mut self, arguments: &[&[u8]]) -> Result<Value, ClientError> {
        self.send(arguments)?;
        self.next()
    }

    /// Gives a command. It is answered by one [`Client::next`], in its turn.
    pub(super) fn send(&mut self, arguments: &[impl AsRef<[u8]>]) -> Result<(), ClientError> {
        let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            let argument = argument.as_ref();
            write!(bytes, "${}\r\n", argument.len())?;
            bytes.extend_from_slice(argument);
            bytes.extend_from_slice(b"\r\n");
        }
        Ok(self.stream.get_mut().write_all(&bytes)?)
    }

    /// Reads the next answer.
    pub(super) fn next(&mut self) -> Result<Value, ClientError> {
        value::read(&mut self.stream).map_err(|error| match error {
            ClientError::Lost(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ClientError::Lost(io::Error::new(io::ErrorKind::TimedOut, "it does not answer"))
            }
            other => other,
        })
    }

    /// Lets [`Client::next`] wait for as long as it takes.
    pub(super) fn wait_forever(&self) -> Result<(), ClientError> {
        Ok(self.stream.get_ref().set_read_timeout(None)?)
    }
}

/// A name may stand for several addresses, of which one may answer.
fn connect(address: &str) -> Result<TcpStream, ClientError> {
    let no_node = |source| ClientError::NoNode { address: address.to_owned(), source };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for resolved in address.to_socket_addrs().map_err(no_node)? {
        match TcpStream::connect_timeout(&resolved, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(no_node(last))
}
