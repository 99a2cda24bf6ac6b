//! SUBSCRIBE, PUBLISH and PUBSUB between clients of one node, in both protocols.

use super::{Link, Port, encode};

impl Port {
    /// A client that has said what it must.
    pub(super) async fn client(&self, protocol: &str) -> Link {
        let mut link = self.link().await;
        if protocol == "3" {
            link.send("HELLO 3\r\nECHO hello\r\n").await;
            link.skip_behind("$5\r\nhello\r\n").await;
        }
        link
    }
}

impl Link {
    pub(super) async fn skip_behind(&mut self, end: &str) {
        use tokio::io::AsyncReadExt;
        let mut found = Vec::new();
        while !found.ends_with(end.as_bytes()) {
            found.push(self.stream.read_u8().await.expect("the connection is open"));
        }
    }

    /// Sends a line and expects these lines, and perhaps more behind them.
    pub(super) async fn gives(&mut self, line: &str, reply: &str) {
        eprintln!("{line}");
        self.send(&encode(line)).await;
        self.expect(super::lines(reply)).await;
    }

    pub(super) async fn hears(&mut self, pushed: &str) {
        self.expect(super::lines(pushed)).await;
    }
}

#[tokio::test]
async fn messages_reach_who_subscribed_in_both_protocols() {
    let port = Port::open().await;
    for (protocol, mark) in [("2", "*"), ("3", ">")] {
        let (mut hearer, mut teller) = (port.client(protocol).await, port.client(protocol).await);
        hearer
            .gives(
                "SUBSCRIBE news other",
                &format!("{mark}3\n$9\nsubscribe\n$4\nnews\n:1\n{mark}3\n$9\nsubscribe\n$5\nother\n:2"),
            )
            .await;
        hearer.gives("PSUBSCRIBE n*", &format!("{mark}3\n$10\npsubscribe\n$2\nn*\n:3")).await;
        hearer.gives("SSUBSCRIBE shard", &format!("{mark}3\n$10\nssubscribe\n$5\nshard\n:1")).await;
        teller.check("PUBLISH news hello", ":2").await;
        hearer.hears(&format!("{mark}3\n$7\nmessage\n$4\nnews\n$5\nhello")).await;
        hearer.hears(&format!("{mark}4\n$8\npmessage\n$2\nn*\n$4\nnews\n$5\nhello")).await;
        teller.check("SPUBLISH shard hi", ":1").await;
        teller.check("PUBLISH shard hi", ":0").await;
        hearer.hears(&format!("{mark}3\n$8\nsmessage\n$5\nshard\n$2\nhi")).await;
        teller.check("PUBSUB CHANNELS", "*2\n$4\nnews\n$5\nother").await;
        teller.check("PUBSUB CHANNELS o*", "*1\n$5\nother").await;
        teller.check("PUBSUB NUMSUB news none", "*4\n$4\nnews\n:1\n$4\nnone\n:0").await;
        teller.check("PUBSUB NUMPAT", ":1").await;
        teller.check("PUBSUB SHARDCHANNELS", "*1\n$5\nshard").await;
        teller.check("PUBSUB SHARDNUMSUB shard", "*2\n$5\nshard\n:1").await;
        hearer.gives("UNSUBSCRIBE news", &format!("{mark}3\n$11\nunsubscribe\n$4\nnews\n:2")).await;
        hearer.gives("UNSUBSCRIBE", &format!("{mark}3\n$11\nunsubscribe\n$5\nother\n:1")).await;
        let nothing = if protocol == "2" { "$-1" } else { "_" };
        hearer.gives("UNSUBSCRIBE", &format!("{mark}3\n$11\nunsubscribe\n{nothing}\n:1")).await;
        hearer.gives("PUNSUBSCRIBE", &format!("{mark}3\n$12\npunsubscribe\n$2\nn*\n:0")).await;
        hearer.gives("SUNSUBSCRIBE nothing", &format!("{mark}3\n$12\nsunsubscribe\n$7\nnothing\n:1")).await;
        hearer.gives("SUNSUBSCRIBE", &format!("{mark}3\n$12\nsunsubscribe\n$5\nshard\n:0")).await;
        hearer.check("PING", "+PONG").await;
        teller.check("PUBLISH news gone", ":0").await;
    }
}

