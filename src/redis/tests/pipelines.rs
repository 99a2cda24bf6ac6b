//! Many commands at once: the replies keep their order, and the node is asked as seldom as may be.

use tidelock_engine::ports::Durability;
use tidelock_engine::request::RequestError;

use super::{Port, array, encode};

#[tokio::test]
async fn reads_see_the_writes_before_them_in_one_turn() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.send("GET k\r\nSET k 1\r\nINCR k\r\nGET k\r\nDEL k\r\nEXISTS k\r\nPING\r\nSADD k x\r\n").await;
    link.expect("$-1\r\n+OK\r\n:2\r\n$1\r\n2\r\n:1\r\n:0\r\n+PONG\r\n:1\r\n").await;
    assert_eq!(port.double.counts(), (1, 1, 0));
}

#[tokio::test]
async fn reads_alone_never_reach_the_event_loop() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.send("GET k\r\nSMEMBERS s\r\nMGET a b\r\nHGETALL h\r\nTYPE k\r\nDBSIZE\r\n").await;
    link.expect("$-1\r\n*0\r\n*2\r\n$-1\r\n$-1\r\n*0\r\n+none\r\n:0\r\n").await;
    assert_eq!(port.double.counts(), (0, 0, 1));
}

/// What waits for a client that does not read is counted; what was read ahead for it is not.
#[tokio::test]
async fn large_values_are_read_as_they_are_sent() {
    let port = Port::open().await;
    let mut link = port.link().await;
    let value = "v".repeat(600_000);
    link.send(array(&["SET", "big", &value])).await;
    link.expect("+OK\r\n").await;
    link.send("GET big\r\n".repeat(16)).await;
    link.expect(format!("$600000\r\n{value}\r\n").repeat(16)).await;
    let (.., snapshots) = port.double.counts();
    assert!(snapshots >= 8, "16 values of 600 KB came from {snapshots} snapshots");
    // One command is answered from one snapshot, however much that is.
    link.send("MGET big big big big\r\n").await;
    link.expect(format!("*4\r\n{}", format!("$600000\r\n{value}\r\n").repeat(4))).await;
}

#[tokio::test]
async fn each_keyspace_and_each_batch_is_a_request_of_the_turn() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.send("SET k 0\r\nSELECT 1\r\nSET k 1\r\nGET k\r\nSELECT 0\r\nGET k\r\nMSET a 1 b 2\r\nGET a\r\n")
        .await;
    link.expect("+OK\r\n+OK\r\n+OK\r\n$1\r\n1\r\n+OK\r\n$1\r\n0\r\n+OK\r\n$1\r\n1\r\n").await;
    assert_eq!(port.double.counts(), (1, 5, 0));
    link.send("SET k 2\r\nMULTI\r\nINCR k\r\nEXEC\r\nGET k\r\n").await;
    link.expect("+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n:3\r\n$1\r\n3\r\n").await;
    assert_eq!(port.double.counts(), (2, 8, 0));
}

#[tokio::test]
async fn long_reads_do_not_go_with_writes() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.send("SADD s a\r\nSMEMBERS s\r\nSADD s b\r\nSMEMBERS s\r\n").await;
    link.expect(":1\r\n*1\r\n$1\r\na\r\n:1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n").await;
    assert_eq!(port.double.counts(), (2, 2, 2));
}

#[tokio::test]
async fn many_reads_beside_writes_take_several_turns_and_keep_their_order() {
    let port = Port::open().await;
    let mut link = port.link().await;
    let sent: Vec<String> = (0..1_000).map(|step| format!("SET k {step}\r\nGET k\r\n")).collect();
    let bulk = |step: i32| format!("+OK\r\n${}\r\n{step}\r\n", step.to_string().len());
    let expected: Vec<String> = (0..1_000).map(bulk).collect();
    link.send(sent.concat()).await;
    link.expect(expected.concat()).await;
    let (turns, ..) = port.double.counts();
    assert!((8..100).contains(&turns), "{turns} turns");
}

#[tokio::test]
async fn keys_and_scan_see_the_writes_before_them() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.send("SET k v\r\nKEYS *\r\nSCAN 0\r\nDEL k\r\nKEYS *\r\n").await;
    link.expect("+OK\r\n*1\r\n$1\r\nk\r\n*2\r\n$1\r\n0\r\n*1\r\n$1\r\nk\r\n:1\r\n*0\r\n").await;
}

#[tokio::test]
async fn pipeline_longer_than_the_buffers_is_answered_in_order() {
    let port = Port::open().await;
    let mut link = port.link().await;
    let value = "v".repeat(1_000);
    let texts: Vec<String> = (0..2_000).map(|step| format!("{step}-{value}")).collect();
    let sent: Vec<Vec<u8>> = texts.iter().map(|text| encode(&format!("ECHO {text}"))).collect();
    let expected: Vec<String> = texts.iter().map(|text| format!("${}\r\n{text}\r\n", text.len())).collect();
    // All is sent before anything is read: nobody may wait for the other.
    link.send(sent.concat()).await;
    link.expect(expected.concat()).await;
}

#[tokio::test]
async fn durability_of_the_session_goes_with_every_request() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("SET k v", "+OK").await;
    assert_eq!(port.double.last_durability(), Some(Durability::Durable));
    link.check("TIDE.DURABILITY buffered", "+OK").await;
    link.check("SET k v", "+OK").await;
    assert_eq!(port.double.last_durability(), Some(Durability::Buffered));
}

#[tokio::test]
async fn failed_requests_say_what_is_known_about_them() {
    type Case = (fn() -> RequestError, &'static str);
    let cases: [Case; 3] = [
        (
            || RequestError::Commit("cannot write log: disk full".to_owned()),
            "-UNKNOWN cannot write log: disk full",
        ),
        (|| RequestError::Closed, "-TRYAGAIN the node is shutting down"),
        (|| RequestError::TooManyKeyspaces(9), "-ERR this node holds 9 keyspaces, which is the most it can"),
    ];
    for (failure, reply) in cases {
        let port = Port::open().await;
        let mut link = port.link().await;
        port.double.fail_with(failure);
        link.send("SET k v\r\nGET k\r\nPING\r\nMULTI\r\nSET k v\r\nEXEC\r\nGET k\r\n").await;
        link.expect(format!("{reply}\r\n{reply}\r\n+PONG\r\n+OK\r\n+QUEUED\r\n{reply}\r\n{reply}\r\n")).await;
        link.check("GET k", reply).await;
        link.check("KEYS *", reply).await;
    }
}

#[tokio::test]
async fn mset_does_all_or_nothing() {
    let port = Port::open().await;
    let mut link = port.link().await;
    let long = "k".repeat(65_537);
    link.send(array(&["MSET", "a", "1", &long, "2"])).await;
    link.expect("-ERR key of 65537 bytes; at most 65536 are allowed\r\n").await;
    link.check("EXISTS a", ":0").await;
}
