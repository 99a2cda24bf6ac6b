//! `import`: the lines of an export, written to a keyspace as ordinary operations, in bounded batches.
//!
//! Doing it again changes nothing more: registers are set, elements, fields and scores are written, and a counter is counted
//! up or down by what is missing to the number of the export. That number is read just before; of two imports at
//! the same time on two nodes each counts what it misses, as everybody else does who counts.
//! Nothing is removed: elements, fields and keys that the export does not name stay.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use serde_json::{Value as Json, json};

use super::client::{Client, ClientError};
use super::client_args::NodeArgs;
use super::commands::print;
use super::progress::ProgressLine;
use super::value::Value;
use crate::export::{EXPORT_VERSION, LINE_BYTES_MAX, from_json};

/// The lines of a batch at most.
const BATCH_LINES: usize = 256;

/// The bytes of a batch, unless one line is longer.
const BATCH_BYTES: usize = 1 << 20;

/// One line.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Start,
    Write(Vec<Vec<u8>>),
    Count { key: Vec<u8>, count: i128 },
    End { keys: u64, lines: u64, hidden: u64 },
}

/// An import under way.
struct Import {
    client: Client,
    batch: Vec<(u64, Line)>,
    bytes: usize,
    /// The counters in the batch: the same one twice would be counted by what it missed before both.
    counters: BTreeSet<Vec<u8>>,
    /// The lines that were read.
    number: u64,
    done: u64,
    /// The keys of the export.
    keys: u64,
    /// The documents that showed nothing when they were exported.
    hidden: u64,
}

pub(super) fn import(node: &NodeArgs, file: Option<&Path>, out: &mut dyn Write) -> Result<(), ClientError> {
    let open =
        |path: &Path| File::open(path).map_err(|error| refuse(&format!("{}: {error}", path.display())));
    let mut input: Box<dyn BufRead> = match file {
        Some(path) => Box::new(BufReader::new(open(path)?)),
        None => Box::new(BufReader::new(io::stdin().lock())),
    };
    let mut import = Import::new(Client::connect(node)?);
    let lines = import.run(&mut input)?;
    if input.fill_buf().is_ok_and(|rest| !rest.is_empty()) {
        return Err(import.stopped(import.number + 1, "something follows the last line"));
    }
    let keyspace = node.keyspace.as_deref().unwrap_or_default();
    if node.json {
        let imported = json!({ "keyspace": keyspace, "lines": lines, "hidden": import.hidden });
        return print(out, &format!("{imported}\n"));
    }
    let hidden = match import.hidden {
        0 => String::new(),
        count => format!("; {count} documents are not in it, which waited for changes when it was made"),
    };
    print(out, &format!("{lines} lines imported into {keyspace}{hidden}\n"))
}

/// Writes the next of several exports; answers how many keys it has.
pub(super) fn import_next(client: Client, input: &mut dyn BufRead) -> Result<u64, ClientError> {
    let mut import = Import::new(client);
    import.run(input)?;
    Ok(import.keys)
}

/// Passes over the next of several exports.
pub(super) fn pass_over_next(input: &mut dyn BufRead) -> Result<(), ClientError> {
    let mut text = Vec::new();
    loop {
        text.clear();
        let read = input.take(LINE_BYTES_MAX).read_until(b'\n', &mut text);
        if read.map_err(|error| refuse(&error.to_string()))? == 0 {
            return Err(refuse("the export was cut off"));
        }
        if matches!(parse(&text).map_err(|reason| refuse(&reason))?, Line::End { .. }) {
            return Ok(());
        }
    }
}

impl Import {
    fn new(client: Client) -> Self {
        let (batch, counters) = (Vec::new(), BTreeSet::new());
        Self { client, batch, bytes: 0, counters, number: 0, done: 0, keys: 0, hidden: 0 }
    }

    /// Takes in all lines up to the last one; answers how many were written.
    fn run(&mut self, input: &mut dyn BufRead) -> Result<u64, ClientError> {
        let mut progress = ProgressLine::default();
        let mut is_over = false;
        let mut text = Vec::new();
        while !is_over {
            text.clear();
            let read = input.take(LINE_BYTES_MAX).read_until(b'\n', &mut text);
            if read.map_err(|error| self.stopped(self.number + 1, &error.to_string()))? == 0 {
                break;
            }
            self.number += 1;
            let number = self.number;
            let line = parse(&text).and_then(|line| match line {
                Line::Start if number > 1 => Err("a second beginning".to_owned()),
                line if number == 1 && line != Line::Start => {
                    Err("an export begins with another line".to_owned())
                }
                Line::End { lines, .. } if lines + 1 != number => {
                    Err(format!("there were {lines} lines before it once, and now there are {}", number - 1))
                }
                line => Ok(line),
            });
            match line {
                Ok(Line::Start) => {}
                Ok(Line::End { keys, hidden, .. }) => {
                    (is_over, self.keys, self.hidden) = (true, keys, hidden);
                }
                Ok(line) => self.take(number, line, text.len())?,
                Err(reason) => {
                    self.flush()?;
                    return Err(self.stopped(number, &reason));
                }
            }
            progress.show(|| format!("line {number}"));
        }
        self.flush()?;
        if is_over {
            Ok(self.done)
        } else {
            Err(self.stopped(self.number, "the export was cut off behind it"))
        }
    }

