//! `compact`: the files of a folder, or those of the node that runs.

use std::io::{self, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tidelock_store::{Compacted, FileDisk};

use super::args::CompactArgs;
use super::client::{Client, ClientError};
use super::client_args::NodeArgs;
use super::commands::print;
use super::json;
use super::progress::{ProgressLine, size};
use super::value::Value;

/// How often a node is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Compacts, and prints what it brought.
///
/// # Errors
/// [`ClientError`]; the files hold all that they held.
pub fn compact(args: &CompactArgs) -> Result<(), ClientError> {
    let mut out = io::stdout().lock();
    match &args.dir {
        None => compact_node(&args.node, &mut out),
        Some(dir) if !dir.is_dir() => {
            Err(ClientError::Compact(format!("{} is not a directory", dir.display())))
        }
        Some(dir) => {
            let mut line = ProgressLine::default();
            let files = tidelock_store::compact(&FileDisk::at(dir), &mut |at| line.show(|| at.to_string()));
            drop(line);
            let files = files.map_err(|error| ClientError::Compact(error.to_string()))?;
            if args.node.json {
                return print(&mut out, &format!("{}\n", files.iter().map(as_json).collect::<Json>()));
            }
            files.iter().try_for_each(|file| {
                let Compacted { file, before_bytes, after_bytes } = *file;
                print(&mut out, &describe(file, before_bytes, after_bytes))
            })
        }
    }
}

/// One connection waits until it is done, another one asks how far it is.
pub(super) fn compact_node(node: &NodeArgs, out: &mut dyn Write) -> Result<(), ClientError> {
    let (mut waiting, mut asking) = (Client::connect(node)?, Client::connect(node)?);
    waiting.wait_forever()?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // Nobody listens any more only when the command ends for another reason.
        let _ = sender.send(waiting.call(&[b"TIDE.COMPACT"]));
    });
    let mut line = ProgressLine::default();
    let answer = loop {
        match receiver.recv_timeout(ASK_EVERY) {
            Ok(answer) => break answer?,
            Err(RecvTimeoutError::Timeout) => {
                if let Value::Bytes(text) = asking.call(&[b"TIDE.COMPACT", b"PROGRESS"])? {
                    line.show(|| String::from_utf8_lossy(&text).into_owned());
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Err(ClientError::NotANode),
        }
    };
    drop(line);
    if node.json {
        return print(out, &(json::of(&answer).to_string() + "\n"));
    }
    answer.items().iter().try_for_each(|file| {
        let bytes = |name| {
            let bytes = file.field(name).integer().and_then(|bytes| u64::try_from(bytes).ok());
            bytes.ok_or(ClientError::NotANode)
        };
        let Value::Bytes(name) = file.field("file") else { return Err(ClientError::NotANode) };
        let name = String::from_utf8_lossy(name);
        print(out, &describe(&name, bytes("before_bytes")?, bytes("after_bytes")?))
    })
}

/// In the fields of `TIDE.COMPACT`.
fn as_json(file: &Compacted) -> Json {
    json!({ "file": file.file, "before_bytes": file.before_bytes, "after_bytes": file.after_bytes })
}

fn describe(file: &str, before_bytes: u64, after_bytes: u64) -> String {
    format!("{file}: {} before, {} now\n", size(before_bytes), size(after_bytes))
}
