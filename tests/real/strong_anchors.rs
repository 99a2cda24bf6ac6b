//! Anchors in processes of their own that come, go, forget and are replaced, while a client counts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::processes::{Client, Node, Options, PROGRAM, eventually};
use crate::strong::{Seat, seats};

fn start(folder: &tempfile::TempDir, name: &str, peers: &[String], argument: Option<&str>) -> Node {
    let arguments = argument.map(str::to_owned).into_iter().collect();
    let options = Options { peers: peers.to_vec(), arguments, ..Options::default() };
    Node::start(PROGRAM, &folder.path().join(name), options)
}

fn voters(node: &mut Node) -> Vec<Seat> {
    seats(node).into_iter().filter(|seat| seat.votes).collect()
}

/// Whether so many vote, one leads, and there is no learner.
fn are(node: &mut Node, count: usize) -> bool {
    let all = seats(node);
    all.len() == count
        && all.iter().all(|seat| seat.votes)
        && all.iter().filter(|seat| seat.leads).count() == 1
}

/// Counts at a node until it is told to stop; answers how many it was told are done and how many nobody knows of.
fn count(redis: &str, stop: &AtomicBool, done: &AtomicU64) -> u64 {
    let mut client = Client::connect(redis);
    assert_eq!(client.command(&["SELECT", "notes"]).expect("it answers"), "OK");
    let mut unknown = 0;
    while !stop.load(Ordering::Relaxed) {
        let reply = client.command(&["INCR", "counted"]).expect("it answers");
        if reply.parse::<u64>().is_ok() {
            done.fetch_add(1, Ordering::Relaxed);
        } else if reply.contains("UNKNOWN") {
            unknown += 1;
        } else {
            thread::sleep(Duration::from_millis(20));
        }
    }
    unknown
}

/// One founds the group, four join; three vote by themselves. It grows to five by hand, shrinks to three and to one, and
/// grows again; no count is lost or made twice.
#[test]
fn group_grows_and_shrinks_while_a_client_counts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut first = start(&folder, "0", &[], Some("--found"));
    let peers = first.listen().to_vec();
    let mut others: Vec<Node> = (1..5).map(|n| start(&folder, &n.to_string(), &peers, None)).collect();
    eventually("three anchors vote", || are(&mut first, 3));
    // Asked at any node, too; it knows so when it is answered.
    assert_eq!(others[3].command(&["TIDE.MODE", "notes", "STRONG"]), "OK");
    assert!(others[3].command(&["TIDE.MODE", "notes"]).contains("strong"));
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let redis = first.redis().to_owned();
    let unknown = thread::scope(|scope| {
        let counting = scope.spawn(|| count(&redis, &stop, &done));
        let more = |what: &str| {
            let before = done.load(Ordering::Relaxed);
            eventually(what, || done.load(Ordering::Relaxed) > before + 20);
        };
        more("it counts with three");
        let even = voters(&mut first).pop().expect("there are three").anchor;
        let guests: Vec<String> = {
            let voting: Vec<String> = voters(&mut first).into_iter().map(|seat| seat.peer).collect();
            others.iter().map(|node| node.peer().to_owned()).filter(|peer| !voting.contains(peer)).collect()
        };
        for peer in &guests {
            // Asked at any node: it is handed on to the leader.
            assert_eq!(others[3].command(&["TIDE.ANCHOR", "ADD", peer]), "OK");
        }
        eventually("five anchors vote", || are(&mut first, 5));
        let refused = others[0].command(&["TIDE.ANCHOR", "REMOVE", &even]);
        assert!(refused.contains("4 voters"), "{refused}");
        more("it counts with five");
        for left in [3, 1] {
            let own = first.peer().to_owned();
            let going: Vec<String> = voters(&mut first)
                .into_iter()
                .filter(|seat| seat.peer != own)
                .map(|seat| seat.anchor)
                .take(2)
                .collect();
            let command: Vec<&str> =
                ["TIDE.ANCHOR", "REMOVE"].into_iter().chain(going.iter().map(String::as_str)).collect();
            assert_eq!(others[1].command(&command), "OK");
            eventually("two are gone", || are(&mut first, left));
            more("it counts on");
        }
        let peer = others[2].peer().to_owned();
        assert_eq!(first.command(&["TIDE.ANCHOR", "ADD", &peer]), "OK");
        eventually("another one is invited by itself", || are(&mut first, 3));
        more("it counts with three again");
        stop.store(true, Ordering::Relaxed);
        counting.join().expect("it ends")
    });
    assert_eq!(others[2].command(&["SELECT", "notes"]), "OK");
    let counted: u64 = others[2].command(&["GET", "counted"]).parse().expect("a number");
    let done = done.load(Ordering::Relaxed);
    assert!(
        done <= counted && counted <= done + unknown,
        "{done} and {unknown} unknown, and {counted} is there"
    );
}

/// An anchor loses its disk and keeps its key: it votes again, under another number, and nobody has done anything.
#[test]
fn wiped_anchor_is_replaced_by_itself_under_another_number() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut first = start(&folder, "0", &[], Some("--found"));
    let peers = first.listen().to_vec();
    let mut others: Vec<Node> = (1..3).map(|n| start(&folder, &n.to_string(), &peers, None)).collect();
    eventually("three anchors vote", || are(&mut first, 3));
    assert_eq!(first.command(&["TIDE.MODE", "notes", "STRONG"]), "OK");
    assert_eq!(first.command(&["SELECT", "notes"]), "OK");
    assert_eq!(first.command(&["SET", "k", "v"]), "OK");
    let peer = others[1].peer().to_owned();
    let number = |node: &mut Node| {
        seats(node).into_iter().find(|seat| seat.peer == peer && seat.votes).map(|seat| seat.anchor)
    };
    let before = number(&mut first).expect("it votes");
    others[1].kill();
    let data = folder.path().join("2");
    for file in std::fs::read_dir(&data).expect("it is there").map(|entry| entry.expect("readable").path()) {
        if file.file_name().is_some_and(|name| name != "key") && file.is_file() {
            std::fs::remove_file(file).expect("it goes");
        }
    }
    others[1].restart();
    eventually("it votes under another number", || {
        number(&mut first).is_some_and(|now| now != before) && are(&mut first, 3)
    });
    others[0].kill();
    assert_eq!(others[1].command(&["SELECT", "notes"]), "OK");
    eventually("the two others are a majority", || others[1].command(&["GET", "k"]) == "v");
}
