//! The commands that Redis does not have, by example.

use tidelock_engine::id::{PeerId, ReplicaId};
use tidelock_engine::row::Kind;
use tidelock_engine::write::Write;

use super::conformance::{check_all, greet};
use super::double::{Double, name};
use super::{Link, PATIENCE, Port};
use crate::watch::{Change, Cursor, WatchEvent};

fn set(value: &str) -> Write {
    Write::Set { key: b"k".to_vec(), value: value.as_bytes().to_vec() }
}

#[tokio::test]
async fn status_peers_and_keyspaces_have_stable_fields() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check(
        "TIDE.PEERS",
        "*1\n*18\n$4\npeer\n$-1\n$7\naddress\n$20\n/ip4/127.0.0.1/tcp/2\n$5\nstate\n$10\nconnecting\n\
         $13\nround_trip_us\n$-1\n$12\nconnected_ms\n:2000\n$12\nqueued_bytes\n:10\n$4\nslow\n:1\n\
         $9\nkeyspaces\n:2\n$17\nkeyspaces_in_sync\n:1",
    )
    .await;
    link.check("TIDE.KEYSPACES", "*0").await;
    greet(&mut link).await;
    link.check("SET k v", "+OK").await;
    let fingerprint = crate::redis::Backend::fingerprint(&port.double, &name("default"));
    link.check(
        "TIDE.KEYSPACES",
        &format!(
            "*1\n%16\n$4\nname\n$7\ndefault\n$4\nmode\n$8\neventual\n$5\nepoch\n:0\n$4\nkeys\n:1\n$7\nauthors\n:1\n\
             $11\nfingerprint\n$64\n{fingerprint}\n$5\npeers\n:0\n$5\nbytes\n:2048\n$5\nquota\n:4096\n$11\nconditional\n$6\nstrong\n$8\nalone_ms\n:61000\n$8\ndiverged\n#f\n$8\nrevision\n:0\n\
             $6\noutbox\n:0\n$8\nstanding\n_\n$6\nleader\n_"
        ),
    )
    .await;
    link.send("TIDE.STATUS\r\nQUIT\r\n").await;
    let status = link.rest().await;
    let fields = [
        "%22",
        "name",
        "version",
        "peer",
        "replica",
        "cluster",
        "listen",
        "online",
        "uptime_ms",
        "peers_connected",
        "keyspaces",
        "keys",
        "frames",
        "log_bytes",
        "log_first",
        "log_age_ms",
        "log_kept",
        "log_kept_for",
        "bytes_on_disk",
        "counters",
        "not_ready",
        "warnings",
        "anchors",
    ];
    let mut rest = status.as_str();
    for field in fields {
        let at = rest.find(&format!("{field}\\r\\n"));
        rest = &rest[at.unwrap_or_else(|| panic!("{field} is missing in {status}"))..];
    }
    let peer = PeerId::from_public_key([8; 32]);
    let kept = format!(
        "log_age_ms\\r\\n:61000\\r\\n$8\\r\\nlog_kept\\r\\n$4\\r\\npeer\\r\\n$12\\r\\nlog_kept_for\\r\\n$52\\r\\n{peer}"
    );
    assert!(status.contains(&kept), "{status}");
    assert!(status.contains("frames_received\\r\\n:5\\r\\n") && status.contains("uptime_ms\\r\\n:90061001"));
}

#[tokio::test]
async fn network_and_connect_reach_the_node() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("TIDE.NETWORK offline", "+OK").await;
    assert!(!port.double.is_online());
    link.check("TIDE.NETWORK ONLINE", "+OK").await;
    assert!(port.double.is_online());
    link.check("TIDE.NETWORK maybe", "-ERR the network is ONLINE or OFFLINE").await;
    link.check("TIDE.CONNECT /ip4/127.0.0.1/tcp/1", "+OK").await;
    link.check("TIDE.CONNECT nowhere", "-ERR 'nowhere' is not a multiaddress").await;
    let peer = PeerId::from_public_key([7; 32]);
    link.check("TIDE.CONNECT /ip4/127.0.0.1/tcp/1 50", &format!("$52\n{peer}")).await;
    let late = "-ERR not connected within 0 s; the node goes on trying";
    link.check("TIDE.CONNECT /ip4/127.0.0.1/tcp/1 0", late).await;
    link.check("TIDE.CONNECT /ip4/127.0.0.1/tcp/1 -1", "-ERR timeout is out of range").await;
    link.check("TIDE.CONNECT /ip4/127.0.0.1/tcp/1 60001", "-ERR timeout is out of range").await;
    link.check("TIDE.CONNECT /ip4/127.0.0.1/tcp/1 soon", "-ERR value is not an integer or out of range")
        .await;
    link.check("TIDE.CONNECT /ip4/127.0.0.1/tcp/1 1 2", "-ERR syntax error").await;
}

