//! `TIDE.DOC` on real nodes, over real sockets: as JSON, and as bytes of automerge's own format.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use crate::processes::{Node, Options, PROGRAM, eventually};
use tidelock::automerge::transaction::Transactable;
use tidelock::automerge::{Automerge, ROOT};

/// Sends one command whose arguments are bytes; answers the bytes of a bulk reply, or the line of another.
fn command(address: &str, arguments: &[&[u8]]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("the node listens");
    let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        request.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        request.extend_from_slice(argument);
        request.extend_from_slice(b"\r\n");
    }
    stream.write_all(&request).expect("the node reads");
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("the node answers");
    match line.trim_end().strip_prefix('$').map(str::parse::<usize>) {
        Some(Ok(length)) => {
            let mut bytes = vec![0; length];
            reader.read_exact(&mut bytes).expect("the node answers all of it");
            bytes
        }
        _ => line.trim_end().as_bytes().to_vec(),
    }
}

#[test]
fn documents_are_edited_on_two_nodes_and_leave_and_enter_as_bytes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut one = Node::start(PROGRAM, &folder.path().join("one"), Options::default());
    let options = Options { peers: one.listen().to_vec(), ..Options::default() };
    let mut two = Node::start(PROGRAM, &folder.path().join("two"), options);
    assert_eq!(one.command(&["TIDE.DOC", "GET", "list"]), "nil");
    let list = r#"{"title": "List", "items": ["apples"]}"#;
    assert_eq!(one.command(&["TIDE.DOC", "SET", "list", "", list]), "OK");
    assert_eq!(one.command(&["TIDE.DOC", "SET", "list", "/items/-", r#""bread""#]), "OK");
    eventually("the document arrives", || {
        two.command(&["TIDE.DOC", "GET", "list", "/items"]) == r#"["apples","bread"]"#
    });
    assert_eq!(two.command(&["TIDE.DOC", "PATCH", "list", r#"{"title": null, "done": false}"#]), "OK");
    let all = r#"{"done":false,"items":["apples","bread"]}"#;
    eventually("the patch arrives", || one.command(&["TIDE.DOC", "GET", "list"]) == all);
    assert_eq!(one.command(&["TIDE.DOC", "HEADS", "list"]), two.command(&["TIDE.DOC", "HEADS", "list"]));
    assert_eq!(one.command(&["TYPE", "list"]), "document");
    assert!(one.command(&["GET", "list"]).starts_with("error: WRONGTYPE"));
    assert_eq!(one.command(&["SET", "text", "v"]), "OK");
    assert!(one.command(&["TIDE.DOC", "GET", "text"]).starts_with("error: WRONGTYPE"));
    assert!(one.command(&["TIDE.DOC", "SET", "text", "/a", "1"]).starts_with("error: WRONGTYPE"));
    assert!(one.command(&["TIDE.DOC", "SET", "list", "/no/where", "1"]).contains("step 0 of the path"));

    // Another program takes the document, changes it, and gives it back.
    let saved = command(one.redis(), &[b"TIDE.DOC", b"SAVE", b"list"]);
    let mut elsewhere = Automerge::load(&saved).expect("automerge's own format");
    let mut edit = elsewhere.transaction();
    edit.put(ROOT, "from", "elsewhere").expect("an edit");
    edit.commit();
    assert_eq!(command(two.redis(), &[b"TIDE.DOC", b"LOAD", b"list", &elsewhere.save()]), b"+OK");
    let refused = command(two.redis(), &[b"TIDE.DOC", b"LOAD", b"list", &saved[..saved.len() / 2]]);
    assert!(refused.starts_with(b"-ERR not a document"), "{}", String::from_utf8_lossy(&refused));
    let all = r#"{"done":false,"from":"elsewhere","items":["apples","bread"]}"#;
    eventually("the file's change arrives", || one.command(&["TIDE.DOC", "GET", "list"]) == all);

    // What was acknowledged is there after a crash.
    two.kill_and_restart();
    assert_eq!(two.command(&["TIDE.DOC", "GET", "list"]), all);
    assert_eq!(two.command(&["DEL", "list"]), "1");
    eventually("the delete arrives", || one.command(&["TIDE.DOC", "GET", "list"]) == "nil");
    assert_eq!(one.command(&["EXISTS", "list"]), "0");
}
