//! What the command line does with its status, and with a terminal that it took over.

use std::fs;
use std::process::{Command, Stdio};

use crate::processes::{Node, Options, PROGRAM, eventually, output, run};

fn tidelock(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = run(PROGRAM, arguments);
    let text = |bytes| String::from_utf8(bytes).expect("it is text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn status_of_ready_is_all_that_an_orchestrator_needs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = Node::start(PROGRAM, folder.path(), Options::default());
    let address = node.redis().to_owned();
    let ready = |more: &[&str]| tidelock(&[&["ready", "--node", &address], more].concat());
    assert_eq!(ready(&[]), (Some(0), "ready\n".to_owned(), String::new()));
    assert_eq!(ready(&["--json"]).1, "{\"ready\":true,\"reasons\":[]}\n");

    // Its replica is said never to write again, so writes are refused.
    assert_eq!(node.command(&["SET", "k", "v"]), "OK");
    let status = node.command(&["TIDE.STATUS"]);
    let replica = status.split(" replica ").nth(1).and_then(|rest| rest.split(' ').next()).expect("it tells");
    assert_eq!(node.command(&["TIDE.RETIRE", replica, "FORCE"]), "1");
    let why = "the node is not ready: ";
    eventually("it is not ready", || ready(&[]).0 == Some(1));
    let (status, printed, said) = ready(&[]);
    assert_eq!((status, printed.as_str(), said.contains(why)), (Some(1), "", true), "{said}");
    let (status, printed, _) = ready(&["--json"]);
    assert_eq!(
        (status, printed.starts_with("{\"ready\":false,\"reasons\":[\"")),
        (Some(1), true),
        "{printed}"
    );
    assert!(!node.command(&["TIDE.REJOIN"]).starts_with("error"));
    eventually("it is ready again", || ready(&[]).0 == Some(0));

    node.kill();
    let (status, _, said) = ready(&[]);
    assert_eq!((status, said.contains("no node answers")), (Some(1), true), "{said}");
}

/// `top` on a terminal that `script` makes, ended by a signal.
#[test]
fn top_gives_the_terminal_back_when_a_signal_ends_it() {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: there is no `script` on this machine");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(PROGRAM, &folder.path().join("node"), Options::default());
    for signal in ["TERM", "HUP", "INT"] {
        let [before, pid, after, screen] =
            ["before", "pid", "after", "screen"].map(|name| folder.path().join(format!("{signal}-{name}")));
        let lines = format!(
            "stty rows 24 cols 100; stty -g >{}; sh -c 'echo $$ >{}; exec {PROGRAM} top --node {}'; stty -g >{}",
            before.display(),
            pid.display(),
            node.redis(),
            after.display()
        );
        let terminal = std::thread::spawn({
            let screen = screen.clone();
            move || output(Command::new("script").args(["-qefc", &lines]).arg(screen).stdin(Stdio::null()))
        });
        let shows = |what: &str| fs::read_to_string(&screen).is_ok_and(|text| text.contains(what));
        // The keys that it takes are told in its last line.
        eventually("it shows the node", || shows("\x1b[?1049h") && shows("quit"));
        let pid = fs::read_to_string(&pid).expect("it was written before");
        Command::new("kill").args(["-s", signal, pid.trim()]).status().expect("kill is there");
        let output = terminal.join().expect("it ends");
        assert!(output.status.success(), "SIG{signal}: {output:?}");
        assert!(shows("\x1b[?1049l"), "after SIG{signal} the terminal still shows the other screen");
        let settings = [before, after].map(|path| fs::read_to_string(path).expect("stty wrote it"));
        assert!(!settings[0].is_empty() && settings[0] == settings[1], "after SIG{signal}: {settings:?}");
    }
}
