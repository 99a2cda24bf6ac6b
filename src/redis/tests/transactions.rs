//! MULTI, EXEC and DISCARD.

use super::Port;

#[tokio::test]
async fn transaction_is_one_request_of_one_turn() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.send("MULTI\r\n").await;
    link.expect("+OK\r\n").await;
    for line in ["SET k v", "INCR n", "GET k", "SADD s a b", "SMEMBERS s", "EXISTS k n", "PING", "ECHO x"] {
        link.send(super::encode(line)).await;
        link.expect("+QUEUED\r\n").await;
    }
    assert_eq!(port.double.counts(), (0, 0, 0));
    link.send("EXEC\r\n").await;
    link.expect("*8\r\n+OK\r\n:1\r\n$1\r\nv\r\n:2\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n:2\r\n+PONG\r\n$1\r\nx\r\n")
        .await;
    assert_eq!(port.double.counts(), (1, 1, 0));
}

#[tokio::test]
async fn transaction_of_reads_is_read_from_one_snapshot() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.send("MULTI\r\nGET a\r\nMGET b c\r\nDBSIZE\r\nEXEC\r\n").await;
    link.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n$-1\r\n*2\r\n$-1\r\n$-1\r\n:0\r\n").await;
    assert_eq!(port.double.counts(), (0, 0, 1));
}

#[tokio::test]
async fn failed_command_leaves_the_others_alone() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("SADD s x", ":1").await;
    link.send("MULTI\r\nSET k v\r\nINCR s\r\nINCR n\r\nEXEC\r\n").await;
    link.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n").await;
    link.expect("-WRONGTYPE Operation against a key holding the wrong kind of value\r\n:1\r\n").await;
    link.check("MGET k n", "*2\n$1\nv\n$1\n1").await;
}

/// A command of several steps is done whole also in a transaction, whose other commands are done all the same.
#[tokio::test]
async fn failed_step_of_a_command_leaves_its_other_steps_undone() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("SADD s x", ":1").await;
    link.send("MULTI\r\nGETEX s EX 100\r\nSET k v\r\nGETEX k EXAT 9000000000\r\nMSET a 1 b 2\r\nEXEC\r\n")
        .await;
    link.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*4\r\n").await;
    link.expect("-WRONGTYPE Operation against a key holding the wrong kind of value\r\n").await;
    link.expect("+OK\r\n$1\r\nv\r\n+OK\r\n").await;
    link.check("TTL s", ":-1").await;
    link.check("EXPIRETIME k", ":9000000000").await;
    link.check("MGET a b", "*2\n$1\n1\n$1\n2").await;
}

#[tokio::test]
async fn command_that_cannot_be_queued_lets_exec_refuse_all() {
    let cases = [
        ("GET", "-ERR wrong number of arguments for 'get' command"),
        ("frobnicate", "-ERR unknown command 'frobnicate', with args beginning with: "),
        ("SELECT 1", "-ERR Command not allowed inside a transaction"),
        ("KEYS *", "-ERR Command not allowed inside a transaction"),
        ("WAIT 0 0", "-ERR Command not allowed inside a transaction"),
        ("TIDE.STATUS", "-ERR Command not allowed inside a transaction"),
        ("HELLO 3", "-ERR Command not allowed inside a transaction"),
        ("QUIT", "-ERR Command not allowed inside a transaction"),
        ("INCRBY n x", "-ERR value is not an integer or out of range"),
        ("MSET a", "-ERR wrong number of arguments for 'mset' command"),
    ];
    let port = Port::open().await;
    let mut link = port.link().await;
    for (line, refusal) in cases {
        link.send(format!("MULTI\r\nSET k v\r\n{line}\r\nSET k w\r\nEXEC\r\n")).await;
        link.expect(format!("+OK\r\n+QUEUED\r\n{refusal}\r\n+QUEUED\r\n")).await;
        link.expect("-EXECABORT Transaction discarded because of previous errors.\r\n").await;
    }
    link.check("EXISTS k", ":0").await;
    assert_eq!(port.double.counts().0, 0);
}

#[tokio::test]
async fn second_multi_is_refused_and_spoils_nothing() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.send("MULTI\r\nINCR n\r\nMULTI\r\nEXEC\r\n").await;
    link.expect("+OK\r\n+QUEUED\r\n-ERR MULTI calls can not be nested\r\n*1\r\n:1\r\n").await;
}

#[tokio::test]
async fn discard_forgets_and_nothing_is_open_afterwards() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.send("MULTI\r\nSET k v\r\nDISCARD\r\nEXISTS k\r\nEXEC\r\nDISCARD\r\n").await;
    link.expect("+OK\r\n+QUEUED\r\n+OK\r\n:0\r\n-ERR EXEC without MULTI\r\n-ERR DISCARD without MULTI\r\n")
        .await;
    link.send("MULTI\r\nEXEC\r\nEXEC now\r\nGET k\r\n").await;
    link.expect("+OK\r\n*0\r\n-ERR wrong number of arguments for 'exec' command\r\n$-1\r\n").await;
}

#[tokio::test]
async fn transaction_is_bounded_in_bytes() {
    let port = Port::open_with(|config| {
        config.bulk_bytes_max = 1 << 10;
        config.command_bytes_max = 2 << 10;
    })
    .await;
    let mut link = port.link().await;
    // Two commands of 3 + 1 + 924 bytes and 32 for each argument make 2048; one byte more does not fit.
    let (fits, too_long) = ("v".repeat(924), "v".repeat(925));
    link.send(format!("MULTI\r\nSET k {fits}\r\nSET k {too_long}\r\nEXEC\r\n")).await;
    link.expect("+OK\r\n+QUEUED\r\n-ERR transaction of more than 2048 bytes\r\n").await;
    link.expect("-EXECABORT Transaction discarded because of previous errors.\r\n").await;
    link.send(format!("MULTI\r\nSET k {fits}\r\nSET k {fits}\r\nEXEC\r\n")).await;
    link.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n").await;
}

#[tokio::test]
async fn batch_that_does_not_fit_into_a_frame_is_refused() {
    let port = Port::open().await;
    let mut link = port.link().await;
    let fifth = "v".repeat(240 << 10);
    link.send(super::array(&["MSET", "a", &fifth, "b", &fifth, "c", &fifth, "d", &fifth, "e", &fifth])).await;
    link.send("EXISTS a b c d e\r\nQUIT\r\n").await;
    let text = link.rest().await;
    assert!(text.starts_with("-ERR batch of 12288"), "{text}");
    assert!(text.ends_with(":0\\r\\n+OK\\r\\n"), "{text}");
}

#[tokio::test]
async fn watch_is_refused_in_a_transaction_and_does_not_spoil_it() {
    let port = Port::open().await;
    port.double.decide();
    let mut link = port.link().await;
    link.send("MULTI\r\nSET k v\r\nWATCH k\r\nEXEC\r\nGET k\r\n").await;
    link.expect("+OK\r\n+QUEUED\r\n-ERR WATCH inside MULTI is not allowed\r\n*1\r\n+OK\r\n$1\r\nv\r\n").await;
}