#[tokio::test]
async fn keyspaces_are_joined_and_left() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("TIDE.KEYSPACE JOIN notes", "+OK").await;
    link.check("tide.keyspace leave notes", "+OK").await;
    link.check(
        "TIDE.KEYSPACE LEAVE alone",
        "-ERR no connected peer has confirmed to hold all of keyspace alone, so nothing was changed; of what this \
         node wrote there 3 operations are not known to be anywhere else. Connect to a peer that replicates it, or \
         force it and lose what nobody else has",
    )
    .await;
    link.check("TIDE.KEYSPACE LEAVE alone FORCE", "+OK").await;
    link.check(
        "TIDE.KEYSPACE JOIN dropping",
        "-TRYAGAIN keyspace dropping is still being dropped on this node; try again in a moment",
    )
    .await;
    link.check("TIDE.KEYSPACE JOIN notes FORCE", "-ERR syntax error").await;
    for quota in ["4096", "NONE", "default"] {
        link.check(&format!("TIDE.KEYSPACE QUOTA notes {quota}"), "+OK").await;
    }
    link.check("TIDE.KEYSPACE QUOTA notes -1", "-ERR the quota is negative").await;
    link.check("TIDE.KEYSPACE QUOTA notes", "-ERR syntax error").await;
    for who in ["local", "STRONG", "default"] {
        link.check(&format!("TIDE.KEYSPACE CONDITIONAL notes {who}"), "+OK").await;
    }
    link.check("TIDE.KEYSPACE CONDITIONAL notes me", "-ERR syntax error").await;
    link.check("TIDE.KEYSPACE CONDITIONAL notes", "-ERR syntax error").await;
    link.check("TIDE.KEYSPACE FORGET notes", "-ERR syntax error").await;
    link.check("TIDE.KEYSPACE LEAVE", "-ERR wrong number of arguments for 'tide.keyspace' command").await;
}

#[tokio::test]
async fn what_is_long_is_read_piece_by_piece() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("TIDE.NEXT", "-ERR nothing was begun; TIDE.BACKUP, TIDE.EXPORT or TIDE.SNAPSHOT first").await;
    link.check("TIDE.BACKUP", "+OK").await;
    for _ in 0..3 {
        link.check("TIDE.NEXT", &format!("${}\n{}", 1 << 20, "x".repeat(1 << 20))).await;
    }
    link.check("TIDE.NEXT", "$3\nend").await;
    link.check("TIDE.NEXT", "$-1").await;
    link.check("TIDE.NEXT", "-ERR nothing was begun; TIDE.BACKUP, TIDE.EXPORT or TIDE.SNAPSHOT first").await;
    link.check("SELECT notes", "+OK").await;
    link.check("TIDE.EXPORT", "+OK").await;
    link.check("TIDE.NEXT", "$5\nnotes").await;
    link.check("TIDE.NEXT", "-ERR the disk failed").await;
    link.check("TIDE.NEXT", "-ERR nothing was begun; TIDE.BACKUP, TIDE.EXPORT or TIDE.SNAPSHOT first").await;
    link.check("TIDE.SNAPSHOT", "-ERR there is none").await;
    link.check("TIDE.SNAPSHOT orders -1", "-ERR DB index is out of range").await;
    link.check("TIDE.SNAPSHOT orders stock", "+OK").await;
    link.check("TIDE.NEXT", "$11\nordersstock").await;
    link.check("TIDE.NEXT", "$-1").await;
    link.check("TIDE.REJOIN", "-ERR there is nothing to rejoin from").await;
}