#[tokio::test]
async fn who_listens_in_resp2_is_told_what_it_may_say() {
    let port = Port::open().await;
    let mut link = port.client("2").await;
    link.gives("SUBSCRIBE c", "*3\n$9\nsubscribe\n$1\nc\n:1").await;
    let refused = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context";
    for command in ["GET k", "PUBLISH c m", "MULTI", "HELLO 3"] {
        let name = command.split(' ').next().unwrap_or_default().to_ascii_lowercase();
        link.gives(command, &format!("-ERR Can't execute '{name}': {refused}")).await;
    }
    link.gives("PING", "*2\n$4\npong\n$0\n").await;
    link.gives("PING hi", "*2\n$4\npong\n$2\nhi").await;
    link.gives("PING a b", "-ERR wrong number of arguments for 'ping' command").await;
    link.gives("RESET", "+RESET").await;
    link.check("GET k", "$-1").await;
    link.check("PUBLISH c m", ":0").await;
    let mut link = port.client("3").await;
    link.gives("SUBSCRIBE c", ">3\n$9\nsubscribe\n$1\nc\n:1").await;
    link.check("GET k", "_").await;
    link.gives("PING", "+PONG").await;
    link.gives("PUBLISH c me", ":1\n>3\n$7\nmessage\n$1\nc\n$2\nme").await;
    link.gives("QUIT", "+OK").await;
    assert_eq!(link.rest().await, "");
}

#[tokio::test]
async fn transactions_publish_what_they_did_and_nothing_if_they_did_nothing() {
    let port = Port::open().await;
    port.double.decide();
    let (mut hearer, mut teller) = (port.client("2").await, port.client("2").await);
    hearer.gives("SUBSCRIBE c", "*3\n$9\nsubscribe\n$1\nc\n:1").await;
    for (line, reply) in [
        ("MULTI", "+OK"),
        ("PUBLISH c early", "+QUEUED"),
        ("DISCARD", "+OK"),
        ("MULTI", "+OK"),
        ("PUBLISH c spoilt", "+QUEUED"),
        ("SUBSCRIBE c", "-ERR Command not allowed inside a transaction"),
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors."),
        ("WATCH k", "+OK"),
        ("SET k 1", "+OK"),
        ("MULTI", "+OK"),
        ("PUBLISH c vain", "+QUEUED"),
        ("EXEC", "*-1"),
        ("MULTI", "+OK"),
        ("PUBLISH c one", "+QUEUED"),
        ("INCR k", "+QUEUED"),
        ("PUBLISH c two", "+QUEUED"),
        ("PUBSUB NUMSUB c", "+QUEUED"),
        ("EXEC", "*4\n:1\n:2\n:1\n*2\n$1\nc\n:1"),
        ("MULTI", "+OK"),
        ("PUBLISH c alone", "+QUEUED"),
        ("EXEC", "*1\n:1"),
    ] {
        let (command, reply) = (format!("{line}\r\n"), format!("{reply}\n").replace('\n', "\r\n"));
        teller.send(&command).await;
        teller.expect(&reply).await;
    }
    for payload in ["one", "two", "alone"] {
        hearer.hears(&format!("*3\n$7\nmessage\n$1\nc\n${}\n{payload}", payload.len())).await;
    }
}