    fn take(&mut self, number: u64, line: Line, bytes: usize) -> Result<(), ClientError> {
        let is_full = self.batch.len() >= BATCH_LINES || self.bytes + bytes > BATCH_BYTES;
        let is_again = matches!(&line, Line::Count { key, .. } if self.counters.contains(key));
        if is_full || is_again {
            self.flush()?;
        }
        if let Line::Count { key, .. } = &line {
            self.counters.insert(key.clone());
        }
        self.bytes += bytes;
        self.batch.push((number, line));
        Ok(())
    }

    /// Writes the batch: all its commands are given before the first answer is read.
    fn flush(&mut self) -> Result<(), ClientError> {
        let batch = std::mem::take(&mut self.batch);
        (self.bytes, self.counters) = (0, BTreeSet::new());
        let mut here = self.counts(&batch)?.into_iter();
        let mut sent = Vec::new();
        for (number, line) in batch {
            match line {
                Line::Write(command) => {
                    self.client.send(&command)?;
                    sent.push(number);
                }
                Line::Count { key, count } => {
                    let (exists, now) = here.next().expect("each counter was read");
                    let by = count.checked_sub(now).and_then(|by| i64::try_from(by).ok());
                    let Some(by) = by else {
                        self.answers(&sent)?;
                        return Err(self.stopped(number, "the counter would leave the range of 64 bits"));
                    };
                    if by == 0 && exists {
                        self.done += 1;
                        continue;
                    }
                    self.client.send(&[b"INCRBY".to_vec(), key, by.to_string().into_bytes()])?;
                    sent.push(number);
                }
                Line::Start | Line::End { .. } => unreachable!("they are not written"),
            }
        }
        self.answers(&sent)
    }

    /// What the counters of a batch are now, and whether they exist.
    fn counts(&mut self, batch: &[(u64, Line)]) -> Result<Vec<(bool, i128)>, ClientError> {
        let counters = batch.iter().filter_map(|(number, line)| match line {
            Line::Count { key, .. } => Some((*number, key)),
            _ => None,
        });
        let counters: Vec<(u64, &Vec<u8>)> = counters.collect();
        for (_, key) in &counters {
            self.client.send(&[&b"GET"[..], key])?;
        }
        let mut counts = Vec::new();
        let mut refused = None;
        for (number, _) in &counters {
            match self.client.next() {
                Ok(Value::Null) => counts.push((false, 0)),
                Ok(Value::Bytes(text)) => match str::from_utf8(&text).ok().and_then(|text| text.parse().ok())
                {
                    Some(count) => counts.push((true, count)),
                    None => drop(refused.get_or_insert((*number, "the key holds no number here".to_owned()))),
                },
                Ok(_) => return Err(ClientError::NotANode),
                Err(ClientError::Refused(reason)) => drop(refused.get_or_insert((*number, reason))),
                Err(error) => return Err(error),
            }
        }
        match refused {
            // Nothing of the batch was written; the lines before it are imported when this is done again.
            Some((number, reason)) => Err(self.stopped(number, &reason)),
            None => Ok(counts),
        }
    }

    fn answers(&mut self, sent: &[u64]) -> Result<(), ClientError> {
        let mut refused = None;
        for number in sent {
            match self.client.next() {
                Ok(_) => self.done += 1,
                Err(ClientError::Refused(reason)) => drop(refused.get_or_insert((*number, reason))),
                Err(error) => return Err(error),
            }
        }
        refused.map_or(Ok(()), |(number, reason)| Err(self.stopped(number, &reason)))
    }

    fn stopped(&self, number: u64, reason: &str) -> ClientError {
        refuse(&format!(
            "line {number}: {reason}; {} lines were imported, and importing them again changes nothing",
            self.done
        ))
    }
}

fn refuse(text: &str) -> ClientError {
    ClientError::Import(text.to_owned())
}

