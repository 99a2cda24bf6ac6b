//! The commands that decide: refused in an eventual keyspace, and done where the operator lets this node decide.
//! What they answer then is compared with redis-server in `side_by_side`.

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
    let mut link = port.link().await;
    for line in ["MOVE k 1", "COPY k l DB 1", "SWAPDB 0 1"] {
        link.send(super::encode(line)).await;
        link.expect("-ERR a batch never spans keyspaces").await;
        link.send("QUIT\r\n").await;
        link.rest().await;
        link = port.link().await;
    }
}

#[tokio::test]
async fn mode_of_a_keyspace_is_eventual_until_strong_ones_exist() {
    check_all(&[
        same("TIDE.MODE notes", "$8\neventual"),
        same("TIDE.MODE notes eventual", "+OK"),
        same(
            "TIDE.MODE notes STRONG",
            "-ERR strong keyspaces do not exist yet; TIDE.KEYSPACE CONDITIONAL lets this node decide by what it sees",
        ),
        same("TIDE.MODE notes weak", "-ERR syntax error"),
        same("TIDE.MODE notes strong now", "-ERR syntax error"),
        same("TIDE.MODE", "-ERR wrong number of arguments for 'tide.mode' command"),
    ])
    .await;
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
