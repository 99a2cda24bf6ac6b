//! What clients meet of strong keyspaces: modes, words of errors, labelled reads, outcomes, and in which order commands
//! that come together are handed over. In the double all keyspaces whose names begin with `strong` are so.

use tidelock_engine::request::RequestError;

use super::conformance::{check_all, greet, same};
use super::double::name;
use super::{Port, encode};

#[tokio::test]
async fn modes_are_told_and_chosen_or_it_is_said_why_not() {
    check_all(&[
        same("TIDE.MODE notes", "*2\n$8\neventual\n:0"),
        same("TIDE.MODE strong-notes", "*2\n$6\nstrong\n:1"),
        same("TIDE.MODE notes eventual", "+OK"),
        same(
            "TIDE.MODE strong-notes EVENTUAL",
            "-ERR making a strong keyspace eventual is not possible yet; it is strong as before",
        ),
        same("TIDE.MODE notes STRONG", "+OK"),
        same(
            "TIDE.MODE guest STRONG",
            "-ERR this node knows of no anchor in the cluster, and only anchors can change the mode of a keyspace",
        ),
        same(
            "TIDE.MODE full STRONG",
            "-ERR keyspace full has been written in, and switching a keyspace that holds data is not possible yet; \
             it is eventual as before",
        ),
        same(
            "TIDE.MODE slow STRONG",
            "-UNKNOWN the anchors did not finish in time; the keyspace may become strong yet",
        ),
        same("TIDE.MODE notes weak", "-ERR syntax error"),
        same("TIDE.MODE notes strong now", "-ERR syntax error"),
        same("TIDE.MODE", "-ERR wrong number of arguments for 'tide.mode' command"),
    ])
    .await;
}

#[tokio::test]
async fn reads_of_a_strong_keyspace_never_go_beside_the_loop() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("SELECT strong", "+OK").await;
    link.check("MSET a 1 b 2", "+OK").await;
    link.check("SADD s x", ":1").await;
    for (line, reply) in [
        ("GET a", "$1\n1"),
        ("MGET a b", "*2\n$1\n1\n$1\n2"),
        ("DBSIZE", ":3"),
        ("KEYS a", "*1\n$1\na"),
        ("SCAN 0 TYPE set", "*2\n$1\n0\n*1\n$1\ns"),
        ("SSCAN s 0", "*2\n$1\n0\n*1\n$1\nx"),
        ("TTL a", ":-1"),
        ("OBJECT ENCODING a", "$3\nint"),
        ("WATCH a", "+OK"),
        ("MOVE a strong-other", ":1"),
        ("TIDE.FINGERPRINT strong-nothing", &format!("$64\n{}", "0".repeat(64))),
    ] {
        link.check(line, reply).await;
    }
    assert_eq!(port.double.counts().2, 0, "no snapshot was read");
    link.check("TIDE.DOC GET d", "-ERR documents cannot be read or changed in a strong keyspace yet").await;
}

/// What is handed over together may happen in any order, so what reads behind a write must not be.
#[tokio::test]
async fn commands_that_come_together_keep_their_order_in_a_strong_keyspace() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("SELECT strong", "+OK").await;
    let turns = port.double.counts().0;
    // One request of what is no batch, then two batches and a read, each behind the one before.
    let lines = ["INCR n", "GET n", "MSET a 1 b 2", "MULTI", "INCR n", "EXEC", "GET n"];
    link.send(lines.iter().flat_map(|line| encode(line)).collect::<Vec<_>>()).await;
    link.expect(":1\r\n$1\r\n1\r\n+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n:2\r\n$1\r\n2\r\n").await;
    let counted = port.double.counts();
    assert_eq!(counted.0 - turns, 4, "{counted:?}");
}

#[tokio::test]
async fn long_values_that_come_together_are_several_requests() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("SELECT strong", "+OK").await;
    let before = port.double.counts().1;
    let value = "v".repeat(100 << 10);
    let bytes: Vec<u8> = (0..8).flat_map(|key| encode(&format!("SET {key} {value}"))).collect();
    link.send(bytes).await;
    link.expect("+OK\r\n".repeat(8)).await;
    // Each must fit into one frame, and nothing of it is done otherwise.
    assert!(port.double.counts().1 - before >= 4, "{:?}", port.double.counts());
}

/// What goes wrong, and what a client is told.
type Failure = (fn() -> RequestError, &'static str);

#[tokio::test]
async fn errors_say_what_became_of_a_command() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("SELECT strong", "+OK").await;
    let words: [Failure; 10] = [
        (
            || RequestError::TryAgain {
                keyspace: name("strong"),
                reason: "this anchor is catching up".to_owned(),
            },
            "-TRYAGAIN keyspace strong cannot answer now: this anchor is catching up; nothing was done, try again in a \
             moment",
        ),
        (
            || RequestError::SwitchInProgress(name("strong")),
            "-TRYAGAIN keyspace strong is about to change its mode; try again in a moment",
        ),
        (
            || RequestError::EpochClosed(name("strong")),
            "-TRYAGAIN keyspace strong has changed its mode since; nothing was done",
        ),
        (|| RequestError::NoLeader("no leader in time".to_owned()), "-NOLEADER no leader in time"),
        (|| RequestError::ReadOnly("the disk failed".to_owned()), "-READONLY the disk failed"),
        (
            || RequestError::TooLarge { keyspace: name("strong"), reason: "it is long".to_owned() },
            "-ERR keyspace strong is strong, and its log does not take this at once: it is long; nothing was done",
        ),
        (
            || RequestError::Unknown("1-00-7".to_owned()),
            "-UNKNOWN 1-00-7 may or may not have been executed, once; TIDE.OUTCOME tells when that is known",
        ),
        (
            || RequestError::Untold,
            "-UNKNOWN the request was done, but what it gave is too long to be told; ask for less at once",
        ),
        (|| RequestError::Commit("half written".to_owned()), "-UNKNOWN half written"),
        (|| RequestError::Closed, "-TRYAGAIN the node is shutting down"),
    ];
    for (error, reply) in words {
        port.double.fail_with(error);
        link.check("INCR n", reply).await;
        link.check("GET n", reply).await;
    }
}

