//! Ends the nodes of a test that is itself killed, by Ctrl-C, a time limit or SIGKILL, and so drops nothing.
//!
//! A shell reads from a pipe which processes run. When the pipe closes, because the test has ended in whatever
//! way, it kills those that were not released. It has a process group of its own, so what ends the test's does
//! not end it.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

const SCRIPT: &str = r#"
pids=" "
while read -r verb pid; do
    case "$verb" in
        watch) pids="$pids$pid " ;;
        release) case "$pids" in *" $pid "*) pids="${pids%%" $pid "*} ${pids#*" $pid "}" ;; esac ;;
    esac
done
for pid in $pids; do kill -KILL "$pid"; done
"#;

static GUARD: OnceLock<Mutex<Child>> = OnceLock::new();

/// From now on this child of ours ends with us.
pub(crate) fn watch(pid: u32) {
    tell("watch", pid);
}

/// A watched child has ended and was waited for, so its number may come to mean another process.
pub(crate) fn release(pid: u32) {
    tell("release", pid);
}

fn tell(verb: &str, pid: u32) {
    let guard = GUARD.get_or_init(|| Mutex::new(start()));
    let mut guard = guard.lock().unwrap_or_else(PoisonError::into_inner);
    let pipe = guard.stdin.as_mut().expect("it is piped");
    // Without its guard a test still ends its nodes itself, unless it is killed.
    let _ = writeln!(pipe, "{verb} {pid}");
}

fn start() -> Child {
    Command::new("sh")
        .args(["-c", SCRIPT])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell is there")
}
