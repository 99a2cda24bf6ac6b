//! A reply in either protocol, as it came.

use std::fmt;
use std::io::BufRead;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reply {
    /// A line behind its mark: a status, an error, a number, a boolean, a double, or nothing.
    Line(char, String),
    /// Bytes behind their mark: a bulk or verbatim string.
    Bytes(char, Vec<u8>),
    /// A list behind its mark: an array, a set or a push. A map is its fields and values.
    List(char, Vec<Reply>),
}

impl Reply {
    pub(crate) fn read(stream: &mut impl BufRead) -> Self {
        let mut line = String::new();
        stream.read_line(&mut line).expect("a reply comes in time");
        let line = line.trim_end_matches(['\r', '\n']);
        let mark = line.chars().next().expect("the connection is open");
        let rest = line[1..].to_owned();
        match (mark, rest.parse::<usize>()) {
            ('$' | '=', Ok(length)) => {
                let mut bytes = vec![0; length + 2];
                stream.read_exact(&mut bytes).expect("the reply goes on");
                bytes.truncate(length);
                Self::Bytes(mark, bytes)
            }
            ('*' | '~' | '>' | '%', Ok(length)) => {
                let length = if mark == '%' { length * 2 } else { length };
                Self::List(mark, (0..length).map(|_| Self::read(stream)).collect())
            }
            _ => Self::Line(mark, rest),
        }
    }

    /// The first word, if it is an error.
    pub(crate) fn error_word(&self) -> Option<&str> {
        match self {
            Self::Line('-', text) => text.split(' ').next(),
            _ => None,
        }
    }

    /// The same without an order. Pairs of a map stay together.
    pub(crate) fn sorted(&self) -> Self {
        match self {
            Self::List(mark, list) => {
                let list: Vec<Self> = list.iter().map(Self::sorted).collect();
                let length = if *mark == '%' { 2 } else { 1 };
                let mut parts: Vec<Vec<Self>> = list.chunks(length).map(<[Self]>::to_vec).collect();
                parts.sort();
                Self::List(*mark, parts.concat())
            }
            other => other.clone(),
        }
    }

    /// The same without what is in it.
    pub(crate) fn shape(&self) -> Self {
        match self {
            Self::Line(mark, _) => Self::Line(*mark, String::new()),
            Self::Bytes(mark, _) => Self::Bytes(*mark, Vec::new()),
            Self::List(mark, list) => Self::List(*mark, list.iter().map(Self::shape).collect()),
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(mark, text) => write!(f, "{mark}{text}"),
            Self::Bytes(mark, bytes) => write!(f, "{mark}\"{}\"", bytes.escape_ascii()),
            Self::List(mark, list) => {
                write!(f, "{mark}[")?;
                for (index, item) in list.iter().enumerate() {
                    write!(f, "{}{item}", if index == 0 { "" } else { " " })?;
                }
                write!(f, "]")
            }
        }
    }
}
