//! The README's lines for redis-py and ioredis do what they say, on a real node.
//!
//! Nothing is installed here: where a language or its package is missing, the test is skipped with a message. What Node.js
//! finds is said by `NODE_PATH`.

mod processes;

use std::fs;
use std::path::Path;
use std::process::Command;

use processes::{Node, Options, PROGRAM, run};

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

/// Runs the lines of a language, if a first line that only asks for the package succeeds, and answers what they print.
fn printed(language: &str, [program, option, asks]: [&str; 3]) -> Option<String> {
    let has_package = Command::new(program).args([option, asks]).output();
    if !has_package.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: `{program} {option} '{asks}'` fails here");
        return None;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(PROGRAM, folder.path(), Options::default());
    let (_, port) = node.redis().rsplit_once(':').expect("an address");
    let output = run(program, &[option, &snippet(language, port)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).expect("it prints text"))
}

#[test]
fn redis_py_lines_of_the_readme_work() {
    if let Some(printed) = printed("python", ["python3", "-c", "import redis"]) {
        assert_eq!(printed, "['apples', 'pears'] 1\n");
    }
}

#[test]
fn ioredis_lines_of_the_readme_work() {
    if let Some(printed) = printed("javascript", ["node", "-e", "require('ioredis')"]) {
        assert_eq!(printed, "[ 'apples', 'pears' ] 1\n");
    }
}
