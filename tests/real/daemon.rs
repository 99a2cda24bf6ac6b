//! The daemon and its signals.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

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

/// Shells begin with a limit that is far below what a node may have clients, and a higher one that is allowed.
#[test]
fn daemon_has_as_many_clients_as_the_system_allows() {
    const CLIENTS: usize = 150;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut daemon = Command::new("sh")
        .args(["-c", "ulimit -S -n 96 && exec \"$0\" \"$@\"", PROGRAM, "run", "--data"])
        .arg(folder.path())
        .args(["--redis", "127.0.0.1:0", "--http", "off", "--listen", "off"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh is there");
    let mut ready = String::new();
    let stdout = daemon.stdout.take().expect("it is piped");
    let read = BufReader::new(stdout).read_line(&mut ready);
    let address = ready.split_ascii_whitespace().find_map(|word| word.strip_prefix("redis="));
    let served = address.map(|address| {
        // All are connected before the first is asked.
        let mut clients: Vec<_> = (0..CLIENTS).filter_map(|_| TcpStream::connect(address).ok()).collect();
        let serves = |client: &mut TcpStream| {
            let mut answer = [0; 7];
            client.set_read_timeout(Some(Duration::from_secs(20))).is_ok()
                && client.write_all(b"PING\r\n").is_ok()
                && client.read_exact(&mut answer).is_ok()
                && &answer == b"+PONG\r\n"
        };
        // Who waits for one that is not served waits for the others, too.
        clients.iter_mut().map(serves).take_while(|is_served| *is_served).count()
    });
    daemon.kill().expect("it runs");
    daemon.wait().expect("it ends");
    assert_eq!(served, Some(CLIENTS), "{ready:?} {read:?}");
}