#[tokio::test]
async fn replicas_are_listed_and_retired() {
    let port = Port::open().await;
    let mut link = port.link().await;
    let (one, two) = ("ab".repeat(16), "02".repeat(16));
    let retired = format!("*6\n$2\nby\n$32\n{two}\n$7\nunix_ms\n:1800000000000\n$4\nlast\n:3");
    let keyspace = format!("*1\n*6\n$4\nname\n$7\ndefault\n$3\nseq\n:4\n$7\nretired\n{retired}");
    let listed = format!(
        "*1\n*12\n$7\nreplica\n$32\n{one}\n$4\npeer\n$-1\n$3\nown\n:0\n$9\nconnected\n:1\n$7\nseen_ms\n:5000\n\
         $9\nkeyspaces\n{keyspace}"
    );
    link.check("TIDE.REPLICAS", &listed).await;
    link.check(&format!("TIDE.RETIRE {one} FORCE"), ":2").await;
    link.check(&format!("TIDE.RETIRE {one} FORCE KEYSPACE notes"), ":2").await;
    let refused = format!("-ERR replica {one} is connected in Some(KeyspaceName(\"notes\"))");
    link.check(&format!("tide.retire {one} keyspace notes"), &refused).await;
    for wrong in ["FORCE FORCE", "KEYSPACE", "KEYSPACE a KEYSPACE b", "NOW"] {
        link.check(&format!("TIDE.RETIRE {one} {wrong}"), "-ERR syntax error").await;
    }
    link.check("TIDE.RETIRE phone", "-ERR a replica is named by 32 hexadecimal digits").await;
}

#[tokio::test]
async fn compaction_answers_with_sizes() {
    let port = Port::open().await;
    let mut link = port.link().await;
    let files = "*1\n*6\n$4\nfile\n$8\nlog.redb\n$12\nbefore_bytes\n:2\n$11\nafter_bytes\n:1";
    link.check("TIDE.COMPACT", files).await;
    link.check("TIDE.COMPACT PROGRESS", "$-1").await;
    link.check("TIDE.COMPACT now", "-ERR syntax error").await;
}

#[tokio::test]
async fn fingerprints_are_equal_once_two_nodes_have_the_same() {
    let (port, other) = (Port::open().await, Double::new(2));
    let mut link = port.link().await;
    let fingerprint = |double: &Double| crate::redis::Backend::fingerprint(double, &name("default"));
    link.check("SET k mine", "+OK").await;
    other.write(set("theirs"));
    assert_ne!(fingerprint(&port.double), fingerprint(&other));
    port.double.pull(&other);
    assert_ne!(fingerprint(&port.double), fingerprint(&other));
    other.pull(&port.double);
    link.check("TIDE.FINGERPRINT", &format!("$64\n{}", fingerprint(&other))).await;
    link.check("TIDE.FINGERPRINT 0", &format!("$64\n{}", fingerprint(&other))).await;
    link.check("SELECT notes", "+OK").await;
    link.check("TIDE.FINGERPRINT default", &format!("$64\n{}", fingerprint(&other))).await;
    link.check("TIDE.FINGERPRINT", &format!("$64\n{}", "0".repeat(64))).await;
    link.check("TIDE.FINGERPRINT elsewhere", "-ERR keyspace elsewhere is not replicated on this node").await;
    link.check("TIDE.FINGERPRINT a b", "-ERR wrong number of arguments for 'tide.fingerprint' command").await;
}

