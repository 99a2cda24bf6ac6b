//! A small blocking client of a node's Redis port.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::client_args::NodeArgs;
use super::escape;
use super::password::{self, PASSWORD_VARIABLE};
use super::progress::ProgressLine;
use super::value::{self, Value};
use crate::backup::BackupFileError;
use crate::snapshot::SnapshotError;

/// A node on this machine or network accepts within this time, or is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What listens there greets within this time, or is no node.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);

/// A node answers within this time, or hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// How often somebody who waits is told so.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// Why a command was not done.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens there. Nothing was done.
    #[error("no node answers on {address}; start one with `tidelock run`")]
    NoNode {
        /// The address.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// The node refused; its own words.
    #[error("{0}")]
    Refused(String),
    /// The node answers, and does not take reads or writes of some keyspace.
    #[error("the node is not ready: {0}")]
    NotReady(String),
    /// The connection was lost before the answer; whether the command was done is not known.
    #[error("the connection to the node was lost: {0}")]
    Lost(#[from] io::Error),
    /// What answers there does not speak the protocol.
    #[error("what answers there is not a tidelock node")]
    NotANode,
    /// Another program listens there. Nothing was done.
    #[error("what listens on {address} is {what}, not a tidelock node; --node says where one is")]
    Other {
        /// The address.
        address: String,
        /// What it seems to be.
        what: String,
    },
    /// The node wants a password, and got none or a wrong one. Nothing was done.
    #[error(
        "the node on {address} {what}; `--password-file FILE` names a file that holds it, or {PASSWORD_VARIABLE} has it"
    )]
    Password {
        /// The address.
        address: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The file of the password cannot be read. Nothing was done.
    #[error("the password cannot be read from {path}: {source}")]
    PasswordFile {
        /// The file.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// A backup could not be written.
    #[error(transparent)]
    Backup(#[from] BackupFileError),
    /// An export could not be read, or not be written to the node; the text says what was done.
    #[error("{0}")]
    Import(String),
    /// A snapshot cannot be used. Nothing was restored.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A snapshot was not restored; the text says what was done.
    #[error("{0}")]
    Restore(String),
    /// A measurement says nothing; the text says why.
    #[error("{0}")]
    Bench(String),
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
    /// How long an answer may take, of which somebody is told; nobody is, if it is `None`.
    patience: Option<Duration>,
}

impl Client {
    /// A connection whose user is told on the terminal when an answer is long in coming.
    pub(super) fn connect(node: &NodeArgs) -> Result<Self, ClientError> {
        Self::open(node, true)
    }

    /// A connection that tells nothing, and needs no system calls to do so.
    pub(super) fn connect_quietly(node: &NodeArgs) -> Result<Self, ClientError> {
        Self::open(node, false)
    }

    fn open(node: &NodeArgs, tells: bool) -> Result<Self, ClientError> {
        let password = password::read(node.password_file.as_deref())?;
        let stream = connect(&node.node)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_read_timeout(Some(GREETING_TIMEOUT))?;
        let patience = tells.then_some(GREETING_TIMEOUT);
        let mut client = Self { stream: BufReader::new(stream), patience };
        client.greet(&node.node, password.as_deref())?;
        client.patience = tells.then_some(ANSWER_TIMEOUT);
        client.stream.get_ref().set_read_timeout(Some(ANSWER_TIMEOUT))?;
        if let Some(keyspace) = &node.keyspace {
            client.call(&[b"SELECT", keyspace.as_bytes()])?;
        }
        Ok(client)
    }

    /// Finds out whether this is a node, and comes in.
    fn greet(&mut self, address: &str, password: Option<&[u8]>) -> Result<(), ClientError> {
        let mut greeting = match password {
            Some(password) => self.call(&[b"HELLO", b"3", b"AUTH", b"default", password]),
            None => self.call(&[b"HELLO", b"3"]),
        };
        // A node without a password refuses every password, and needs none.
        if matches!(&greeting, Err(ClientError::Refused(text)) if text.starts_with("ERR AUTH")) {
            greeting = self.call(&[b"HELLO", b"3"]);
        }
        let other = |what: &str| ClientError::Other { address: address.to_owned(), what: what.to_owned() };
        let password = |what| ClientError::Password { address: address.to_owned(), what };
        match greeting {
            Ok(greeting) => match greeting.field("server") {
                Value::Bytes(name) if name == b"tidelock" => Ok(()),
                Value::Bytes(name) => Err(other(&escape::line(name))),
                _ => Err(other("something else")),
            },
            Err(ClientError::Refused(text)) if text.starts_with("NOAUTH") => {
                Err(password("asks for a password"))
            }
            Err(ClientError::Refused(text)) if text.starts_with("WRONGPASS") => {
                Err(password("does not take this password"))
            }
            Err(ClientError::Refused(text)) if text.starts_with("ERR unknown command") => {
                Err(other("an old redis or the like"))
            }
            Err(ClientError::NotANode) => Err(other("something else")),
            Err(ClientError::Lost(error)) if error.kind() == io::ErrorKind::TimedOut => Err(other("silent")),
            Err(ClientError::Lost(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(other("something that hangs up"))
            }
            Err(error) => Err(error),
        }
    }

    /// Gives a command and reads the answer.
    pub(super) fn call(&mut self, arguments: &[&[u8]]) -> Result<Value, ClientError> {
        self.send(arguments)?;
        self.next()
    }

    /// Gives a command. It is answered by one [`Client::next`], in its turn.
    pub(super) fn send(&mut self, arguments: &[impl AsRef<[u8]>]) -> Result<(), ClientError> {
        let mut bytes = Vec::new();
        encode(arguments, &mut bytes);
        self.send_encoded(&bytes)
    }

    /// Gives commands that [`encode`] wrote. Each is answered by one [`Client::next`].
    pub(super) fn send_encoded(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        Ok(self.stream.get_mut().write_all(bytes)?)
    }

    /// Reads the next answer. Whoever waits for it on a terminal is told so.
    pub(super) fn next(&mut self) -> Result<Value, ClientError> {
        if let Some(patience) = self.patience
            && self.stream.buffer().is_empty()
        {
            self.wait(patience)?;
        }
        value::read(&mut self.stream).map_err(|error| match error {
            ClientError::Lost(error) if is_timeout(&error) => silent().into(),
            other => other,
        })
    }

    /// Waits for the first bytes of an answer.
    fn wait(&mut self, patience: Duration) -> Result<(), ClientError> {
        let (mut line, started) = (ProgressLine::default(), Instant::now());
        self.stream.get_ref().set_read_timeout(Some(TELL_EVERY))?;
        loop {
            match self.stream.fill_buf() {
                Ok(_) => break,
                Err(error) if !is_timeout(&error) => return Err(error.into()),
                Err(_) if started.elapsed() >= patience => return Err(silent().into()),
                Err(_) => line.show(|| format!("waiting for the node, {} s", started.elapsed().as_secs())),
            }
        }
        Ok(self.stream.get_ref().set_read_timeout(Some(patience))?)
    }

    /// Lets [`Client::next`] wait for as long as it takes.
    pub(super) fn wait_forever(&mut self) -> Result<(), ClientError> {
        self.patience = None;
        Ok(self.stream.get_ref().set_read_timeout(None)?)
    }
}

/// Appends a command as the port reads it.
pub(super) fn encode(arguments: &[impl AsRef<[u8]>], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments {
        let argument = argument.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
}

/// Systems differ in what they call a read that took too long.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it does not answer")
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

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread::{self, JoinHandle};

    use super::*;

    /// Something that gives one answer after another, each to one read, hangs up, and tells what it read.
    fn listener(answers: &'static [&'static str]) -> (String, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody connects");
            let mut seen = String::new();
            for answer in answers {
                let mut bytes = [0; 1024];
                let count = stream.read(&mut bytes).expect("it asks");
                seen += &String::from_utf8_lossy(&bytes[..count]);
                stream.write_all(answer.as_bytes()).expect("it listens");
            }
            seen
        });
        (address, thread)
    }

    const GREETING: &str = "%1\r\n$6\r\nserver\r\n$8\r\ntidelock\r\n";

    fn node(address: &str, password_file: Option<&std::path::Path>) -> NodeArgs {
        let password_file = password_file.map(Into::into);
        NodeArgs { node: address.to_owned(), keyspace: None, password_file, json: false }
    }

    #[test]
    fn other_programs_are_told_from_nodes() {
        let cases: [(&[&str], &str); 6] = [
            (&["%1\r\n$6\r\nserver\r\n$5\r\nredis\r\n"], "redis"),
            (&["-ERR unknown command 'HELLO'\r\n"], "an old redis or the like"),
            (&["HTTP/1.1 400 Bad Request\r\n\r\n"], "something else"),
            (&["\x13/multistream/1.0.0\n"], "something else"),
            (&["+OK\r\n"], "something else"),
            (&[""], "something that hangs up"),
        ];
        for (answers, what) in cases {
            let (address, thread) = listener(answers);
            let error = Client::connect(&node(&address, None)).expect_err("it is no node");
            let text =
                format!("what listens on {address} is {what}, not a tidelock node; --node says where one is");
            assert_eq!(error.to_string(), text);
            thread.join().expect("it ends");
        }
    }

    #[test]
    fn password_is_asked_for_and_sent() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("password");
        std::fs::write(&file, "open sesame\n").expect("the folder is ours");

        let (address, thread) =
            listener(&["-NOAUTH HELLO must be called with the client already authenticated\r\n"]);
        let error = Client::connect(&node(&address, None)).expect_err("it wants a password").to_string();
        assert!(error.starts_with(&format!("the node on {address} asks for a password; ")), "{error}");
        assert!(error.contains("--password-file") && error.contains(PASSWORD_VARIABLE), "{error}");
        thread.join().expect("it ends");

        let (address, thread) = listener(&["-WRONGPASS invalid username-password pair\r\n"]);
        let error =
            Client::connect(&node(&address, Some(&file))).expect_err("it wants another one").to_string();
        assert!(error.contains("does not take this password") && !error.contains("sesame"), "{error}");
        let seen = thread.join().expect("it ends");
        assert!(seen.contains("AUTH\r\n$7\r\ndefault\r\n$11\r\nopen sesame\r\n"), "{seen}");

        let (address, thread) = listener(&["-ERR AUTH <password> called without any password\r\n", GREETING]);
        Client::connect(&node(&address, Some(&file))).expect("a node without a password needs none");
        assert!(thread.join().expect("it ends").ends_with("*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"));
    }
}
