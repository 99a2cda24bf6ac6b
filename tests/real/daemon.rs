//! The daemon and its signals.

use std::fs::File;
use std::process::{Command, Stdio};
use std::thread;

use crate::processes::{PROGRAM, eventually};

#[test]
fn signal_ends_a_daemon_that_is_still_opening() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // A key that never comes keeps the node opening for as long as the test wants.
    let key = folder.path().join("key");
    let made = Command::new("mkfifo").args(["-m", "600"]).arg(&key).status().expect("mkfifo is there");
    assert!(made.success());
    for name in ["TERM", "INT"] {
        let mut daemon = Command::new(PROGRAM)
            .arg("run")
            .arg("--data")
            .arg(folder.path())
            .args(["--redis", "off", "--http", "off", "--listen", "off"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the program starts");
        // It is opened when the daemon opens it too, which is after the daemon has taken over the signals.
        let key = thread::spawn({
            let key = key.clone();
            move || File::options().write(true).open(key)
        });
        eventually("the daemon reads its key", || key.is_finished());
        let key = key.join().expect("it ends").expect("it is ours");
        let pid = daemon.id().to_string();
        Command::new("kill").args(["-s", name, &pid]).status().expect("kill is there");
        let mut status = None;
        eventually("the daemon ends", || {
            status = daemon.try_wait().expect("it is our child");
            status.is_some()
        });
        assert_eq!(status.and_then(|status| status.code()), Some(0), "after SIG{name}");
        drop(key);
    }
}
