//! SCAN and KEYS: every key that is there throughout is listed, whatever happens meanwhile.

use std::collections::BTreeSet;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::{Link, Port};

/// Reads the reply of a SCAN: the next cursor and the keys.
async fn page(link: &mut BufReader<&mut Link>, command: &str) -> (u64, Vec<String>) {
    link.get_mut().send(format!("{command}\r\n")).await;
    let mut parts = Vec::new();
    let (mut missing, mut seen_array) = (1, 0);
    while missing > 0 {
        missing -= 1;
        let header = read_line(link).await;
        let (mark, number) = header.split_at(1);
        let number: usize = number.parse().unwrap_or_else(|_| panic!("{command}: {header}"));
        match mark {
            "*" => {
                missing += number;
                seen_array += 1;
            }
            "$" => {
                let mut bytes = vec![0; number + 2];
                link.read_exact(&mut bytes).await.expect("the connection is open");
                bytes.truncate(number);
                parts.push(String::from_utf8(bytes).expect("the test's keys are text"));
            }
            _ => panic!("{command}: {header}"),
        }
    }
    assert_eq!(seen_array, 2);
    let cursor = parts.remove(0).parse().expect("a cursor is a number");
    (cursor, parts)
}

async fn read_line(link: &mut BufReader<&mut Link>) -> String {
    let mut text = String::new();
    link.read_line(&mut text).await.expect("the connection is open");
    text.trim_end().to_owned()
}

impl tokio::io::AsyncRead for Link {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

async fn fill(link: &mut Link, keys: impl Iterator<Item = String>) {
    let pairs: Vec<String> = keys.map(|key| format!(" {key} v")).collect();
    link.check(&format!("MSET{}", pairs.concat()), "+OK").await;
}

/// A scan goes on while keys come and go, on two connections as with a pool of clients.
#[tokio::test]
async fn scan_lists_all_keys_that_stay() {
    let port = Port::open().await;
    let (mut one, mut two) = (port.link().await, port.link().await);
    let stay: BTreeSet<String> = (0..1_000).map(|number| format!("stay:{number:04}")).collect();
    fill(&mut one, stay.iter().cloned()).await;
    fill(&mut one, (0..300).map(|number| format!("gone:{number}"))).await;
    fill(&mut one, (0..300).map(|number| format!("zone:{number}"))).await;
    for options in ["", "COUNT 1", "COUNT 7 MATCH *", "COUNT 100000", "TYPE string", "MATCH stay:*"] {
        let mut found = BTreeSet::new();
        let (mut cursor, mut pages) = (0, 0);
        loop {
            let link = if pages % 2 == 0 { &mut one } else { &mut two };
            let mut reader = BufReader::new(link);
            let (next, keys) = page(&mut reader, &format!("SCAN {cursor} {options}")).await;
            assert_eq!(page(&mut reader, &format!("SCAN {cursor} {options}")).await.1, keys, "asked again");
            found.extend(keys);
            if next == 0 {
                break;
            }
            let write = if pages % 3 == 0 { "DEL" } else { "EXISTS" };
            two.send(format!("{write} gone:{pages} zone:{pages}\r\nSET new:{pages} v\r\n")).await;
            for _ in 0..2 {
                read_line(&mut BufReader::with_capacity(1, &mut two)).await;
            }
            (cursor, pages) = (next, pages + 1);
            assert!(pages < 5_000, "the scan ends");
        }
        let missing: Vec<_> = stay.difference(&found).collect();
        assert!(missing.is_empty(), "{options}: {missing:?}");
    }
}

#[tokio::test]
async fn scan_filters_by_pattern_and_type() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("MSET a 1 b 2 ab 3", "+OK").await;
    link.check("SADD as x", ":1").await;
    link.check("SCAN 0 MATCH a*", "*2\n$1\n0\n*3\n$1\na\n$2\nab\n$2\nas").await;
    link.check("SCAN 0 MATCH a* TYPE SET COUNT 100", "*2\n$1\n0\n*1\n$2\nas").await;
    link.check("SCAN 0 TYPE zset", "*2\n$1\n0\n*0").await;
    link.check("SCAN 0 MATCH z*", "*2\n$1\n0\n*0").await;
    link.check("SCAN 00", "*2\n$1\n0\n*4\n$1\na\n$2\nab\n$2\nas\n$1\nb").await;
}

#[tokio::test]
async fn scan_refuses_what_it_does_not_understand() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("SCAN x", "-ERR invalid cursor").await;
    link.check("SCAN -1", "-ERR invalid cursor").await;
    link.check("SCAN 5", "-ERR invalid cursor: it is unknown or too old, begin again with 0").await;
    link.check("SCAN 0 COUNT", "-ERR syntax error").await;
    link.check("SCAN 0 COUNT 0", "-ERR syntax error").await;
    link.check("SCAN 0 COUNT -3", "-ERR syntax error").await;
    link.check("SCAN 0 COUNT x", "-ERR value is not an integer or out of range").await;
    link.check("SCAN 0 SORT up", "-ERR syntax error").await;
    link.check("SCAN", "-ERR wrong number of arguments for 'scan' command").await;
}

#[tokio::test]
async fn keys_lists_more_than_one_page() {
    let port = Port::open().await;
    let mut link = port.link().await;
    let keys: BTreeSet<String> = (0..2_500).map(|number| format!("key:{number}")).collect();
    fill(&mut link, keys.iter().cloned()).await;
    link.check("MSET other 1 kez 2", "+OK").await;
    link.send("KEYS key:*\r\n").await;
    let listed: Vec<String> = keys.iter().map(|key| format!("${}\r\n{key}\r\n", key.len())).collect();
    link.expect(format!("*2500\r\n{}", listed.concat())).await;
}