#[tokio::test]
async fn stale_reads_are_allowed_by_connection_and_labelled() {
    let port = Port::open().await;
    let mut link = port.link().await;
    greet(&mut link).await;
    link.check("TIDE.READ", "$12\nlinearizable").await;
    link.check("SELECT strong", "+OK").await;
    link.check("TIDE.REVISION", ":0").await;
    link.check("SET k v", "+OK").await;
    link.check("TIDE.REVISION strong", ":1").await;
    let label = "%3\n$8\nrevision\n:1\n$6\nage_ms\n:5\n$9\ntentative\n:0";
    for (choose, chosen) in
        [("READONLY", "$5\nstale"), ("TIDE.READ AFTER 1", "$7\nafter 1"), ("TIDE.READ stale", "$5\nstale")]
    {
        link.check("GET k", "$1\nv").await;
        link.check("TIDE.LABEL", "_").await;
        link.check(choose, "+OK").await;
        link.check("TIDE.READ", chosen).await;
        for read in ["GET k", "KEYS *", "SCAN 0 COUNT 1 MATCH x"] {
            link.send([encode(read), encode("TIDE.LABEL"), encode("READWRITE"), encode(choose)].concat())
                .await;
            let reply = match read {
                "GET k" => "$1\nv",
                "KEYS *" => "*1\n$1\nk",
                _ => "*2\n$1\n0\n*0",
            };
            link.expect(super::lines(&format!("{reply}\n{label}\n+OK\n+OK"))).await;
        }
        link.check("READWRITE", "+OK").await;
    }
    link.check("TIDE.READ AFTER x", "-ERR value is not an integer or out of range").await;
    link.check("TIDE.READ AFTER -1", "-ERR value is not an integer or out of range").await;
    link.check("TIDE.READ", "$12\nlinearizable").await;
    link.check("TIDE.READ new", "-ERR syntax error").await;
    link.check("TIDE.REVISION notes", "-ERR keyspace notes is eventual, and only a strong one has revisions")
        .await;
    link.check("READONLY", "+OK").await;
    link.check("RESET", "+RESET").await;
    link.check("TIDE.READ", "$12\nlinearizable").await;
}

#[tokio::test]
async fn outcomes_of_operations_are_told_when_they_are_known() {
    let client = "0a".repeat(16);
    let port = Port::open().await;
    let mut link = port.link().await;
    let done = "*2\n$4\ndone\n*3\n+OK\n:7\n-ERR value is not an integer or out of range";
    link.check(&format!("TIDE.OUTCOME strong 1-{client}-1"), done).await;
    let untold =
        "-UNKNOWN the request was done, but what it gave is too long to be told; ask for less at once";
    link.check(&format!("TIDE.OUTCOME strong 1-{client}-2"), &format!("*2\n$4\ndone\n{untold}")).await;
    link.check(&format!("TIDE.OUTCOME strong 1-{client}-3"), "*2\n$7\nunknown\n$-1").await;
    link.check(&format!("TIDE.OUTCOME strong 1-{client}-4"), "*2\n$5\nnever\n$-1").await;
    link.check(&format!("TIDE.OUTCOME strong 1-{client}-5"), "*2\n$9\nforgotten\n$-1").await;
    let reply = link.ask(&format!("TIDE.OUTCOME strong 1-{client}-6")).await;
    assert!(reply.starts_with("-NOLEADER "), "{reply}");
    for wrong in ["1", "1-0a-1", &format!("1-{client}"), &format!("01-{client}-1"), &format!("1-{client}-+1")]
    {
        let reply = link.ask(&format!("TIDE.OUTCOME strong {wrong}")).await;
        assert!(reply.starts_with("-ERR an operation is named by"), "{reply}");
    }
}

#[tokio::test]
async fn outbox_lists_operations_so_that_people_can_read_them() {
    let port = Port::open().await;
    let mut link = port.link().await;
    greet(&mut link).await;
    link.check("TIDE.OUTBOX default", "%2\n$10\noperations\n:0\n$5\nfirst\n*0").await;
    for line in ["SET k v", "HSET h f v", "INCRBY n 5", "SADD s a b", "ZADD z 1.5 m", "DEL k", "FLUSHDB"] {
        link.ask(line).await;
    }
    link.send("TIDE.OUTBOX default\r\nTIDE.OUTBOX default COUNT 1\r\nQUIT\r\n").await;
    let listed = link.rest().await;
    let words = ["set", "put", "count", "add", "score", "delete", "clear"];
    let found: Vec<&str> = listed
        .split("\\r\\n")
        .zip(listed.split("\\r\\n").skip(2))
        .filter_map(|(field, value)| (field == "operation").then_some(value))
        .collect();
    assert_eq!(found, [&words[..], &words[..1]].concat());
    assert!(listed.contains("operations\\r\\n:7\\r\\n") && listed.contains("$3\\r\\n1.5"), "{listed}");
    let mut link = port.link().await;
    link.check("TIDE.OUTBOX default COUNT x", "-ERR value is not an integer or out of range").await;
    link.check("TIDE.OUTBOX default 5", "-ERR syntax error").await;
}
