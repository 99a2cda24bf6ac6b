//! The README's lines for redis-py and ioredis do what they say, on a real node.
//!
//! Where a language or its package is missing, the test is skipped with a message.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::processes::{Language, Node, Options, PROGRAM, output};

/// The lines of the README in a language, for a node on this port.
fn snippet(language: &str, port: &str) -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).expect("it is ours");
    let (_, rest) = readme.split_once(&format!("```{language}\n")).expect("the README has lines of it");
    let (lines, _) = rest.split_once("```").expect("they end");
    assert_eq!(lines.lines().count(), 5, "five lines are enough");
    assert!(lines.contains("6380"));
    lines.replace("6380", port)
}

/// What lines of the README print, run with this option.
fn printed(mut command: Command, option: &str, language: &str) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(PROGRAM, folder.path(), Options::default());
    let (_, port) = node.redis().rsplit_once(':').expect("an address");
    let output = output(command.args([option, &snippet(language, port)]).stdin(Stdio::null()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it prints text")
}

#[test]
fn redis_py_lines_of_the_readme_work() {
    if let Some(python) = Language::Python.with("redis") {
        assert_eq!(printed(python, "-c", "python"), "['apples', 'pears'] 1\n");
    }
}

#[test]
fn ioredis_lines_of_the_readme_work() {
    if let Some(node) = Language::JavaScript.with("ioredis") {
        assert_eq!(printed(node, "-e", "javascript"), "[ 'apples', 'pears' ] 1\n");
    }
}
