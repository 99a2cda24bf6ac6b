//! The commands about the end of a key, by example. The node's own clock stands at 1,800,000,000 Unix seconds, later
//! than that of the machine that tells what a moment from now is, so moments are named.

use super::Port;
use super::conformance::{Case, check_all};

const fn same(line: &'static str, reply: &'static str) -> Case {
    (line, reply, None)
}

const UNIX: &str = ":9000000000";
const UNIX_MS: &str = ":9000000000000";

#[tokio::test]
async fn end_of_a_key_is_answered_as_redis_does() {
    check_all(&[
        same("TTL k", ":-2"),
        same("PTTL k", ":-2"),
        same("EXPIRETIME k", ":-2"),
        same("EXPIRE k 10", ":0"),
        same("PERSIST k", ":0"),
        same("SET k v", "+OK"),
        same("TTL k", ":-1"),
        same("PEXPIRETIME k", ":-1"),
        same("PERSIST k", ":0"),
        same("EXPIREAT k 9000000000", ":1"),
        same("EXPIRETIME k", UNIX),
        same("PEXPIRETIME k", UNIX_MS),
        same("PEXPIREAT k 9000000000499", ":1"),
        same("EXPIRETIME k", UNIX),
        same("PEXPIREAT k 9000000000500", ":1"),
        same("EXPIRETIME k", ":9000000001"),
        same("PERSIST k", ":1"),
        same("TTL k", ":-1"),
        same("EXPIREAT k 1", ":1"),
        same("EXISTS k", ":0"),
        same("SADD s a b", ":2"),
        same("EXPIREAT s 9000000000", ":1"),
        same("SADD s c", ":1"),
        same("EXPIRETIME s", UNIX),
        same("PEXPIRE s -1", ":1"),
        same("TYPE s", "+none"),
        same("DBSIZE", ":0"),
    ])
    .await;
}

#[tokio::test]
async fn options_of_expire_are_those_of_redis() {
    check_all(&[
        same("SET k v", "+OK"),
        same("EXPIREAT k 9000000000 XX", ":0"),
        same("EXPIREAT k 9000000000 GT", ":0"),
        same("EXPIREAT k 9000000000 xx lt", ":0"),
        same("EXPIREAT k 9000000000 NX", ":1"),
        same("EXPIREAT k 9000000001 NX", ":0"),
        same("EXPIREAT k 9000000000 GT", ":0"),
        same("EXPIREAT k 9000000001 xx gt", ":1"),
        same("EXPIREAT k 9000000001 LT", ":0"),
        same("EXPIREAT k 9000000000 XX LT", ":1"),
        same("EXPIREAT k 1 GT", ":0"),
        same("EXPIRETIME k", UNIX),
        same("PERSIST k", ":1"),
        same("EXPIREAT k 9000000000 LT", ":1"),
        same("EXPIRE k 10 NX XX", "-ERR NX and XX, GT or LT options at the same time are not compatible"),
        same("EXPIRE k 10 NX GT", "-ERR NX and XX, GT or LT options at the same time are not compatible"),
        same("EXPIRE k 10 LT GT", "-ERR GT and LT options at the same time are not compatible"),
        same("EXPIRE k 10 what", "-ERR Unsupported option what"),
        same("EXPIRE k ten", "-ERR value is not an integer or out of range"),
        same("EXPIRE k 9223372036854775807", "-ERR invalid expire time in 'expire' command"),
        same("PEXPIRE k 9223372036854775807", "-ERR invalid expire time in 'pexpire' command"),
        same("EXPIREAT k 9223372036854775807", "-ERR invalid expire time in 'expireat' command"),
        same("EXPIRE k", "-ERR wrong number of arguments for 'expire' command"),
        same("TTL", "-ERR wrong number of arguments for 'ttl' command"),
        same("EXPIRETIME k", UNIX),
    ])
    .await;
}

#[tokio::test]
async fn set_says_how_long_its_key_lives() {
    check_all(&[
        same("SET k 1 EXAT 9000000000", "+OK"),
        same("EXPIRETIME k", UNIX),
        same("INCR k", ":2"),
        same("EXPIRETIME k", UNIX),
        same("SET k 3 KEEPTTL", "+OK"),
        same("PEXPIRETIME k", UNIX_MS),
        same("SET k 4", "+OK"),
        same("EXPIRETIME k", ":-1"),
        same("SET k 5 pxat 9000000000000", "+OK"),
        same("EXPIRETIME k", UNIX),
        same("MSET k 6", "+OK"),
        same("TTL k", ":-1"),
        same("SET k 7 EX 0", "-ERR invalid expire time in 'set' command"),
        same("SET k 7 PX -1", "-ERR invalid expire time in 'set' command"),
        same("SET k 7 EX 9223372036854775807", "-ERR invalid expire time in 'set' command"),
        same("SET k 7 EX ten", "-ERR value is not an integer or out of range"),
        same("SET k 7 EX", "-ERR syntax error"),
        same("SET k 7 EX 10 KEEPTTL", "-ERR syntax error"),
        same("SET k 7 EX 10 PX 10", "-ERR syntax error"),
        same("SETEX k 0 7", "-ERR invalid expire time in 'setex' command"),
        same("PSETEX k 0 7", "-ERR invalid expire time in 'psetex' command"),
        same("SETEX k 10", "-ERR wrong number of arguments for 'setex' command"),
        same("GET k", "$1\n6"),
        same("SET k 7 EXAT 1", "+OK"),
        same("EXISTS k", ":0"),
    ])
    .await;
}

/// What is said from now on counts from now, whatever the unit.
#[tokio::test]
async fn time_that_is_left_is_counted_from_now() {
    let port = Port::open().await;
    let mut link = port.link().await;
    let years_s = 40 * 365 * 24 * 3_600_i64;
    let cases = [
        (format!("EXPIRE k {years_s}"), "TTL k", years_s),
        (format!("PEXPIRE k {}", years_s * 1_000), "PTTL k", years_s * 1_000),
        (format!("SETEX k {years_s} v"), "TTL k", years_s),
        (format!("PSETEX k {} v", years_s * 1_000), "PTTL k", years_s * 1_000),
        (format!("SET k v EX {years_s}"), "PTTL k", years_s * 1_000),
        (format!("SET k v PX {}", years_s * 1_000), "TTL k", years_s),
    ];
    link.check("SET k v", "+OK").await;
    for (line, question, expected) in cases {
        link.check(&line, if line.contains("PIRE") { ":1" } else { "+OK" }).await;
        let left = link.ask(question).await;
        let left: i64 = left.trim_start_matches(':').parse().expect("it is a number");
        let minute = if question == "TTL k" { 60 } else { 60_000 };
        assert!((expected - minute..=expected).contains(&left), "{line}: {left}");
    }
    port.server.shutdown().await;
}
