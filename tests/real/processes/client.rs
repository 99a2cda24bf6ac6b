//! The least of a Redis client: one command, one reply, as text.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use super::node::DEADLINE;

/// A connection to a Redis port.
#[derive(Debug)]
pub(crate) struct Client {
    connection: BufReader<TcpStream>,
}

impl Client {
    /// Connects to a node that is running.
    pub(crate) fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the node listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("it is a socket");
        stream.set_nodelay(true).expect("it is a socket");
        Self { connection: BufReader::new(stream) }
    }

    /// Sends one command and answers the reply: a list is its items between brackets.
    ///
    /// # Errors
    /// The node went away.
    pub(crate) fn command(&mut self, arguments: &[&str]) -> io::Result<String> {
        let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            write!(request, "${}\r\n{argument}\r\n", argument.len())?;
        }
        self.connection.get_mut().write_all(&request)?;
        self.read_next()
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
    if connection.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let line = line.trim_end();
    let (kind, rest) = line.split_at(1);
    match kind {
        "$" if rest == "-1" => Ok("nil".to_owned()),
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
