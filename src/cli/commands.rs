//! The commands that act on a running node: each is one command of its Redis port, or a scan, or a watch.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};

use tidelock_engine::id::{KeyspaceName, ReplicaId};

use super::bench;
use super::client::{Client, ClientError};
use super::client_args::{AnchorCommand, ClientCommand, KeyspaceCommand, NodeArgs};
use super::files;
use super::import;
use super::json;
use super::listening;
use super::text::{self, Style, View};
use super::top;
use super::value::Value;
use super::watching;

/// Keys asked for at a time.
const SCAN_COUNT: &[u8] = b"1000";

/// Executes a command and prints the answer on stdout.
///
/// # Errors
/// [`ClientError`]; its text is for people. That the reader of stdout has gone is none.
pub fn execute(command: &ClientCommand) -> Result<(), ClientError> {
    let stdout = io::stdout();
    let is_coloured =
        stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let style = if is_coloured { Style::COLOURED } else { Style::default() };
    match execute_on(command, style, &mut stdout.lock()) {
        Err(ClientError::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Executes a command and prints the answer.
pub(super) fn execute_on(
    command: &ClientCommand,
    style: Style,
    out: &mut dyn Write,
) -> Result<(), ClientError> {
    match command {
        ClientCommand::Keys { pattern, node } => keys(pattern, node, out),
        ClientCommand::Watch { key, prefix, from, after_revision, node } => {
            let (key, prefix) = (key.as_deref(), prefix.as_deref());
            let range = watching::Range { key, prefix, from: *from, after_revision: *after_revision };
            watching::watch(&range, node, out)
        }
        ClientCommand::Ready(node) => ready(node, out),
        ClientCommand::Subscribe { channels, pattern, node } => {
            listening::subscribe(channels, *pattern, node, out)
        }
        ClientCommand::Backup { dest, node } => files::backup(dest, node, out),
        ClientCommand::Export { name, node } => files::export(&in_keyspace(node, name), out),
        ClientCommand::Import { name, file, node } => {
            import::import(&in_keyspace(node, name), file.as_deref(), out)
        }
        ClientCommand::Keyspace(KeyspaceCommand::Show { name, node }) => show(name, node, style, out),
        ClientCommand::Bench(args) => bench::bench(args, style, out),
        ClientCommand::Top(args) => top::top(args, out),
        _ => {
            let Asked { arguments, view, node } = asked(command);
            let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
            let answer = Client::connect(node)?.call(&arguments)?;
            let text =
                if node.json { json::of(&answer).to_string() + "\n" } else { text::of(&answer, view, style) };
            print(out, &text)
        }
    }
}

pub(super) fn in_keyspace(node: &NodeArgs, name: &KeyspaceName) -> NodeArgs {
    NodeArgs { keyspace: Some(name.to_string()), ..node.clone() }
}

pub(super) fn print(out: &mut dyn Write, text: &str) -> Result<(), ClientError> {
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(ClientError::Print)
}

/// What a node is asked, and how its answer is shown.
struct Asked<'a> {
    arguments: Vec<Vec<u8>>,
    view: View,
    node: &'a NodeArgs,
}

fn asked(command: &ClientCommand) -> Asked<'_> {
    use ClientCommand as C;
    let one = |name: &str, arguments: &[&OsString]| words(name, arguments.iter().copied());
    let many = |name: &str, key: &OsString, list: &[OsString]| words(name, std::iter::once(key).chain(list));
    let by = |name: &str, key: &OsString, by: i64| one(name, &[key, &by.to_string().into()]);
    let (arguments, view, node) = match command {
        C::Get { key, node } => (one("GET", &[key]), View::Plain, node),
        C::Set { key, value, node } => (one("SET", &[key, value]), View::Plain, node),
        C::Del { keys, node } => (words("DEL", keys), View::Plain, node),
        C::Incr { key, by: count, node } => (by("INCRBY", key, *count), View::Plain, node),
        C::Decr { key, by: count, node } => (by("DECRBY", key, *count), View::Plain, node),
        C::Add { key, elements, node } => (many("SADD", key, elements), View::Plain, node),
        C::Rem { key, elements, node } => (many("SREM", key, elements), View::Plain, node),
        C::Members { key, node } => (one("SMEMBERS", &[key]), View::Lines, node),
        C::Hset { key, pairs, node } => (many("HSET", key, pairs), View::Plain, node),
        C::Hget { key, field, node } => (one("HGET", &[key, field]), View::Plain, node),
        C::Hgetall { key, node } => (one("HGETALL", &[key]), View::Pairs, node),
        C::Call { words, node } => {
            (words.iter().map(|word| word.as_encoded_bytes().to_vec()).collect(), View::Any, node)
        }
        C::Publish { channel, message, node } => (one("PUBLISH", &[channel, message]), View::Plain, node),
        C::Status(node) => (one("TIDE.STATUS", &[]), View::Status, node),
        C::Peers(node) => (one("TIDE.PEERS", &[]), View::Peers, node),
        C::Keyspaces(node) => (one("TIDE.KEYSPACES", &[]), View::Keyspaces, node),
        C::Fingerprint(node) => (one("TIDE.FINGERPRINT", &[]), View::Plain, node),
        C::Conflicts { key, node } => (one("TIDE.CONFLICTS", &[key]), View::Rows, node),
        C::Entry { key, node } => (one("TIDE.ENTRY", &[key]), View::Entry, node),
        C::Offline(node) => (one("TIDE.NETWORK", &[&"OFFLINE".into()]), View::Plain, node),
        C::Online(node) => (one("TIDE.NETWORK", &[&"ONLINE".into()]), View::Plain, node),
        C::Connect { address, wait: 0, node } => (one("TIDE.CONNECT", &[&address.into()]), View::Plain, node),
        C::Connect { address, wait, node } => {
            let milliseconds = u32::from(*wait) * 1_000;
            let words = one("TIDE.CONNECT", &[&address.into(), &milliseconds.to_string().into()]);
            (words, View::Connected, node)
        }
        C::Outbox { name, count, node } => {
            let words = ["TIDE.OUTBOX", name.as_str(), "COUNT", &count.to_string()];
            (words.map(|word| word.as_bytes().to_vec()).to_vec(), View::Outbox, node)
        }
        C::Outcome { name, id, is_final, node } => {
            let mut words = one("TIDE.OUTCOME", &[&name.as_str().into(), &id.into()]);
            words.extend(is_final.then(|| b"FINAL".to_vec()));
            (words, View::Lines, node)
        }
        C::Anchor(command) => anchor(command),
        C::Keyspace(command) => keyspace(command),
        C::Replicas(node) => (one("TIDE.REPLICAS", &[]), View::Replicas, node),
        C::Retire { replica, force, node } => (retire(*replica, *force, node), View::Plain, node),
        C::Rejoin(node) => (one("TIDE.REJOIN", &[]), View::Plain, node),
        C::Keys { .. }
        | C::Ready(_)
        | C::Watch { .. }
        | C::Subscribe { .. }
        | C::Backup { .. }
        | C::Export { .. }
        | C::Import { .. }
        | C::Bench(_)
        | C::Top(_) => {
            unreachable!("they are not one command of the port")
        }
    };
    Asked { arguments, view, node }
}

/// Succeeds if the node is ready, so that an orchestrator can ask by the status alone.
fn ready(node: &NodeArgs, out: &mut dyn Write) -> Result<(), ClientError> {
    let status = Client::connect(node)?.call(&[b"TIDE.STATUS"])?;
    let Value::List(reasons) = status.field("not_ready") else { return Err(ClientError::NotANode) };
    let reasons: Vec<String> = reasons.iter().map(text::cell).collect();
    if node.json {
        let answer = serde_json::json!({ "ready": reasons.is_empty(), "reasons": reasons });
        print(out, &format!("{answer}\n"))?;
    } else if reasons.is_empty() {
        print(out, "ready\n")?;
    }
    if reasons.is_empty() { Ok(()) } else { Err(ClientError::NotReady(reasons.join("; "))) }
}

/// Prints what the node says of one of its keyspaces.
fn show(name: &KeyspaceName, node: &NodeArgs, style: Style, out: &mut dyn Write) -> Result<(), ClientError> {
    let keyspaces = Client::connect(node)?.call(&[b"TIDE.KEYSPACES"])?;
    let is_it = |keyspace: &&Value| *keyspace.field("name") == Value::Bytes(name.as_str().into());
    let found = keyspaces.items().iter().find(is_it);
    let found = found.ok_or_else(|| ClientError::Refused(format!("the node has no keyspace {name}")))?;
    let text =
        if node.json { json::of(found).to_string() + "\n" } else { text::of(found, View::Pairs, style) };
    print(out, &text)
}

fn anchor(command: &AnchorCommand) -> (Vec<Vec<u8>>, View, &NodeArgs) {
    let words = |word: &str, rest: &[String]| {
        let words = ["TIDE.ANCHOR", word].into_iter().chain(rest.iter().map(String::as_str));
        words.map(|word| word.as_bytes().to_vec()).collect()
    };
    match command {
        AnchorCommand::Ls(node) => (words("LIST", &[]), View::Anchors, node),
        AnchorCommand::Add { peer, node } => (words("ADD", &[peer.to_string()]), View::Plain, node),
        AnchorCommand::Remove { anchors, node } => {
            let anchors: Vec<String> = anchors.iter().map(u64::to_string).collect();
            (words("REMOVE", &anchors), View::Plain, node)
        }
        AnchorCommand::Transfer { anchor, node } => {
            (words("TRANSFER", &[anchor.to_string()]), View::Plain, node)
        }
    }
}

fn keyspace(command: &KeyspaceCommand) -> (Vec<Vec<u8>>, View, &NodeArgs) {
    let (mut words, node) = match command {
        KeyspaceCommand::Ls(node) => return (vec![b"TIDE.KEYSPACES".to_vec()], View::Keyspaces, node),
        KeyspaceCommand::Show { .. } => unreachable!("it is one of those that are listed"),
        KeyspaceCommand::Create { name, mode, node } if mode == "strong" => {
            (vec!["TIDE.MODE", name.as_str(), "STRONG"], node)
        }
        KeyspaceCommand::Create { name, node, .. } | KeyspaceCommand::Join { name, node } => {
            (vec!["TIDE.KEYSPACE", "JOIN", name.as_str()], node)
        }
        KeyspaceCommand::Quota { name, bytes, node } => {
            (vec!["TIDE.KEYSPACE", "QUOTA", name.as_str(), bytes], node)
        }
        KeyspaceCommand::Conditional { name, decided, node } => {
            (vec!["TIDE.KEYSPACE", "CONDITIONAL", name.as_str(), decided], node)
        }
        KeyspaceCommand::Leave { name, node, .. } => (vec!["TIDE.KEYSPACE", "LEAVE", name.as_str()], node),
    };
    if let KeyspaceCommand::Leave { force: true, .. } = command {
        words.push("FORCE");
    }
    (words.into_iter().map(|word| word.as_bytes().to_vec()).collect(), View::Plain, node)
}

fn retire(replica: ReplicaId, is_forced: bool, node: &NodeArgs) -> Vec<Vec<u8>> {
    let mut words = vec![b"TIDE.RETIRE".to_vec(), replica.to_string().into_bytes()];
    if let Some(keyspace) = &node.keyspace {
        words.extend([b"KEYSPACE".to_vec(), keyspace.clone().into_bytes()]);
    }
    words.extend(is_forced.then(|| b"FORCE".to_vec()));
    words
}

fn words<'a>(name: &str, arguments: impl IntoIterator<Item = &'a OsString>) -> Vec<Vec<u8>> {
    let arguments = arguments.into_iter().map(|argument| argument.as_encoded_bytes().to_vec());
    std::iter::once(name.as_bytes().to_vec()).chain(arguments).collect()
}

/// Prints keys as they come, so that any number of them is listed.
fn keys(pattern: &OsString, node: &NodeArgs, out: &mut dyn Write) -> Result<(), ClientError> {
    let mut client = Client::connect(node)?;
    let mut cursor = b"0".to_vec();
    let mut is_first = true;
    loop {
        let pattern = pattern.as_encoded_bytes();
        let answer = client.call(&[b"SCAN", &cursor, b"MATCH", pattern, b"COUNT", SCAN_COUNT])?;
        let [Value::Bytes(next), page] = answer.items() else { return Err(ClientError::NotANode) };
        let mut text = String::new();
        if node.json {
            for key in page.items() {
                text.push(if is_first { '[' } else { ',' });
                text += &json::of(key).to_string();
                is_first = false;
            }
        } else {
            text = text::of(page, View::Lines, Style::default());
        }
        print(out, &text)?;
        if next == b"0" {
            break;
        }
        cursor.clone_from(next);
    }
    match (node.json, is_first) {
        (true, true) => print(out, "[]\n"),
        (true, false) => print(out, "]\n"),
        (false, _) => Ok(()),
    }
}
