//! automerge in JavaScript and ours edit one document, exchanged as files, and end equal.
//!
//! The package is installed from the npm registry, so the test is skipped, with a message, where there is no
//! Node.js, no npm or no registry. With `TIDELOCK_AUTOMERGE_JS` set to a folder that has the package in its
//! `node_modules`, nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tidelock::{Document, Node, NodeConfig};

const PACKAGE: &str = "@automerge/automerge@3";

/// What the JavaScript side does: `edit in out`, then prints what it sees; or `show in`.
const SCRIPT: &str = r#"
import fs from "node:fs";
import * as automerge from "@automerge/automerge";

const [verb, from, to] = process.argv.slice(2);
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

fn run(program: &str, arguments: &[&str], folder: &Path) -> std::io::Result<Output> {
    Command::new(program).args(arguments).current_dir(folder).output()
}

/// Installs the package into a folder, or tells why it cannot be.
fn install(folder: &Path) -> Result<(), String> {
    let manifest = r#"{"private":true,"type":"module"}"#;
    fs::write(folder.join("package.json"), manifest).map_err(|error| error.to_string())?;
    let arguments = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1", PACKAGE];
    let npm = run("npm", &arguments, folder).map_err(|error| format!("there is no npm: {error}"))?;
    if npm.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&npm.stderr);
    Err(format!("the package cannot be installed: {}", why.lines().last().unwrap_or("")))
}

/// The folder of the script with the package beside it, or why there is none.
fn javascript(folder: &Path) -> Result<PathBuf, String> {
    run("node", &["--version"], folder).map_err(|error| format!("there is no Node.js: {error}"))?;
    let home = std::env::var_os("TIDELOCK_AUTOMERGE_JS").map(PathBuf::from);
    if home.is_none() {
        install(folder)?;
    }
    let home = home.unwrap_or_else(|| folder.to_owned());
    fs::write(home.join("peer.mjs"), SCRIPT).map_err(|error| error.to_string())?;
    Ok(home)
}

/// What JavaScript sees of a file, after an edit if it is asked for one.
fn peer(home: &Path, arguments: &[&str]) -> Value {
    let output =
        run("node", &[&["peer.mjs"], arguments].concat(), home).expect("node was there a moment ago");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the script prints JSON")
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
    let home = match javascript(folder.path()) {
        Ok(home) => home,
        Err(why) => {
            eprintln!("skipped: {why}");
            return;
        }
    };
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
    let edited = peer(&home, &["edit", &text(&ours), &text(&theirs)]);
    assert_eq!(edited["document"]["title"], json!("From Alice, and Bob"));
    list.set_json("/title", json!("A list from Alice")).await.expect("a text");
    list.set_json("/items/-", json!({"name": "bread", "count": 1})).await.expect("a list");

    list.merged(fs::read(&theirs).expect("JavaScript wrote it")).await.expect("it is a document");
    saved(&list, &both).await;
    let seen = peer(&home, &["show", &text(&both)]);
    let shown = list.json("").await.expect("it can be read").expect("it is there");
    assert_eq!(seen["document"], shown);
    assert_eq!(seen["heads"], json!(heads(&list).await));
    assert_eq!(shown["title"], json!("A list from Alice, and Bob"));
    assert_eq!((&shown["from"], &shown["items"][0]["count"]), (&json!("JavaScript"), &json!(7)));
    assert_eq!(shown["items"].as_array().map(Vec::len), Some(3));
    node.shutdown().await;
}
