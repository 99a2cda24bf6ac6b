//! The least of a Redis client: commands, one by one or together, and their replies as text.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::node::DEADLINE;

/// A connection to a Redis port.
#[derive(Debug)]
pub(crate) struct Client {
    connection: BufReader<TcpStream>,
}

impl Client {
    /// Connects to a node that is running.
    pub(crate) fn connect(address: &str) -> Self {
        Self::open(address, DEADLINE).expect("the node listens")
    }

    /// Connects to a node that may be gone. A reply must come within `patience`.
    ///
    /// # Errors
    /// Nobody listens.
    pub(crate) fn open(address: &str, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Self { connection: BufReader::new(stream) })
    }

    /// Sends one command and answers the reply: a list is its items between brackets.
    ///
    /// # Errors
    /// The node went away.
    pub(crate) fn command(&mut self, arguments: &[&str]) -> io::Result<String> {
        self.send([arguments])?;
        self.read_next()
    }

    /// Sends commands together. Each is answered by one [`Client::read_next`], in their order.
    ///
    /// # Errors
    /// The node went away, and may have got some of them.
    pub(crate) fn send<C, A>(&mut self, commands: C) -> io::Result<()>
    where
        C: IntoIterator,
        C::Item: AsRef<[A]>,
        A: AsRef<str>,
    {
        let mut request = Vec::new();
        for command in commands {
            write!(request, "*{}\r\n", command.as_ref().len())?;
            for argument in command.as_ref() {
                let argument = argument.as_ref();
                write!(request, "${}\r\n{argument}\r\n", argument.len())?;
            }
        }
        self.connection.get_mut().write_all(&request)
    }

    /// Reads what the node sends next, such as an event of a watch.
    ///
    /// # Errors
    /// The node went away.
    pub(crate) fn read_next(&mut self) -> io::Result<String> {
        reply(&mut self.connection)
    }
}

fn reply(connection: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    connection.read_line(&mut line)?;
    // The last reply of a node that is killed may be torn.
    if !line.ends_with('\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let line = line.trim_end();
    let (kind, rest) = line.split_at(1);
    match kind {
        "$" | "*" if rest == "-1" => Ok("nil".to_owned()),
        "$" => {
            let length: usize = rest.parse().expect("a length");
            let mut bytes = vec![0; length + 2];
            connection.read_exact(&mut bytes)?;
            bytes.truncate(length);
            Ok(String::from_utf8(bytes).expect("the tests write text"))
        }
        "*" => {
            let count: usize = rest.parse().expect("a length");
            let items: Vec<String> = (0..count).map(|_| reply(connection)).collect::<Result<_, _>>()?;
            Ok(format!("[{}]", items.join(" ")))
        }
        "-" => Ok(format!("error: {rest}")),
        _ => Ok(rest.to_owned()),
    }
}