/// What a line says.
fn parse(text: &[u8]) -> Result<Line, String> {
    if text.last() != Some(&b'\n') {
        return Err("it is cut off, or too long".to_owned());
    }
    let json: Json = serde_json::from_slice(text).map_err(|error| format!("it is not JSON: {error}"))?;
    if json["tidelock"] == "export" {
        let version = &json["version"];
        let is_known = version.as_u64() == Some(EXPORT_VERSION);
        return if is_known { Ok(Line::Start) } else { Err(format!("an export of version {version}")) };
    }
    if json["end"] == true {
        let lines = json["lines"].as_u64().ok_or("the last line does not count the others")?;
        let [keys, hidden] = ["keys", "hidden"].map(|name| json[name].as_u64().unwrap_or_default());
        return Ok(Line::End { keys, lines, hidden });
    }
    let bytes = |json: &Json, what: &str| {
        from_json(json).ok_or(format!("{what} is neither text nor {{\"hex\": ..}}"))
    };
    let key = bytes(&json["key"], "its key")?;
    let list = |name: &str| json[name].as_array().ok_or(format!("it has no {name}"));
    let command = match json["kind"].as_str() {
        Some("register") => vec![b"SET".to_vec(), key, bytes(&json["value"], "its value")?],
        Some("set") => {
            let elements = list("elements")?.iter().map(|element| bytes(element, "an element"));
            let elements: Vec<Vec<u8>> = elements.collect::<Result<_, _>>()?;
            [vec![b"SADD".to_vec(), key], elements].concat()
        }
        Some("map") => {
            let mut command = vec![b"HSET".to_vec(), key];
            for pair in list("fields")? {
                let Some([field, value]) = pair.as_array().map(Vec::as_slice) else {
                    return Err("a field is not a pair".to_owned());
                };
                command.extend([bytes(field, "a field")?, bytes(value, "a value")?]);
            }
            command
        }
        Some("sorted") => {
            let mut command = vec![b"ZADD".to_vec(), key];
            for pair in list("members")? {
                let Some([member, Json::String(score)]) = pair.as_array().map(Vec::as_slice) else {
                    return Err("a member is not a pair with a score in text".to_owned());
                };
                command.extend([score.clone().into_bytes(), bytes(member, "a member")?]);
            }
            command
        }
        Some("document") => {
            let saved = bytes(&json["saved"], "its document")?;
            vec![b"TIDE.DOC".to_vec(), b"LOAD".to_vec(), key, saved]
        }
        Some("deadline") => {
            let unix_ms = json["unix_ms"].as_u64().ok_or("its deadline is no number")?;
            vec![b"PEXPIREAT".to_vec(), key, unix_ms.to_string().into_bytes()]
        }
        Some("counter") => {
            let count =
                json["count"].as_str().and_then(|text| text.parse().ok()).ok_or("its count is no number")?;
            return Ok(Line::Count { key, count });
        }
        Some(kind) => return Err(format!("the kind {kind:?} is not known to this tidelock")),
        None => return Err("it has no kind".to_owned()),
    };
    if command.len() < 3 { Err("it holds nothing".to_owned()) } else { Ok(Line::Write(command)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<Line, String> {
        parse(format!("{text}\n").as_bytes())
    }

    #[test]
    fn lines_become_commands() {
        let command = |words: &[&[u8]]| Ok(Line::Write(words.iter().map(|word| word.to_vec()).collect()));
        let register = line(r#"{"key":"k","kind":"register","value":{"hex":"ff00"}}"#);
        assert_eq!(register, command(&[b"SET", b"k", b"\xff\x00"]));
        let set = line(r#"{"key":{"hex":"fe"},"kind":"set","elements":["a",{"hex":"80"}]}"#);
        assert_eq!(set, command(&[b"SADD", b"\xfe", b"a", b"\x80"]));
        let map = line(r#"{"key":"k","kind":"map","fields":[["f","v"],["",""]]}"#);
        assert_eq!(map, command(&[b"HSET", b"k", b"f", b"v", b"", b""]));
        let sorted = line(r#"{"key":"k","kind":"sorted","members":[["m","-1.5"],[{"hex":"ff"},"inf"]]}"#);
        assert_eq!(sorted, command(&[b"ZADD", b"k", b"-1.5", b"m", b"inf", b"\xff"]));
        let counter = line(r#"{"key":"k","kind":"counter","count":"-170000000000000000000"}"#);
        assert_eq!(counter, Ok(Line::Count { key: b"k".to_vec(), count: -170_000_000_000_000_000_000 }));
        let deadline = line(r#"{"key":"k","kind":"deadline","unix_ms":9000000000000}"#);
        assert_eq!(deadline, command(&[b"PEXPIREAT", b"k", b"9000000000000"]));
        assert_eq!(
            line(r#"{"end":true,"keys":1,"lines":3}"#),
            Ok(Line::End { keys: 1, lines: 3, hidden: 0 })
        );
        let hidden = line(r#"{"end":true,"keys":1,"lines":3,"hidden":2}"#);
        assert_eq!(hidden, Ok(Line::End { keys: 1, lines: 3, hidden: 2 }));
    }

    #[test]
    fn lines_that_make_no_sense_are_refused() {
        let wrong = [
            "",
            "{}",
            "7",
            r#"{"key":"k"}"#,
            r#"{"key":"k","kind":"list"}"#,
            r#"{"key":7,"kind":"register","value":"v"}"#,
            r#"{"key":"k","kind":"register"}"#,
            r#"{"key":"k","kind":"set","elements":[]}"#,
            r#"{"key":"k","kind":"map","fields":[["f"]]}"#,
            r#"{"key":"k","kind":"sorted","members":[["m",1]]}"#,
            r#"{"key":"k","kind":"counter","count":"many"}"#,
            r#"{"key":"k","kind":"deadline","unix_ms":-1}"#,
            r#"{"tidelock":"export","version":2}"#,
            r#"{"end":true}"#,
        ];
        for text in wrong {
            assert!(line(text).is_err(), "{text}");
        }
        assert!(parse(b"{}").is_err(), "without its end a line may be cut off");
    }
}
