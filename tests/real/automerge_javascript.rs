//! automerge in JavaScript and ours edit one document, exchanged as files, and end equal.
//!
//! The package is one of those that `.ci/clients` installs; where it is missing, the test is skipped with a message.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::processes::{Language, output};

use serde_json::{Value, json};
use tidelock::{Document, Node, NodeConfig};

const PACKAGE: &str = "@automerge/automerge";

/// What the JavaScript side does: `edit in out`, then prints what it sees; or `show in`.
const SCRIPT: &str = r#"
const fs = require("node:fs");
const automerge = require("@automerge/automerge");

const [verb, from, to] = process.argv.slice(1);
let document = automerge.load(fs.readFileSync(from));
if (verb === "edit") {
  document = automerge.change(document, (it) => {
    automerge.splice(it, ["title"], it.title.length, 0, ", and Bob");
    it.items.push({ name: "pears", count: 3 });
    it.items[0].count = 7;
    it.from = "JavaScript";
  });
  fs.writeFileSync(to, automerge.save(document));
}
console.log(JSON.stringify({ document, heads: automerge.getHeads(document).sort() }));
"#;

/// What JavaScript sees of a file, after an edit if it is asked for one; `None` where it cannot be asked.
fn peer(arguments: &[&str]) -> Option<Value> {
    let mut node = Language::JavaScript.with(PACKAGE)?;
    let output = output(node.args(["-e", SCRIPT, "--"]).args(arguments).stdin(Stdio::null()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).expect("the script prints JSON"))
}

async fn saved(document: &Document<'_>, file: &Path) {
    let bytes = document.save().await.expect("it can be read").expect("it is there");
    fs::write(file, bytes).expect("the folder is ours");
}

async fn heads(document: &Document<'_>) -> Vec<String> {
    let mut heads: Vec<String> =
        document.heads().await.expect("it can be read").iter().map(ToString::to_string).collect();
    heads.sort();
    heads
}

#[tokio::test]
async fn javascript_and_ours_edit_one_document_and_end_equal() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = NodeConfig { listen: Vec::new(), ..NodeConfig::at(folder.path().join("node")) };
    let node = Node::open(config).await.expect("a node opens");
    let notes = node.keyspace("notes").expect("a name");
    let list = notes.document("list");
    let value = json!({"title": "From Alice", "items": [{"name": "apples", "count": 6}]});
    list.set_json("", value).await.expect("an object");
    let (ours, theirs, both) =
        (folder.path().join("ours"), folder.path().join("theirs"), folder.path().join("both"));
    saved(&list, &ours).await;

    // Both edit what they have, text and list at the same places.
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let Some(edited) = peer(&["edit", &text(&ours), &text(&theirs)]) else { return };
    assert_eq!(edited["document"]["title"], json!("From Alice, and Bob"));
    list.set_json("/title", json!("A list from Alice")).await.expect("a text");
    list.set_json("/items/-", json!({"name": "bread", "count": 1})).await.expect("a list");

    list.merged(fs::read(&theirs).expect("JavaScript wrote it")).await.expect("it is a document");
    saved(&list, &both).await;
    let seen = peer(&["show", &text(&both)]).expect("it was there a moment ago");
    let shown = list.json("").await.expect("it can be read").expect("it is there");
    assert_eq!(seen["document"], shown);
    assert_eq!(seen["heads"], json!(heads(&list).await));
    assert_eq!(shown["title"], json!("A list from Alice, and Bob"));
    assert_eq!((&shown["from"], &shown["items"][0]["count"]), (&json!("JavaScript"), &json!(7)));
    assert_eq!(shown["items"].as_array().map(Vec::len), Some(3));
    node.shutdown().await;
}
