//! Every data command, by example: what is sent, and every byte that comes back, in both protocols.

use super::{Link, Port};

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
const NOT_AN_INTEGER: &str = "-ERR value is not an integer or out of range";
const OVERFLOW: &str = "-ERR increment or decrement would overflow";

/// A command, its reply in RESP2, and in RESP3 if that differs.
pub(super) type Case = (&'static str, &'static str, Option<&'static str>);

pub(super) const fn same(line: &'static str, reply: &'static str) -> Case {
    (line, reply, None)
}

pub(super) const fn both(line: &'static str, resp2: &'static str, resp3: &'static str) -> Case {
    (line, resp2, Some(resp3))
}

/// Runs the cases in order on a new node, once per protocol. RESP3 is chosen by a HELLO that is not looked at.
pub(super) async fn check_all(cases: &[Case]) {
    for is_resp3 in [false, true] {
        let port = Port::open().await;
        let mut link = port.link().await;
        if is_resp3 {
            greet(&mut link).await;
        }
        for (line, resp2, resp3) in cases {
            link.check(line, resp3.filter(|_| is_resp3).unwrap_or(resp2)).await;
        }
        port.server.shutdown().await;
    }
}

pub(super) async fn greet(link: &mut Link) {
    link.send("HELLO 3\r\n").await;
    link.expect(
        "%7\r\n$6\r\nserver\r\n$8\r\ntidelock\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n\
         $2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
    )
    .await;
}

#[tokio::test]
async fn strings_answer_as_redis_does() {
    check_all(&[
        both("GET k", "$-1", "_"),
        same("SET k v", "+OK"),
        same("get k", "$1\nv"),
        same("SET k ''", "+OK"),
        same("GET k", "$0\n"),
        same(r#"SET "\x00\xff" "\r\n""#, "+OK"),
        same("MSET a 1 b 2 a 3", "+OK"),
        both("MGET a missing b", "*3\n$1\n3\n$-1\n$1\n2", "*3\n$1\n3\n_\n$1\n2"),
        same("SADD s x", ":1"),
        both("MGET s a", "*2\n$-1\n$1\n3", "*2\n_\n$1\n3"),
        same("GET s", WRONG_TYPE),
        same("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command"),
        same("SET k", "-ERR wrong number of arguments for 'set' command"),
        same("GET", "-ERR wrong number of arguments for 'get' command"),
        same("GET a b", "-ERR wrong number of arguments for 'get' command"),
        same("SET s now-a-string", "+OK"),
        same("GET s", "$12\nnow-a-string"),
    ])
    .await;
}

#[tokio::test]
async fn counters_answer_as_redis_does() {
    check_all(&[
        same("INCR n", ":1"),
        same("INCRBY n 41", ":42"),
        same("GET n", "$2\n42"),
        same("DECR n", ":41"),
        same("DECRBY n 41", ":0"),
        same("TYPE n", "+string"),
        same("INCRBY n -5", ":-5"),
        same("SET r 10", "+OK"),
        same("INCR r", ":11"),
        same("GET r", "$2\n11"),
        same("SET text abc", "+OK"),
        same("INCR text", NOT_AN_INTEGER),
        same("SET zeros 007", "+OK"),
        same("INCR zeros", NOT_AN_INTEGER),
        same("INCRBY n x", NOT_AN_INTEGER),
        same("INCRBY n 1.5", NOT_AN_INTEGER),
        same("INCRBY n 9223372036854775808", NOT_AN_INTEGER),
        same("SET max 9223372036854775807", "+OK"),
        same("INCR max", OVERFLOW),
        same("GET max", "$19\n9223372036854775807"),
        same("SET min -9223372036854775808", "+OK"),
        same("DECR min", OVERFLOW),
        same("DECRBY n -9223372036854775808", "-ERR decrement would overflow"),
        same("SADD s x", ":1"),
        same("INCR s", WRONG_TYPE),
        same("INCR", "-ERR wrong number of arguments for 'incr' command"),
        same("INCRBY n", "-ERR wrong number of arguments for 'incrby' command"),
        same("GET n", "$2\n-5"),
    ])
    .await;
}

#[tokio::test]
async fn sets_answer_as_redis_does() {
    check_all(&[
        both("SMEMBERS s", "*0", "~0"),
        same("SCARD s", ":0"),
        same("SISMEMBER s a", ":0"),
        same("SREM s a", ":0"),
        same("SADD s b a b", ":2"),
        same("SADD s a c", ":1"),
        both("SMEMBERS s", "*3\n$1\na\n$1\nb\n$1\nc", "~3\n$1\na\n$1\nb\n$1\nc"),
        same("SCARD s", ":3"),
        same("SISMEMBER s a", ":1"),
        same("SISMEMBER s z", ":0"),
        same("SREM s a z", ":1"),
        same("TYPE s", "+set"),
        same("SREM s b c", ":2"),
        same("EXISTS s", ":0"),
        same("SET k v", "+OK"),
        same("SADD k a", WRONG_TYPE),
        same("SREM k a", WRONG_TYPE),
        same("SMEMBERS k", WRONG_TYPE),
        same("SISMEMBER k a", WRONG_TYPE),
        same("SCARD k", WRONG_TYPE),
        same("SADD s", "-ERR wrong number of arguments for 'sadd' command"),
        same("SREM s", "-ERR wrong number of arguments for 'srem' command"),
    ])
    .await;
}

#[tokio::test]
async fn hashes_answer_as_redis_does() {
    check_all(&[
        both("HGETALL h", "*0", "%0"),
        same("HLEN h", ":0"),
        both("HGET h f", "$-1", "_"),
        same("HDEL h f", ":0"),
        same("HSET h f 1 g 2", ":2"),
        same("HSET h f 3 i 4", ":1"),
        same("HGET h f", "$1\n3"),
        both(
            "HGETALL h",
            "*6\n$1\nf\n$1\n3\n$1\ng\n$1\n2\n$1\ni\n$1\n4",
            "%3\n$1\nf\n$1\n3\n$1\ng\n$1\n2\n$1\ni\n$1\n4",
        ),
        same("HLEN h", ":3"),
        same("TYPE h", "+hash"),
        same("HDEL h f g nothing", ":2"),
        same("HDEL h i", ":1"),
        same("TYPE h", "+none"),
        same("SET k v", "+OK"),
        same("HSET k f v", WRONG_TYPE),
        same("HGET k f", WRONG_TYPE),
        same("HDEL k f", WRONG_TYPE),
        same("HGETALL k", WRONG_TYPE),
        same("HLEN k", WRONG_TYPE),
        same("HSET h f 1 g", "-ERR wrong number of arguments for 'hset' command"),
        same("HSET h f", "-ERR wrong number of arguments for 'hset' command"),
    ])
    .await;
}

#[tokio::test]
async fn keys_of_any_type_answer_as_redis_does() {
    check_all(&[
        same("DBSIZE", ":0"),
        same("KEYS *", "*0"),
        same("MSET one 1 two 2", "+OK"),
        same("SADD three x", ":1"),
        same("HSET four f v", ":1"),
        same("INCR five", ":1"),
        same("DBSIZE", ":5"),
        same("EXISTS one two three four five six", ":5"),
        same("EXISTS one one", ":2"),
        same("TYPE six", "+none"),
        same("KEYS t*", "*2\n$5\nthree\n$3\ntwo"),
        same("KEYS ?[ni]*e", "*2\n$4\nfive\n$3\none"),
        same("KEYS one", "*1\n$3\none"),
        same("DEL one three six", ":2"),
        same("DEL one", ":0"),
        same("DBSIZE", ":3"),
        same("FLUSHDB LATER", "-ERR syntax error"),
        same("FLUSHDB ASYNC SYNC", "-ERR syntax error"),
        same("FLUSHDB async", "+OK"),
        same("DBSIZE", ":0"),
        same("FLUSHDB", "+OK"),
        same("DEL", "-ERR wrong number of arguments for 'del' command"),
        same("EXISTS", "-ERR wrong number of arguments for 'exists' command"),
        same("TYPE a b", "-ERR wrong number of arguments for 'type' command"),
        same("DBSIZE now", "-ERR wrong number of arguments for 'dbsize' command"),
        same("KEYS", "-ERR wrong number of arguments for 'keys' command"),
    ])
    .await;
}

#[tokio::test]
async fn too_long_keys_and_elements_are_refused_one_past_the_bound() {
    let port = Port::open().await;
    let mut link = port.link().await;
    let (fits, too_long) = ("k".repeat(65_536), "k".repeat(65_537));
    link.check(&format!("SET {fits} v"), "+OK").await;
    link.check(&format!("GET {fits}"), "$1\nv").await;
    for line in [format!("SET {too_long} v"), format!("GET {too_long}"), format!("MGET a {too_long}")] {
        link.check(&line, "-ERR key of 65537 bytes; at most 65536 are allowed").await;
    }
    link.check(&format!("SADD s {fits}"), ":1").await;
    link.check(
        &format!("SADD s {too_long}"),
        "-ERR element or field of 65537 bytes; at most 65536 are allowed",
    )
    .await;
    link.check(
        &format!("HSET h {too_long} v"),
        "-ERR element or field of 65537 bytes; at most 65536 are allowed",
    )
    .await;
}
