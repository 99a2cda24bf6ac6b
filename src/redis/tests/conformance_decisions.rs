//! The commands that decide: refused in an eventual keyspace, and done where the operator lets this node decide.
//! What they answer then is compared with redis-server in `side_by_side`.

use tidelock_engine::read::REVISION_ROWS_MAX;

use super::conformance::{Case, check_all};
use super::{Link, Port};

const fn same(line: &'static str, reply: &'static str) -> Case {
    (line, reply, None)
}

/// Every command that decides, with what it is called where it is refused.
const DECIDING: &[(&str, &str)] = &[
    ("SET k new NX", "SET NX"),
    ("SET k new XX", "SET XX"),
    ("SET k new GET", "SET GET"),
    ("SET k new nx get", "SET NX GET"),
    ("SET k new get xx", "SET XX GET"),
    ("SETNX other v", "SETNX"),
    ("MSETNX other v", "MSETNX"),
    ("GETSET k new", "GETSET"),
    ("GETDEL k", "GETDEL"),
    ("HSETNX h other v", "HSETNX"),
    ("SPOP s", "SPOP"),
    ("SPOP s 2", "SPOP"),
    ("SMOVE s other x", "SMOVE"),
    ("ZADD z NX 1 n", "ZADD NX"),
    ("ZADD z XX 2 m", "ZADD XX"),
    ("ZADD z GT 2 m", "ZADD GT"),
    ("ZADD z LT 0 m", "ZADD LT"),
    ("ZADD z GT XX INCR 2 m", "ZADD XX GT"),
    ("ZADD z XX LT CH 0 m", "ZADD XX LT"),
    ("ZPOPMIN z", "ZPOPMIN"),
    ("ZPOPMAX z 2", "ZPOPMAX"),
    ("RENAMENX k other", "RENAMENX"),
    ("COPY k other", "COPY without REPLACE"),
    ("WATCH k", "WATCH"),
];

async fn fill(link: &mut Link) {
    link.check("SET k old", "+OK").await;
    link.check("SADD s x", ":1").await;
    link.check("HSET h f v", ":1").await;
    link.check("ZADD z 1 m", ":1").await;
}

#[tokio::test]
async fn what_decides_is_refused_where_replicas_may_differ_and_writes_nothing() {
    let port = Port::open().await;
    let mut link = port.link().await;
    fill(&mut link).await;
    let before = port.double.counts().1;
    for (line, command) in DECIDING {
        let refusal = format!("-CONSISTENCY {command} needs a strong keyspace (TIDE.MODE default strong)");
        link.check(line, &refusal).await;
        if !line.starts_with("WATCH") {
            link.send(format!("MULTI\r\n{line}\r\nEXEC\r\n")).await;
            link.expect(format!("+OK\r\n+QUEUED\r\n*1\r\n{refusal}\r\n")).await;
        }
    }
    assert!(port.double.counts().1 >= before + DECIDING.len(), "the engine refuses, not the port");
    link.check("SELECT notes", "+OK").await;
    link.check("SETNX k v", "-CONSISTENCY SETNX needs a strong keyspace (TIDE.MODE notes strong)").await;
    link.check("SELECT default", "+OK").await;
    link.check("MGET k other", "*2\n$3\nold\n$-1").await;
    link.check("SMEMBERS s", "*1\n$1\nx").await;
    link.check("HLEN h", ":1").await;
    link.check("ZRANGE z 0 -1 WITHSCORES", "*2\n$1\nm\n$1\n1").await;
    link.check("DBSIZE", ":4").await;
}

#[tokio::test]
async fn what_decides_is_done_where_this_node_may_decide() {
    for (line, _) in DECIDING {
        let port = Port::open().await;
        port.double.decide();
        let mut link = port.link().await;
        fill(&mut link).await;
        link.send(super::encode(line)).await;
        link.send("QUIT\r\n").await;
        let found = link.rest().await;
        assert!(!found.starts_with('-'), "{line}: {found}");
    }
}

/// What reads and writes back is no decision: it merges as any write does.
#[tokio::test]
async fn edits_and_copies_are_never_refused() {
    check_all(&[
        same("APPEND k v", ":1"),
        same("SETRANGE k 1 w", ":2"),
        same("SETBIT b 0 1", ":0"),
        same("INCRBYFLOAT f 0.1", "$3\n0.1"),
        same("HINCRBY h f 1", ":1"),
        same("HINCRBYFLOAT h g 0.5", "$3\n0.5"),
        same("RENAME k l", "+OK"),
        same("COPY l m REPLACE", ":1"),
        same("SADD s x", ":1"),
        same("SUNIONSTORE t s", ":1"),
        same("ZADD z 1 m", ":1"),
        same("ZADD z CH 2 m", ":1"),
        ("ZADD z INCR 2 m", "$1\n4", Some(",4")),
        ("ZINCRBY z 1 m", "$1\n5", Some(",5")),
        same("ZREMRANGEBYRANK z 0 -1", ":1"),
    ])
    .await;
}

#[tokio::test]
async fn what_spans_keyspaces_says_why_it_cannot_be() {
    let port = Port::open().await;
    for (line, why) in [
        ("COPY k l DB 1", "-ERR a batch never spans keyspaces"),
        ("SWAPDB 0 1", "-ERR what a keyspace is follows from its name"),
        ("MOVE k 1", "-CONSISTENCY MOVE needs a strong keyspace (TIDE.MODE default strong)"),
    ] {
        let mut link = port.link().await;
        link.send("SET k v\r\n").await;
        link.expect("+OK\r\n").await;
        link.send(super::encode(line)).await;
        link.expect(why).await;
    }
}