#[tokio::test]
async fn entry_shows_all_rows_and_conflicts_those_that_lost() {
    let (port, other) = (Port::open().await, Double::new(2));
    let mut link = port.link().await;
    port.double.write(set("mine"));
    other.write(set("theirs"));
    port.double.pull(&other);
    greet(&mut link).await;
    link.send("TIDE.CONFLICTS k\r\nTIDE.ENTRY k\r\nGET k\r\nQUIT\r\n").await;
    let text = link.rest().await;
    let winner = if text.contains("$4\\r\\nmine\\r\\n+OK") { "mine" } else { "theirs" };
    let loser = if winner == "mine" { "theirs" } else { "mine" };
    let (conflicts, entry) = text.split_once("%4\\r\\n").expect("an entry has four fields");
    assert!(
        conflicts.starts_with("*1\\r\\n%9\\r\\n") && conflicts.contains(&format!("\\r\\n{loser}\\r\\n")),
        "{text}"
    );
    assert!(conflicts.contains("seq\\r\\n:1\\r\\n") && conflicts.contains("visible\\r\\n#f\\r\\n"), "{text}");
    assert!(entry.starts_with("$4\\r\\nkind\\r\\n$8\\r\\nregister\\r\\n"), "{text}");
    assert!(
        entry.contains("rows\\r\\n*2\\r\\n%9\\r\\n") && entry.contains("truncated\\r\\n#f\\r\\n"),
        "{text}"
    );

    let mut link = port.link().await;
    link.check("SET k settled", "+OK").await;
    link.check("TIDE.CONFLICTS k", "*0").await;
    link.check("TIDE.CONFLICTS missing", "*0").await;
    link.check("TIDE.ENTRY missing", "*8\n$4\nkind\n$-1\n$5\nvalue\n$-1\n$4\nrows\n*0\n$9\ntruncated\n:0")
        .await;
}

#[tokio::test]
async fn entry_of_a_counter_lists_its_slots() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.check("INCRBY n 5", ":5").await;
    let author = tidelock_engine::frame::SigningKey::from_seed([1; 32]).card([0; 16]).replica();
    link.check(
        "TIDE.ENTRY n",
        &format!(
            "*8\n$4\nkind\n$7\ncounter\n$5\nvalue\n$1\n5\n$4\nrows\n*1\n*18\n$4\nkind\n$7\ncounter\n$6\nsubkey\n$0\n\n\
             $6\nauthor\n$32\n{author}\n$3\nseq\n:1\n$5\nepoch\n$-1\n$7\nunix_ms\n$-1\n$5\nvalue\n$-1\n$4\nslot\n*8\n\
             $3\ntop\n:1\n$3\nsum\n$1\n5\n$8\nbase_top\n:0\n$8\nbase_sum\n$1\n0\n$7\nvisible\n:1\n$9\ntruncated\n:0"
        ),
    )
    .await;
}

#[tokio::test]
async fn wait_answers_how_many_peers_have_it() {
    let port = Port::open().await;
    port.double.set_peers(2);
    let mut link = port.link().await;
    link.check("WAIT 2 0", ":2").await;
    link.check("WAIT 3 10", ":2").await;
    link.check("WAIT x 0", "-ERR value is not an integer or out of range").await;
    link.check("WAIT -1 0", "-ERR value is out of range, must be positive").await;
    link.check("WAIT 1 x", "-ERR timeout is not an integer or out of range").await;
    link.check("WAIT 1 -1", "-ERR timeout is negative").await;
    link.check("WAIT 1", "-ERR wrong number of arguments for 'wait' command").await;
}

#[tokio::test]
async fn writes_before_a_wait_are_answered_while_it_waits() {
    let port = Port::open().await;
    let mut link = port.link().await;
    link.send("SET k v\r\nWAIT 1 0\r\n").await;
    link.expect("+OK\r\n").await;
    port.server.shutdown().await;
    assert_eq!(link.rest().await, "");
}

fn change(cursor: u64) -> WatchEvent {
    WatchEvent::Changed(Change {
        cursor: Cursor(cursor),
        keyspace: name("default"),
        key: b"k".to_vec(),
        kind: Kind::Map,
        subkey: b"f".to_vec(),
        old: None,
        new: Some(b"v".to_vec()),
        author: ReplicaId::from_bytes([9; 16]),
        is_replayed: false,
    })
}

