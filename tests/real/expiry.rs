//! Keys that expire on real nodes, with their own clocks and a real kill.

use crate::processes::{Node, Options, PROGRAM, eventually};

/// A key is set to expire on one of two nodes, which is then killed. It is gone on the other all the same, and stays so;
/// what the other wrote to it meanwhile survives the removal.
#[test]
fn key_expires_on_every_node() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut a = Node::start(PROGRAM, &folder.path().join("a"), Options::default());
    let mut b = Node::start(
        PROGRAM,
        &folder.path().join("b"),
        Options { peers: a.listen().to_vec(), ..Options::default() },
    );
    assert_eq!(a.command(&["SET", "kept", "v", "EX", "3600"]), "OK");
    assert_eq!(a.command(&["SADD", "short", "x"]), "1");
    assert_eq!(a.command(&["PEXPIRE", "short", "3000"]), "1");
    eventually("it has come", || b.command(&["PTTL", "short"]).parse::<i64>().is_ok_and(|ms| ms > 0));
    a.kill();
    eventually("it has expired", || b.command(&["EXISTS", "short"]) == "0");
    assert_eq!(b.command(&["SCARD", "short"]), "0");
    b.kill_and_restart();
    assert_eq!(b.command(&["EXISTS", "short"]), "0", "it does not come back");
    assert_eq!(b.command(&["SADD", "short", "y"]), "1");
    a.restart();
    eventually("a has it too", || a.command(&["SMEMBERS", "short"]) == "[y]");
    assert_eq!(b.command(&["SMEMBERS", "short"]), "[y]");
    assert_eq!((a.command(&["TTL", "short"]), b.command(&["GET", "kept"])), ("-1".into(), "v".into()));
    eventually("both are equal", || a.fingerprint("default") == b.fingerprint("default"));
}
