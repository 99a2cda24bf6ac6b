//! What clients meet of strong keyspaces: modes, words of errors, labelled reads, outcomes, and in which order commands
//! that come together are handed over. In the double all keyspaces whose names begin with `strong` are so.

use tidelock_engine::request::RequestError;

use super::conformance::{check_all, greet, same};
use super::double::name;
use super::{Link, Port, encode};

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
        same(
            "TIDE.MODE late STRONG",
            "-TRYAGAIN keyspace late was not made strong: fewer than a majority of the anchors stood where that was to \
             begin; the keyspace is as it was, try again in a moment",
        ),
        same(
            "TIDE.MODE leaderless STRONG",
            "-NOLEADER no leader in time, nothing was appended; the group may have lost its majority; the keyspace is \
             as it was",
        ),
        same("TIDE.MODE elsewhere STRONG", "-ERR refused: it is not replicated there; the keyspace is as it was"),
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
    let words: [Failure; 13] = [
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
        (
            || RequestError::Forgotten("1-00-7".to_owned()),
            "-FORGOTTEN 1-00-7 was executed before or not, which nobody knows any more; it did nothing now, and never \
             will",
        ),
        (
            || RequestError::Never,
            "-NEVER it was made certain that the operation of this client and number is never executed",
        ),
        (
            || RequestError::OtherOperation,
            "-ERR this client and number name another operation, which was executed; this one was not",
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
async fn outcome_is_made_final_only_where_that_is_asked_for() {
    let client = "0a".repeat(16);
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check(&format!("TIDE.OUTCOME strong 1-{client}-3"), "*2\n$7\nunknown\n$-1").await;
    link.check(&format!("TIDE.OUTCOME strong 1-{client}-3 FINAL"), "*2\n$5\nnever\n$-1").await;
    link.check(&format!("TIDE.OUTCOME strong 1-{client}-5 final"), "*2\n$9\nforgotten\n$-1").await;
    link.check(&format!("TIDE.OUTCOME strong 1-{client}-3 last"), "-ERR syntax error").await;
    link.check(&format!("TIDE.OUTCOME strong 1-{client}-3 FINAL 1"), "-ERR syntax error").await;
}

/// The double keeps what named operations gave, as the anchors do.
#[tokio::test]
async fn named_command_is_done_once_and_another_one_of_its_name_is_refused() {
    let other = "-ERR this client and number name another operation, which was executed; this one was not";
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("SELECT strong", "+OK").await;
    link.check("TIDE.AS till-3 1 INCRBY n 5", ":5").await;
    let mut again = port.link().await;
    again.check("SELECT strong", "+OK").await;
    again.check("tide.as till-3 1 incrby n 5", ":5").await;
    again.check("TIDE.AS till-3 1 INCRBY n 6", other).await;
    again.check("TIDE.AS till-3 1 SADD s x", other).await;
    again.check("TIDE.AS till-4 1 INCRBY n 5", ":10").await;
    again.check("TIDE.AS till-3 2 INCRBY n 5", ":15").await;
    // Of several keys one operation is made.
    again.check("MSET a 1 b 2", "+OK").await;
    again.check("TIDE.AS till-3 3 DEL a b", ":2").await;
    again.check("TIDE.AS till-3 3 DEL a b", ":2").await;
    again.check("TIDE.AS till-3 3 DEL a b c", other).await;
    // What is drawn or read from a clock for a command is no part of it.
    again.check("SADD s x", ":1").await;
    again.check("TIDE.AS till-3 4 SPOP s", "$1\nx").await;
    again.check("TIDE.AS till-3 4 SPOP s", "$1\nx").await;
    again.check("TIDE.AS till-3 5 SET k v EX 100", "+OK").await;
    again.check("TIDE.AS till-3 5 SET k v EX 100", "+OK").await;
    // What only reads is answered anew, and takes no number.
    again.check("TIDE.AS till-3 6 GET n", "$2\n15").await;
    again.check("TIDE.AS till-3 6 INCR n", ":16").await;
    // What failed fails again in the same way.
    let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    again.check("SADD s y", ":1").await;
    again.check("TIDE.AS till-3 7 INCR s", wrong).await;
    again.check("DEL s", ":1").await;
    again.check("TIDE.AS till-3 7 INCR s", wrong).await;
    again.check("EXISTS s", ":0").await;
}

#[tokio::test]
async fn named_commands_of_a_pipeline_are_operations_of_their_own() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("SELECT strong", "+OK").await;
    let lines =
        ["INCR n", "TIDE.AS c 1 INCR n", "INCR n", "TIDE.AS c 1 INCR n", "TIDE.AS c 2 INCR n", "GET n"];
    link.send(lines.iter().flat_map(|line| encode(line)).collect::<Vec<_>>()).await;
    link.expect(":1\r\n:2\r\n:3\r\n:2\r\n:4\r\n$1\r\n4\r\n").await;
}

#[tokio::test]
async fn transaction_is_named_where_it_is_executed() {
    async fn check(link: &mut Link, lines: &[&str], reply: &str) {
        link.send(lines.iter().flat_map(|line| encode(line)).collect::<Vec<_>>()).await;
        link.expect(super::lines(reply)).await;
    }
    let other = "-ERR this client and number name another operation, which was executed; this one was not";
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("SELECT strong", "+OK").await;
    let counting = ["MULTI", "INCR n", "SET k v", "TIDE.AS c 1 EXEC"];
    for _ in 0..2 {
        check(&mut link, &counting, "+OK\n+QUEUED\n+QUEUED\n*2\n:1\n+OK").await;
    }
    link.check("GET n", "$1\n1").await;
    let another = ["MULTI", "INCR n", "SET k w", "TIDE.AS c 1 EXEC"];
    check(&mut link, &another, &format!("+OK\n+QUEUED\n+QUEUED\n{other}")).await;
    // That the first try changed what is watched does not keep the second one from its answer.
    for _ in 0..2 {
        let lines = ["WATCH n", "MULTI", "INCR n", "TIDE.AS c 2 EXEC"];
        check(&mut link, &lines, "+OK\n+OK\n+QUEUED\n*1\n:2").await;
    }
    // Within MULTI a name is none, and spoils it.
    let not_named = "-ERR TIDE.AS names a command that writes keys of the selected keyspace, or EXEC";
    let discarded = "-EXECABORT Transaction discarded because of previous errors.";
    let lines = ["MULTI", "TIDE.AS c 3 INCR n", "EXEC", "TIDE.AS c 3 EXEC"];
    let replies = format!("+OK\n{not_named}\n{discarded}\n-ERR EXEC without MULTI");
    check(&mut link, &lines, &replies).await;
    link.check("GET n", "$1\n2").await;
}

#[tokio::test]
async fn what_cannot_be_named_is_refused() {
    let not_named = "-ERR TIDE.AS names a command that writes keys of the selected keyspace, or EXEC";
    check_all(&[
        same("TIDE.AS c 1", "-ERR wrong number of arguments for 'tide.as' command"),
        same("TIDE.AS c x INCR n", "-ERR value is not an integer or out of range"),
        same("TIDE.AS c -1 INCR n", "-ERR value is not an integer or out of range"),
        same("TIDE.AS c 1 INCR", "-ERR wrong number of arguments for 'incr' command"),
        same("TIDE.AS c 1 NOTHING", "-ERR unknown command 'NOTHING', with args beginning with: "),
        same("TIDE.AS c 1 PING", not_named),
        same("TIDE.AS c 1 MULTI", not_named),
        same("TIDE.AS c 1 FLUSHALL", not_named),
        same("TIDE.AS c 1 TIDE.AS c 1 INCR n", not_named),
        same(
            "TIDE.AS c 1 INCR n",
            "-CONSISTENCY the command needs a strong keyspace (TIDE.MODE default strong)",
        ),
    ])
    .await;
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("TIDE.AS c 1 GET n", "$-1").await;
    let refused = link.ask(&format!("TIDE.AS {} 1 INCR n", "c".repeat(257))).await;
    assert!(refused.starts_with("-ERR the name of a client has"), "{refused}");
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
