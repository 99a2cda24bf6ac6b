//! MEMORY, SLOWLOG, LATENCY and what else is told of the server, by example, also within transactions.

use super::Port;
use super::conformance::{Case, check_all, same};

const WRONG_NUMBER: &str = "-ERR wrong number of arguments for 'memory|doctor' command";

const SERVER: &[Case] = &[
    // A machine that is busy makes commands slow.
    same("CONFIG SET slowlog-log-slower-than -1", "+OK"),
    ("MEMORY USAGE missing", "$-1", Some("_")),
    same("SET key value", "+OK"),
    same("MEMORY USAGE key", ":8"),
    same("MEMORY USAGE key SAMPLES 0", ":8"),
    same("EXPIREAT key 9000000000", ":1"),
    // The deadline is a row of its own: the key once more, and eight bytes.
    same("MEMORY USAGE key", ":19"),
    same("INCR n", ":1"),
    same("MEMORY USAGE n", ":41"),
    same("HSET h f 12 g 3", ":2"),
    same("MEMORY USAGE h", ":7"),
    same("ZADD z 0.1 m", ":1"),
    same("MEMORY USAGE z", ":10"),
    same("MEMORY USAGE key SAMPLES x", "-ERR value is not an integer or out of range"),
    same("MEMORY USAGE key SAMPLES -1", "-ERR syntax error"),
    same("MEMORY USAGE key WHAT", "-ERR syntax error"),
    same("MEMORY DOCTOR x", WRONG_NUMBER),
    same("MEMORY STATS x", "-ERR wrong number of arguments for 'memory|stats' command"),
    same("MEMORY PURGE", "+OK"),
    same("MEMORY frob", "-ERR unknown subcommand 'frob'. Try MEMORY HELP."),
    same("LATENCY LATEST", "*0"),
    same("LATENCY HISTORY command", "*0"),
    same("LATENCY RESET", ":0"),
    same("LATENCY GRAPH command", "-ERR No samples available for event 'command'"),
    ("LATENCY HISTOGRAM frob", "*0", Some("%0")),
    same("LATENCY frob", "-ERR unknown subcommand 'frob'. Try LATENCY HELP."),
    same("SLOWLOG GET", "*0"),
    same("SLOWLOG GET -2", "-ERR count should be greater than or equal to -1"),
    same("SLOWLOG LEN", ":0"),
    same("SLOWLOG RESET", "+OK"),
    same("CLIENT PAUSE x", "-ERR timeout is not an integer or out of range"),
    same("CLIENT PAUSE -1", "-ERR timeout is negative"),
    same("CLIENT PAUSE 1 what", "-ERR CLIENT PAUSE mode must be WRITE or ALL"),
    same("CLIENT UNPAUSE", "+OK"),
];

#[tokio::test]
async fn what_is_told_of_the_server_is_as_redis_tells_it() {
    check_all(SERVER).await;
}

/// Of a key of very many rows some are read; what it takes is told all the same.
#[tokio::test]
async fn usage_of_a_large_key_is_about_right() {
    let port = Port::open().await;
    let elements = (0..5_000).map(|n| format!("{n:05}").into_bytes()).collect();
    port.double.write(tidelock_engine::write::Write::Add { key: b"set".to_vec(), elements });
    port.link().await.check("MEMORY USAGE set", &format!(":{}", 5_000 * 8)).await;
}

#[tokio::test]
async fn slow_log_shows_who_said_what() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("CLIENT SETNAME me", "+OK").await;
    link.check("CONFIG SET slowlog-log-slower-than 0", "+OK").await;
    link.send("SET k v\r\n").await;
    link.expect("+OK\r\n").await;
    link.send("CONFIG SET slowlog-log-slower-than -1\r\nSLOWLOG LEN\r\nQUIT\r\n").await;
    let rest = link.rest().await;
    assert!(rest.starts_with("+OK\\r\\n:"), "{rest}");
    let mut link = port.link().await;
    link.send("SLOWLOG GET\r\nQUIT\r\n").await;
    let told = link.rest().await;
    assert!(told.contains("*3\\r\\n$3\\r\\nSET\\r\\n$1\\r\\nk\\r\\n$1\\r\\nv\\r\\n$"), "{told}");
    assert!(told.contains("127.0.0.1:") && told.contains("$2\\r\\nme\\r\\n"), "{told}");
}

#[tokio::test]
async fn histogram_counts_every_call() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.send("GET a\r\nGET b\r\n").await;
    link.expect("$-1\r\n$-1\r\n").await;
    link.send("LATENCY HISTOGRAM get set\r\nQUIT\r\n").await;
    let told = link.rest().await;
    assert!(told.starts_with("*2\\r\\n$3\\r\\nget\\r\\n*4\\r\\n$5\\r\\ncalls\\r\\n:2\\r\\n$14"), "{told}");
    assert!(told.contains("\\r\\n:2\\r\\n+OK"), "the last step counts them all: {told}");
}

#[tokio::test]
async fn errors_are_counted_by_their_words() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("SADD s x", ":1").await;
    link.send("GET s\r\nfrob\r\nMULTI\r\nINCR s\r\nEXEC\r\nINFO errorstats\r\nQUIT\r\n").await;
    let told = link.rest().await;
    let counts = "# Errorstats\\r\\nerrorstat_ERR:count=1\\r\\nerrorstat_WRONGTYPE:count=2\\r\\n";
    assert!(told.contains(counts), "{told}");
}

/// What is told within a transaction is told once it is done, and not at all if it is not done.
#[tokio::test]
async fn what_is_told_in_a_transaction_is_told_when_it_is_done() {
    let port = Port::open().await;
    port.double.decide();
    let mut link = port.link().await;
    link.send("CLIENT GETNAME\r\nMULTI\r\nINFO keyspace\r\nSET k v\r\nCLIENT SETNAME me\r\n").await;
    link.expect("$-1\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n").await;
    link.send("CLIENT KILL nobody\r\nSLOWLOG LEN\r\nMEMORY PURGE\r\nGET k\r\nEXEC\r\n").await;
    link.expect("+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*7\r\n").await;
    link.expect(
        "$62\r\n# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0,conditional=local\r\n\r\n+OK\r\n+OK\r\n",
    )
    .await;
    link.expect("-ERR No such client\r\n:0\r\n+OK\r\n$1\r\nv\r\n").await;
    link.check("CLIENT GETNAME", "$2\nme").await;
    link.send("WATCH k\r\nSET k w\r\nMULTI\r\nCLIENT SETNAME other\r\nEXEC\r\nCLIENT GETNAME\r\n").await;
    link.expect("+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n*-1\r\n$2\r\nme\r\n").await;
    link.send("MULTI\r\nCLIENT frob\r\nCLIENT SETNAME other\r\nEXEC\r\nCLIENT GETNAME\r\n").await;
    link.expect("+OK\r\n-ERR unknown subcommand 'frob'. Try CLIENT HELP.\r\n+QUEUED\r\n-EXECABORT ").await;
    link.expect("Transaction discarded because of previous errors.\r\n$2\r\nme\r\n").await;
    link.send("MULTI\r\nCLIENT KILL TYPE normal SKIPME no\r\nEXEC\r\nPING\r\n").await;
    assert_eq!(link.rest().await, "+OK\\r\\n+QUEUED\\r\\n*1\\r\\n:1\\r\\n");
}
