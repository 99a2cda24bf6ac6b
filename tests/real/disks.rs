//! Real processes whose files are removed while they run, and whose disk is full.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::processes::{Node, Options, PROGRAM, eventually, run};

/// The disk that is filled, and what lies on it for nothing, in bytes.
const DISK_BYTES: usize = 32 << 20;
const FILLER_BYTES: usize = 14 << 20;

/// What is written until the disk is full, in bytes a write.
const VALUE_BYTES: usize = 200_000;

fn start(data: &Path) -> Node {
    Node::start(PROGRAM, data, Options::default())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain name")
}

fn set(node: &mut Node, keys: &[&str]) {
    for key in keys {
        assert_eq!(node.command(&["SET", key, &format!("value of {key}")]), "OK");
    }
}

fn holds(node: &mut Node, keys: &[&str]) {
    for key in keys {
        assert_eq!(node.command(&["GET", key]), format!("value of {key}"));
    }
}

fn is_sound(data: &Path) {
    let checked = run(PROGRAM, &["check", text(data)]);
    assert!(checked.status.success(), "{checked:?}");
    assert!(String::from_utf8_lossy(&checked.stdout).contains("agree"), "{checked:?}");
}

/// The node goes on, the file is there again some seconds later, and what was written meanwhile outlives a kill.
fn file_is_written_again(name: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("a");
    let mut node = start(&data);
    set(&mut node, &["before"]);
    let replica = node.command(&["TIDE.ENTRY", "before"]);
    fs::remove_file(data.join(name)).expect("it is there");
    set(&mut node, &["between"]);
    eventually("the file is there again", || data.join(name).exists());
    set(&mut node, &["behind"]);
    node.kill_and_restart();
    holds(&mut node, &["before", "between", "behind"]);
    assert_eq!(node.command(&["TIDE.ENTRY", "before"]), replica);
    assert_eq!(node.terminate(), Some(0));
    is_sound(&data);
}

#[test]
fn rows_that_are_removed_under_a_node_are_written_again() {
    file_is_written_again("rows.redb");
}

#[test]
fn log_that_is_removed_under_a_node_is_written_again() {
    file_is_written_again("log.redb");
}

/// The node stands still from before the file goes, so that it cannot write it again.
#[test]
fn rows_that_are_gone_at_the_start_are_made_again_and_a_log_that_is_gone_is_missed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("a");
    let mut node = start(&data);
    set(&mut node, &["one", "two"]);
    node.signal("STOP");
    fs::remove_file(data.join("rows.redb")).expect("it is there");
    node.kill_and_restart();
    holds(&mut node, &["one", "two"]);
    node.signal("STOP");
    fs::remove_file(data.join("log.redb")).expect("it is there");
    node.kill();
    let refused = run(PROGRAM, &["run", "--data", text(&data), "--redis", "127.0.0.1:0"]);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && error.contains("log.redb is missing"), "{refused:?}");
}

/// There is no place for what is written any more: a node that acknowledged it would lie.
#[test]
fn node_whose_folder_is_removed_refuses_writes_and_can_be_exported() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (data, lines) = (folder.path().join("a"), folder.path().join("lines"));
    let mut node = start(&data);
    set(&mut node, &["one", "two"]);
    fs::remove_dir_all(&data).expect("it is there");
    eventually("writes are refused", || {
        node.command(&["SET", "probe", "value of probe"]).starts_with("error: READONLY")
    });
    holds(&mut node, &["one", "two"]);
    eventually("the status says why", || node.command(&["TIDE.STATUS"]).contains("it was removed"));
    let exported = run(PROGRAM, &["export", "default", "--node", node.redis()]);
    assert!(exported.status.success(), "{exported:?}");
    fs::write(&lines, exported.stdout).expect("it is ours");
    node.kill();
    let mut anew = start(&data);
    let imported = run(PROGRAM, &["import", "default", text(&lines), "--node", anew.redis()]);
    assert!(imported.status.success(), "{imported:?}");
    holds(&mut anew, &["one", "two"]);
}

/// A program that runs a node with a small disk of its own, which nobody but its process sees; `None` where the
/// system gives no such thing.
fn on_small_disk(folder: &Path, data: &Path) -> Option<PathBuf> {
    let unshare = "exec unshare --map-root-user --mount sh -c";
    let mount = format!("mount -t tmpfs -o size={DISK_BYTES} none \"$0\"");
    fs::create_dir(data).expect("it is new");
    let program = folder.join("on-small-disk");
    let script = format!("#!/bin/sh\n{unshare} '{mount} && exec \"$@\"' '{}' \"$@\"\n", text(data));
    fs::write(&program, script).expect("it is ours");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("it is ours");
    let probed = Command::new(&program).arg("true").output().expect("a shell is there");
    if !probed.status.success() {
        eprintln!("skipped, for no disk can be mounted here: {}", String::from_utf8_lossy(&probed.stderr));
        return None;
    }
    let script =
        format!("#!/bin/sh\n{unshare} '{mount} && exec \"$@\"' '{}' '{PROGRAM}' \"$@\"\n", text(data));
    fs::write(&program, script).expect("it is ours");
    Some(program)
}

/// Writes are refused, certainly not executed, and reads go on; once there is room writes go on without a restart, and
/// what was acknowledged is in the files.
#[test]
fn full_disk_refuses_writes_until_there_is_room_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (data, copy) = (folder.path().join("a"), folder.path().join("copy"));
    let Some(program) = on_small_disk(folder.path(), &data) else { return };
    let mut node = Node::start(text(&program), &data, Options::default());
    // What the process sees under this name.
    let seen = PathBuf::from(format!("/proc/{}/root{}", node.pid(), text(&data)));
    fs::write(seen.join("filler"), vec![1; FILLER_BYTES]).expect("there is room");
    let value = |number: usize| format!("{number:06}").repeat(VALUE_BYTES / 6);
    let refused = (0..).find_map(|number| {
        let reply = node.command(&["SET", &format!("k{number}"), &value(number)]);
        (reply != "OK").then_some((number, reply))
    });
    let (written, reply) = refused.expect("no disk is endless");
    assert!(reply.starts_with("error: READONLY") && reply.contains("full"), "{reply}");
    assert!(written >= 10, "{written} writes only");
    let all_there = |node: &mut Node, from: usize, to: usize| {
        for number in from..to {
            assert!(node.command(&["GET", &format!("k{number}")]) == value(number), "k{number}");
        }
    };
    all_there(&mut node, 0, written);
    assert_eq!(node.command(&["EXISTS", &format!("k{written}")]), "0", "it was certainly not executed");
    fs::remove_file(seen.join("filler")).expect("it is there");
    eventually("it takes writes again", || {
        node.command(&["SET", &format!("k{written}"), &value(written)]) == "OK"
    });
    all_there(&mut node, 0, written + 1);
    // The disk goes with the process, so its files are copied as they are in the middle of a run.
    node.signal("STOP");
    fs::create_dir(&copy).expect("it is new");
    for name in ["key", "log.mark", "log.redb", "rows.redb"] {
        fs::copy(seen.join(name), copy.join(name)).expect("it is there");
    }
    node.kill();
    all_there(&mut start(&copy), 0, written + 1);
    is_sound(&copy);
}
