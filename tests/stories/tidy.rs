//! The house rules that a compiler does not know: who may import whom, and how long a file may be.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The lines of one source file at most.
const LINES_MAX: usize = 500;

/// The edges between our crates, and there are no others. DESIGN.md, section 3.
const EDGES: [(&str, &str); 13] = [
    ("tidelock", "tidelock-engine"),
    ("tidelock", "tidelock-raft-mode"),
    ("tidelock", "tidelock-store"),
    ("tidelock", "tidelock-transport"),
    ("tidelock-fuzz", "tidelock"),
    ("tidelock-fuzz", "tidelock-engine"),
    ("tidelock-fuzz", "tidelock-store"),
    ("tidelock-raft-mode", "tidelock-engine"),
    ("tidelock-store", "tidelock-engine"),
    ("tidelock-tests", "tidelock-engine"),
    ("tidelock-tests", "tidelock-raft-mode"),
    ("tidelock-tests", "tidelock-store"),
    ("tidelock-transport", "tidelock-engine"),
];

/// What the engine may not see: it is pure.
const FORBIDDEN_IN_ENGINE: [&str; 5] = ["tokio", "libp2p", "redb", "rand", "getrandom"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in the workspace").to_owned()
}

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

fn dependencies(package: &serde_json::Value) -> impl Iterator<Item = &str> {
    let dependencies = package["dependencies"].as_array().expect("a list");
    dependencies.iter().map(|dependency| dependency["name"].as_str().expect("a name"))
}

#[test]
fn crates_import_each_other_only_as_designed() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("a list");
    let mut found = BTreeSet::new();
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        for dependency in dependencies(package).filter(|name| name.starts_with("tidelock")) {
            found.insert((name.to_owned(), dependency.to_owned()));
        }
    }
    let expected: BTreeSet<(String, String)> =
        EDGES.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
    assert_eq!(found, expected);
}

#[test]
fn engine_sees_no_clock_no_network_and_no_disk() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("a list");
    let engine = packages.iter().find(|package| package["name"] == "tidelock-engine").expect("it is there");
    let seen: Vec<&str> = dependencies(engine).filter(|name| FORBIDDEN_IN_ENGINE.contains(name)).collect();
    assert!(seen.is_empty(), "{seen:?}");
}

#[test]
fn no_file_is_longer_than_one_idea() {
    let mut long = Vec::new();
    let mut count = 0;
    for file in sources(&root()) {
        let text = fs::read_to_string(&file).expect("it is ours");
        count += 1;
        if text.lines().count() > LINES_MAX {
            long.push(file);
        }
        assert!(!text.is_empty());
    }
    assert!(count > 50, "the sources were not found");
    assert!(long.is_empty(), "over {LINES_MAX} lines: {long:?}");
}

#[test]
fn every_file_says_what_it_is() {
    for file in sources(&root()) {
        let text = fs::read_to_string(&file).expect("it is ours");
        assert!(text.starts_with("//!"), "{} has no module doc", file.display());
    }
}

/// Whoever looks for what is tested finds it in one list.
#[test]
fn every_story_is_listed() {
    let tests = root().join("tests");
    let list = fs::read_to_string(tests.join("README.md")).expect("it is ours");
    let mut missing = Vec::new();
    let mut stories = 0;
    for entry in fs::read_dir(tests.join("stories")).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "rs") || path.ends_with("tidy.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("it is ours");
        for test in text.split("#[test]").skip(1) {
            let name = test.split("fn ").nth(1).and_then(|rest| rest.split('(').next()).expect("a name");
            stories += 1;
            if !list.contains(&format!("`{name}`")) {
                missing.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(stories > 100, "only {stories} stories were found");
    assert!(missing.is_empty(), "not in tests/README.md: {missing:#?}");
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
