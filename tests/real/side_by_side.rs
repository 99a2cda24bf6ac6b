//! The same commands to redis-server and to tidelock: the same replies, byte for byte, in both protocols.
//!
//! The commands are in tables, one file for each family, in `tests/real/side_by_side`. A line is a command as one types
//! it; both begin empty. A word before it says how the replies are compared:
//!
//! | word | compared |
//! |---|---|
//! | none | every byte |
//! | `any-order` | lists, sets and pairs as if they had no order |
//! | `shape` | only what kinds of things come, and how many, as of random ones |
//! | `pushed` | every byte, with what is pushed behind the reply |
//! | `error` | both refuse, by the same first word: the sentences differ, and docs/redis.md may say why |
//!
//! Without a redis-server on the machine it says so and compares nothing.

#[path = "side_by_side/reply.rs"]
mod reply;

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use crate::processes::{DEADLINE, Node, Options, PROGRAM, RedisServer};
use reply::Reply;

/// How two replies are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Exact,
    AnyOrder,
    Shape,
    Pushed,
    Error,
}

/// A connection to either.
struct Link<S> {
    stream: BufReader<S>,
}

impl<S: Read + Write> Link<S> {
    fn ask(&mut self, words: &[Vec<u8>]) -> Reply {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend(format!("${}\r\n", word.len()).into_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&bytes).expect("it reads");
        Reply::read(&mut self.stream)
    }

    /// The reply, and what comes before that of the next command.
    fn ask_and_hear(&mut self, words: &[Vec<u8>]) -> Reply {
        let mut heard = vec![self.ask(words), self.ask(&[b"PING".to_vec()])];
        while let Some(Reply::List('>', _)) = heard.last() {
            heard.push(Reply::read(&mut self.stream));
        }
        Reply::List('*', heard)
    }
}

/// How it is compared, and the words of the command.
fn parse(line: &str) -> (Comparison, Vec<Vec<u8>>) {
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    match first {
        "any-order" => (Comparison::AnyOrder, words(rest)),
        "shape" => (Comparison::Shape, words(rest)),
        "pushed" => (Comparison::Pushed, words(rest)),
        "error" => (Comparison::Error, words(rest)),
        _ => (Comparison::Exact, words(line)),
    }
}

/// Words between spaces; one in double quotes may hold spaces and `\xHH`, or nothing.
fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').expect("a quote that is closed"),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(unescape(word));
        rest = behind.trim_start();
    }
    words
}

fn unescape(word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut parts = word.split("\\x");
    bytes.extend(parts.next().unwrap_or_default().bytes());
    for part in parts {
        let (digits, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).expect("two digits"));
        bytes.extend(rest.bytes());
    }
    bytes
}

/// What differs, line by line.
fn differences<R: Read + Write, T: Read + Write>(
    redis: &mut Link<R>,
    tidelock: &mut Link<T>,
    table: &str,
) -> Vec<String> {
    let mut differences = Vec::new();
    for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (comparison, words) = parse(line);
        let (expected, found) = match comparison {
            Comparison::Pushed => (redis.ask_and_hear(&words), tidelock.ask_and_hear(&words)),
            _ => (redis.ask(&words), tidelock.ask(&words)),
        };
        let is_same = match comparison {
            Comparison::Exact | Comparison::Pushed => expected == found,
            Comparison::AnyOrder => expected.sorted() == found.sorted(),
            Comparison::Shape => expected.shape() == found.shape(),
            Comparison::Error => {
                expected.error_word().is_some() && expected.error_word() == found.error_word()
            }
        };
        if !is_same {
            differences.push(format!("{line}\n  redis-server: {expected}\n  tidelock:     {found}"));
        }
    }
    differences
}

#[test]
fn replies_are_those_of_redis_server() {
    compare(Options::default(), |_| ());
}

/// The keyspaces of the tables are strong, on a node that is the only anchor of its cluster.
#[test]
fn replies_of_strong_keyspaces_are_those_of_redis_server() {
    let options = Options { arguments: vec!["--found".to_owned()], ..Options::default() };
    compare(options, |tidelock| {
        for keyspace in ["default", "db1", "db3"] {
            let reply = tidelock.ask(&words(&format!("TIDE.MODE {keyspace} STRONG")));
            assert_eq!(reply.to_string(), "+OK", "{keyspace}");
        }
    });
}

/// Gives the commands of all tables to redis-server and to a node that was prepared so.
fn compare(options: Options, prepare: impl Fn(&mut Link<TcpStream>)) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(server) = RedisServer::start(folder.path()) else {
        eprintln!("skipped: there is no redis-server on this machine");
        return;
    };
    let node = Node::start(PROGRAM, &folder.path().join("node"), options);
    prepare(&mut link(&node));
    let tables = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/side_by_side");
    let (mut differing, mut compared) = (Vec::new(), 0);
    let files = std::fs::read_dir(tables).expect("the tables are there");
    let mut files: Vec<_> = files.map(|file| file.expect("it can be read").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    for path in &files {
        let table = std::fs::read_to_string(path).expect("it can be read");
        for version in ["2", "3"] {
            let stream = server.connect();
            stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
            let mut redis = Link { stream: BufReader::new(stream) };
            let mut tidelock = link(&node);
            for line in [format!("HELLO {version}"), "FLUSHALL".to_owned()] {
                redis.ask(&words(&line));
                tidelock.ask(&words(&line));
            }
            let name = path.file_stem().unwrap_or_default().display();
            let found = differences(&mut redis, &mut tidelock, &table);
            differing.extend(found.iter().map(|difference| format!("{name}, RESP{version}: {difference}")));
            compared += table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
        }
    }
    assert!(differing.is_empty(), "{} of {compared}:\n{}", differing.len(), differing.join("\n"));
    assert!(compared > 500, "only {compared} commands were compared");
}

fn link(node: &Node) -> Link<TcpStream> {
    let stream = TcpStream::connect(node.redis()).expect("the node listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    Link { stream: BufReader::new(stream) }
}