#[tokio::test]
async fn keys_of_every_kind_move_with_their_deadlines() {
    let port = Port::open().await;
    port.double.decide();
    let mut link = port.link().await;
    for (make, show, shown) in [
        ("SET k v", "GET k", "$1\nv"),
        ("INCRBY k 7", "GET k", "$1\n7"),
        ("SADD k a b", "SMEMBERS k", "*2\n$1\na\n$1\nb"),
        ("HSET k f v g w", "HGETALL k", "*4\n$1\nf\n$1\nv\n$1\ng\n$1\nw"),
        ("ZADD k 2 b 1 c", "ZRANGE k 0 -1 WITHSCORES", "*4\n$1\nc\n$1\n1\n$1\nb\n$1\n2"),
    ] {
        for (deadline, until) in [("PERSIST k", ":-1"), ("EXPIREAT k 9000000000", ":9000000000")] {
            link.send(super::encode(make)).await;
            link.line().await;
            link.ask(deadline).await;
            link.check("MOVE k 7", ":1").await;
            link.check("EXISTS k", ":0").await;
            link.check("SELECT 7", "+OK").await;
            link.check(show, shown).await;
            link.check("EXPIRETIME k", until).await;
            // What is there is never written over.
            link.check("MOVE k 8", ":1").await;
            link.check("SET k other", "+OK").await;
            link.check("SELECT 8", "+OK").await;
            link.check("MOVE k 7", ":0").await;
            link.check(show, shown).await;
            link.check("FLUSHALL", "+OK").await;
            link.check("SELECT 0", "+OK").await;
        }
    }
    link.check("MOVE k 0", "-ERR source and destination objects are the same").await;
    link.check("MOVE k 1", ":0").await;
    assert_eq!(link.ask("MULTI").await, "+OK");
    assert_eq!(link.ask("MOVE k 1").await, "-ERR Command not allowed inside a transaction");
}

#[tokio::test]
async fn key_that_is_too_long_to_move_is_left_alone() {
    let port = Port::open().await;
    port.double.decide();
    let mut link = port.link().await;
    let elements: Vec<String> = (0..=REVISION_ROWS_MAX).map(|number| number.to_string()).collect();
    let add: Vec<&str> = ["SADD", "s"].into_iter().chain(elements.iter().map(String::as_str)).collect();
    link.send(super::array(&add)).await;
    link.expect(":10001\r\n").await;
    let refused = link.ask("MOVE s 1").await;
    assert!(refused.starts_with("-ERR ") && refused.contains("10000"), "{refused}");
    link.check("SCARD s", ":10001").await;
    link.check("SELECT 1", "+OK").await;
    link.check("DBSIZE", ":0").await;
}

/// A value that a peer wrote changes a watched key as any other, and so does a write of the same value.
#[tokio::test]
async fn watched_key_is_changed_by_a_peer_and_by_the_same_value() {
    let (port, other) = (Port::open().await, super::Double::new(2));
    port.double.decide();
    let mut link = port.link().await;
    link.check("SET k v", "+OK").await;
    link.check("WATCH k", "+OK").await;
    other.write(tidelock_engine::write::Write::Set { key: b"k".to_vec(), value: b"w".to_vec() });
    port.double.pull(&other);
    link.send("MULTI\r\nSET k mine\r\nEXEC\r\n").await;
    link.expect("+OK\r\n+QUEUED\r\n*-1\r\n").await;
    link.send("SET k v\r\nWATCH k\r\nSET k v\r\nMULTI\r\nSET k mine\r\nEXEC\r\nGET k\r\n").await;
    link.expect("+OK\r\n+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n*-1\r\n$1\r\nv\r\n").await;
}

/// EXEC is of one keyspace, so keys of another cannot be watched for it.
#[tokio::test]
async fn keyspace_stays_selected_while_its_keys_are_watched() {
    let port = Port::open().await;
    port.double.decide();
    let mut link = port.link().await;
    link.check("WATCH k", "+OK").await;
    link.check("SELECT default", "+OK").await;
    link.check("SELECT 1", "-ERR keys of this keyspace are watched, and EXEC is of one; UNWATCH first").await;
    link.check("UNWATCH", "+OK").await;
    link.check("SELECT 1", "+OK").await;
}

#[tokio::test]
async fn watched_keys_are_bounded() {
    let port = Port::open_with(|config| {
        config.bulk_bytes_max = 1 << 10;
        config.command_bytes_max = 2 << 10;
    })
    .await;
    port.double.decide();
    let mut link = port.link().await;
    // Two keys of 960 bytes and 64 for each make 2048.
    let (first, second) = ("k".repeat(960), "l".repeat(960));
    link.check(&format!("WATCH {first}"), "+OK").await;
    link.check(&format!("WATCH {second}"), "+OK").await;
    link.check("WATCH m", "-ERR the watched keys are more than 2048 bytes").await;
    link.check("UNWATCH", "+OK").await;
    link.check("WATCH m", "+OK").await;
}

#[tokio::test]
async fn key_of_too_many_rows_cannot_be_watched() {
    let port = Port::open().await;
    port.double.decide();
    let elements = |from: u32, to: u32| (from..to).map(|n| n.to_string().into_bytes()).collect();
    let add = |elements| tidelock_engine::write::Write::Add { key: b"s".to_vec(), elements };
    port.double.write(add(elements(0, 10_000)));
    let mut link = port.link().await;
    link.check("WATCH s", "+OK").await;
    port.double.write(add(elements(10_000, 10_001)));
    link.check("WATCH s", "-ERR the key has more than 10000 rows, too many to tell whether it was changed")
        .await;
    link.send("MULTI\r\nPING\r\nEXEC\r\n").await;
    link.expect("+OK\r\n+QUEUED\r\n*-1\r\n").await;
}
