//! `tidelock subscribe`: prints messages as the node pushes them.

use std::ffi::OsString;
use std::io::Write;

use serde_json::{Value as Json, json};

use super::client::{Client, ClientError};
use super::client_args::NodeArgs;
use super::commands::print;
use super::json;
use super::text::cell;
use super::value::Value;

/// Prints one line per message until the connection ends, which is an error: somebody waits for messages.
pub(super) fn subscribe(
    channels: &[OsString],
    are_patterns: bool,
    node: &NodeArgs,
    out: &mut dyn Write,
) -> Result<(), ClientError> {
    let mut client = Client::connect(node)?;
    let command: &[u8] = if are_patterns { b"PSUBSCRIBE" } else { b"SUBSCRIBE" };
    let names = channels.iter().map(|channel| channel.as_encoded_bytes());
    let arguments: Vec<&[u8]> = std::iter::once(command).chain(names).collect();
    client.send(&arguments)?;
    // Each is confirmed.
    for _ in channels {
        client.next()?;
    }
    client.wait_forever()?;
    loop {
        let message = client.next()?;
        let line = if node.json { as_json(&message).to_string() } else { as_text(&message) };
        print(out, &(line + "\n"))?;
    }
}

/// As `channel  message`.
fn as_text(pushed: &Value) -> String {
    match pushed.items() {
        [_, channel, message] | [_, _, channel, message] => format!("{}  {}", cell(channel), cell(message)),
        _ => cell(pushed),
    }
}

fn as_json(pushed: &Value) -> Json {
    match pushed.items() {
        [_, channel, message] => json!({ "channel": json::of(channel), "message": json::of(message) }),
        [_, pattern, channel, message] => json!({
            "pattern": json::of(pattern),
            "channel": json::of(channel),
            "message": json::of(message),
        }),
        _ => json::of(pushed),
    }
}