async fn watchers(port: &Port, count: usize) {
    let reached = async {
        while port.double.watchers() != count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("watchers come and go");
}

async fn watch(link: &mut Link, command: &str) {
    link.send(format!("{command}\r\n")).await;
    link.expect("+OK\r\n").await;
}

#[tokio::test]
async fn watch_pushes_changes_between_replies() {
    let port = Port::open().await;
    let mut link = port.link().await;
    greet(&mut link).await;
    watch(&mut link, "TIDE.WATCH PREFIX k FROM 7").await;
    link.expect(">2\r\n$11\r\ntide.lagged\r\n:7\r\n").await;
    link.check("GET k", "_").await;
    port.double.push(&change(8));
    let author = "09".repeat(16);
    link.expect(format!(
        ">10\r\n$11\r\ntide.change\r\n:8\r\n$7\r\ndefault\r\n$1\r\nk\r\n$3\r\nmap\r\n$1\r\nf\r\n_\r\n$1\r\nv\r\n\
         $32\r\n{author}\r\n#f\r\n"
    ))
    .await;
    link.check("TIDE.WATCH other", "-ERR this connection watches already; TIDE.UNWATCH first").await;
    link.check("TIDE.UNWATCH", "+OK").await;
    watchers(&port, 0).await;
    link.check("GET k", "_").await;
}

#[tokio::test]
async fn watch_in_resp2_allows_only_what_cannot_be_mistaken_for_a_push() {
    let port = Port::open().await;
    let mut link = port.link().await;
    watch(&mut link, "TIDE.WATCH k").await;
    link.send("GET k\r\nPING\r\n").await;
    link.expect(
        "-ERR Can't execute 'get': only TIDE.UNWATCH / PING / QUIT are allowed in this context\r\n+PONG\r\n",
    )
    .await;
    port.double.push(&WatchEvent::Lagged(Cursor(1)));
    link.expect("*2\r\n$11\r\ntide.lagged\r\n:1\r\n").await;
    port.double.end_watches();
    assert_eq!(link.rest().await, "");
}

#[tokio::test]
async fn watch_arguments_that_make_no_sense_are_refused() {
    check_all(&[
        ("TIDE.WATCH k FROM", "-ERR syntax error", None),
        ("TIDE.WATCH a b", "-ERR syntax error", None),
        ("TIDE.WATCH k FROM x", "-ERR invalid cursor", None),
        ("TIDE.WATCH k AFTER x", "-ERR invalid revision", None),
        ("TIDE.WATCH k BEHIND 1", "-ERR syntax error", None),
        ("TIDE.WATCH k AFTER 1", "-ERR keyspace default is not strong", None),
        ("TIDE.WATCH PREFIX p FROM 1 2", "-ERR syntax error", None),
        ("TIDE.WATCH refused", "-ERR there are too many watchers", None),
        ("TIDE.UNWATCH", "+OK", None),
    ])
    .await;
}

#[tokio::test]
async fn anchors_are_listed_and_ordered() {
    let port = Port::open().await;
    let mut link = port.link().await;
    let mut list = port.link().await;
    list.send("TIDE.ANCHOR LIST\r\nQUIT\r\n").await;
    let listed = list.rest().await;
    assert!(listed.starts_with("*2\\r\\n*16\\r\\n$6\\r\\nanchor\\r\\n:7\\r\\n"), "{listed}");
    let peer = PeerId::from_public_key([9; 32]);
    for (command, reply) in [
        (&*format!("TIDE.ANCHOR ADD {peer}"), "+OK"),
        ("TIDE.ANCHOR ADD nobody", "-ERR a peer is named as in 12D3KooW..."),
        ("TIDE.ANCHOR REMOVE 1 2", "+OK"),
        ("TIDE.ANCHOR REMOVE 1", "-ERR refused: 2 voters"),
        ("TIDE.ANCHOR REMOVE", "-ERR syntax error"),
        ("TIDE.ANCHOR REMOVE -1", "-ERR an anchor is named by its number"),
        ("TIDE.ANCHOR TRANSFER 9", "+OK"),
        (
            "TIDE.ANCHOR TRANSFER 1",
            "-NOLEADER no leader in time, nothing was appended; the group may have lost its majority",
        ),
        (
            "TIDE.ANCHOR TRANSFER 2",
            "-TRYAGAIN too many requests are open, nothing was appended; try again later",
        ),
        (
            "TIDE.ANCHOR TRANSFER 3",
            "-UNKNOWN nobody knows whether the change was made; the list of anchors will show it",
        ),
        ("TIDE.ANCHOR ELECT", "-ERR syntax error"),
    ] {
        link.check(command, reply).await;
    }
}