#[tokio::test]
async fn publishing_keeps_its_place_among_other_commands() {
    let port = Port::open().await;
    let (mut hearer, mut teller) = (port.client("2").await, port.client("2").await);
    hearer.gives("SUBSCRIBE c", "*3\n$9\nsubscribe\n$1\nc\n:1").await;
    teller.send("SET a 1\r\nPUBLISH c one\r\nINCR a\r\nPUBLISH c two\r\nGET a\r\n").await;
    teller.hears("+OK\n:1\n:2\n:1\n$1\n2").await;
    hearer.hears("*3\n$7\nmessage\n$1\nc\n$3\none\n*3\n$7\nmessage\n$1\nc\n$3\ntwo").await;
    assert_eq!(port.double.counts().0, 1, "they are one turn");
}

#[tokio::test]
async fn longest_message_passes_and_a_longer_one_is_refused() {
    let port = Port::open().await;
    let (mut hearer, mut teller) = (port.client("2").await, port.client("2").await);
    hearer.gives("SUBSCRIBE c", "*3\n$9\nsubscribe\n$1\nc\n:1").await;
    let longest = "x".repeat(crate::pubsub::PUBLISHED_BYTES_MAX - 1);
    teller.check(&format!("PUBLISH c {longest}"), ":1").await;
    hearer.hears(&format!("*3\n$7\nmessage\n$1\nc\n${}\n{longest}", longest.len())).await;
    teller
        .check(
            &format!("PUBLISH c {longest}x"),
            "-ERR channel and message have 65532 bytes; 65531 are allowed",
        )
        .await;
}

#[tokio::test]
async fn listening_clients_are_shown() {
    let port = Port::open().await;
    let (mut hearer, mut asker) = (port.client("2").await, port.client("2").await);
    hearer.gives("CLIENT SETNAME ear", "+OK").await;
    hearer.gives("SUBSCRIBE a b", "*3\n$9\nsubscribe\n$1\na\n:1\n*3\n$9\nsubscribe\n$1\nb\n:2").await;
    hearer.gives("PSUBSCRIBE a*", "*3\n$10\npsubscribe\n$2\na*\n:3").await;
    // A command behind which what it changed is shown.
    hearer.gives("PING", "*2\n$4\npong\n$0\n").await;
    asker.send("CLIENT LIST TYPE pubsub\r\nINFO stats\r\nECHO end\r\n").await;
    let mut text = String::new();
    while !text.ends_with("$3\\r\\nend\\r\\n") {
        use tokio::io::AsyncReadExt;
        let byte = asker.stream.read_u8().await.expect("the connection is open");
        text.push_str(&[byte].escape_ascii().to_string());
    }
    for shown in ["name=ear", "flags=P ", "sub=2 psub=1 ssub=0", "pubsub_channels:2", "pubsub_patterns:1"] {
        assert!(text.contains(shown), "{shown} in {text}");
    }
    asker.check("CLIENT KILL TYPE pubsub", ":1").await;
    assert_eq!(hearer.rest().await, "");
}

/// As Redis does with its limit for them: it is closed, and the others lose nothing.
#[tokio::test]
async fn subscriber_that_does_not_read_is_closed_and_holds_up_nobody() {
    let port = Port::open_with(|config| config.client_output_bytes_max = 1 << 20).await;
    let (mut slow, mut teller) = (port.client("2").await, port.client("2").await);
    slow.gives("SUBSCRIBE c", "*3\n$9\nsubscribe\n$1\nc\n:1").await;
    let mut quick = port.client("2").await;
    quick.gives("SUBSCRIBE c", "*3\n$9\nsubscribe\n$1\nc\n:1").await;
    let payload = "x".repeat(60_000);
    let mut told = 2;
    let mut count = 0;
    while told == 2 {
        told = teller
            .ask(&format!("PUBLISH c {payload}"))
            .await
            .strip_prefix(':')
            .expect("a count")
            .parse()
            .expect("it");
        quick.hears(&format!("*3\n$7\nmessage\n$1\nc\n$60000\n{payload}")).await;
        count += 1;
        assert!(count < 2_000, "120 MB wait for one client");
    }
    while port.server.observer().figures().clients_closed_slow == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert_eq!(teller.ask("PUBSUB NUMPAT").await, ":0");
}
