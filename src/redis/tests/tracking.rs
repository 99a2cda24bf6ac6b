//! CLIENT TRACKING: who is told of which keys, when, and in which form.

use super::{Link, Port, encode};

/// What a client of RESP3 is pushed.
fn invalidate(keys: &[&str]) -> String {
    let texts: Vec<String> = keys.iter().map(|key| format!("\n${}\n{key}", key.len())).collect();
    format!(">2\n$10\ninvalidate\n*{}{}", keys.len(), texts.concat())
}

impl Port {
    async fn tracking(&self, options: &str) -> Link {
        let mut link = self.client("3").await;
        link.gives(&format!("CLIENT TRACKING ON {options}"), "+OK").await;
        link
    }
}

#[tokio::test]
async fn who_has_read_a_key_is_told_once_that_it_changed() {
    let port = Port::open().await;
    let (mut reader, mut writer) = (port.tracking("").await, port.link().await);
    reader.gives("GET k", "_").await;
    writer.check("SET other v", "+OK").await;
    writer.check("SET k v", "+OK").await;
    reader.hears(&invalidate(&["k"])).await;
    // Until it is read again nobody has a copy.
    writer.check("SET k w", "+OK").await;
    reader.gives("GET k", "$1\nw").await;
    // Its own writes are told behind their replies.
    reader.gives("SET k x", &format!("+OK\n{}", invalidate(&["k"]))).await;
    reader.gives("MGET a b", "*2\n_\n_").await;
    writer.check("SELECT 5", "+OK").await;
    writer.check("SET a 1", "+OK").await;
    writer.check("SELECT 0", "+OK").await;
    writer.check("MSET a 1 b 2", "+OK").await;
    reader.hears(&format!("{}\n{}", invalidate(&["a"]), invalidate(&["b"]))).await;
    reader.gives("SISMEMBER s m", ":0").await;
    reader.gives("CLIENT TRACKING OFF", "+OK").await;
    writer.check("SADD s m", ":1").await;
    reader.gives("PING", "+PONG").await;
}

#[tokio::test]
async fn transaction_is_remembered_when_it_reads() {
    let port = Port::open().await;
    let (mut reader, mut writer) = (port.tracking("").await, port.link().await);
    reader.gives("MULTI", "+OK").await;
    reader.gives("GET k", "+QUEUED").await;
    writer.check("SET k v", "+OK").await;
    reader.gives("EXEC", "*1\n$1\nv").await;
    writer.check("SET k w", "+OK").await;
    reader.hears(&invalidate(&["k"])).await;
    // One that is not executed reads nothing.
    reader.gives("MULTI", "+OK").await;
    reader.gives("GET k", "+QUEUED").await;
    reader.gives("DISCARD", "+OK").await;
    writer.check("SET k x", "+OK").await;
    reader.gives("PING", "+PONG").await;
}

#[tokio::test]
async fn prefixes_are_told_of_whoever_reads() {
    let port = Port::open().await;
    let (mut some, mut all) = (port.tracking("BCAST PREFIX a PREFIX b").await, port.tracking("BCAST").await);
    let mut writer = port.link().await;
    writer.check("MSET b1 1 a2 1 a1 1 c 1", "+OK").await;
    some.hears(&format!("{}\n{}", invalidate(&["a1", "a2"]), invalidate(&["b1"]))).await;
    all.hears(&invalidate(&["a1", "a2", "b1", "c"])).await;
    writer.check("DEL a1 c", ":2").await;
    some.hears(&invalidate(&["a1"])).await;
    all.hears(&invalidate(&["a1", "c"])).await;
    some.gives("GET c", "_").await;
    writer.check("SET c 1", "+OK").await;
    some.gives("PING", "+PONG").await;
}

#[tokio::test]
async fn keys_are_chosen_by_command_or_transaction() {
    let port = Port::open().await;
    let (mut opted_in, mut opted_out) = (port.tracking("OPTIN").await, port.tracking("OPTOUT").await);
    let mut writer = port.link().await;
    opted_in.gives("GET a", "_").await;
    opted_in.gives("CLIENT CACHING YES", "+OK").await;
    opted_in.gives("CLIENT GETREDIR", ":0").await;
    opted_in.gives("GET b", "_").await;
    opted_in.gives("GET c", "_").await;
    opted_in.gives("CLIENT CACHING YES", "+OK").await;
    opted_in.gives("MULTI", "+OK").await;
    opted_in.gives("GET d", "+QUEUED").await;
    opted_in.gives("GET e", "+QUEUED").await;
    opted_in.gives("EXEC", "*2\n_\n_").await;
    opted_in.gives("GET f", "_").await;
    opted_out.gives("CLIENT CACHING NO", "+OK").await;
    opted_out.gives("GET a", "_").await;
    opted_out.gives("GET b", "_").await;
    writer.check("MSET a 1 b 1 c 1 d 1 e 1 f 1", "+OK").await;
    for key in ["b", "d", "e"] {
        opted_in.hears(&invalidate(&[key])).await;
    }
    opted_out.hears(&invalidate(&["b"])).await;
    opted_in.gives("PING", "+PONG").await;
    opted_out.gives("PING", "+PONG").await;
}

#[tokio::test]
async fn other_client_is_told_instead_while_it_is_there() {
    let port = Port::open().await;
    let (mut hearer, mut reader) = (port.link().await, port.link().await);
    let id = hearer.ask("CLIENT ID").await;
    hearer.gives("SUBSCRIBE __redis__:invalidate", "*3\n$9\nsubscribe\n$20\n__redis__:invalidate\n:1").await;
    reader.check(&format!("CLIENT TRACKING ON REDIRECT {}", &id[1..]), "+OK").await;
    reader.check("CLIENT GETREDIR", &id).await;
    reader.check("GET k", "$-1").await;
    reader.check("SET k v", "+OK").await;
    hearer.hears("*3\n$7\nmessage\n$20\n__redis__:invalidate\n*1\n$1\nk").await;
    hearer.send("QUIT\r\n").await;
    hearer.rest().await;
    let gone = async {
        while port.server.observer().figures().clients != 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::PATIENCE, gone).await.expect("it leaves");
    reader.check("GET k", "$1\nv").await;
    reader.check("SET k w", "+OK").await;
    let broken = "*6\n$5\nflags\n*2\n$2\non\n$15\nbroken_redirect\n$8\nredirect";
    reader.check("CLIENT TRACKINGINFO", &format!("{broken}\n{id}\n$8\nprefixes\n*0")).await;
    reader.send("HELLO 3\r\nECHO hello\r\n").await;
    reader.skip_behind("$5\r\nhello\r\n").await;
    reader.gives("GET k", "$1\nw").await;
    reader.gives("SET k x", &format!("+OK\n>2\n$21\ntracking-redir-broken\n{id}")).await;
}

#[tokio::test]
async fn tracking_shows_in_lists_and_ends_with_reset() {
    let port = Port::open().await;
    let mut link = port.tracking("BCAST PREFIX a NOLOOP").await;
    link.send(encode("CLIENT INFO")).await;
    link.skip_behind(" flags=tB ").await;
    link.skip_behind(" redir=0 ").await;
    link.skip_behind("\r\n").await;
    link.send(encode("INFO")).await;
    for figure in ["tracking_clients:1\r\n", "tracking_total_keys:0\r\n", "tracking_total_prefixes:1\r\n"] {
        link.skip_behind(figure).await;
    }
    link.send(encode("RESET")).await;
    link.skip_behind("+RESET\r\n").await;
    link.check("CLIENT GETREDIR", ":-1").await;
    link.check("SET a 1", "+OK").await;
}
