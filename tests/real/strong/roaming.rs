//! Clients that name what they write and ask for it again until they are answered, and watchers that go from node to node,
//! while leaders are killed: everything is done once, and told once, in order.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::Anchors;
use crate::processes::{Client, DEADLINE, eventually};

/// The clients that count at once, and how often each of them does.
const COUNTING: usize = 3;
const TIMES: usize = 200;

/// The operations that a watcher takes from one node before it goes to the next.
const STAY: usize = 11;

/// How long a watcher waits for the next operation before it asks another node.
const WATCH_PATIENCE: Duration = Duration::from_millis(500);

/// How long a client waits after it was refused, or could not connect.
const AFTER_REFUSAL: Duration = Duration::from_millis(20);

/// Where the nodes are; one that is killed leaves its place.
type Ports = Mutex<Vec<String>>;

fn port(ports: &Ports, place: usize) -> String {
    let ports = ports.lock().expect("no client panics with it");
    ports[place % ports.len()].clone()
}

/// Counts so often: each time under one name, at another node whenever it is not known what became of it. Answers how often
/// it had to ask again.
fn count(client: usize, ports: &Ports, done: &AtomicUsize) -> usize {
    let (name, mut place, mut again, mut connection) = (format!("client {client}"), client, 0, None);
    for number in 1..=TIMES {
        loop {
            let open = || Client::open(&port(ports, place), DEADLINE).ok();
            let reply = connection.take().or_else(open).and_then(|mut client: Client| {
                let reply = client.command(&["TIDE.AS", &name, &number.to_string(), "INCR", "n"]).ok()?;
                connection = Some(client);
                Some(reply)
            });
            if reply.as_ref().is_some_and(|reply| reply.parse::<usize>().is_ok()) {
                break;
            }
            let word =
                reply.as_deref().and_then(|reply| reply.split_whitespace().nth(1)).unwrap_or("UNKNOWN");
            assert!(["UNKNOWN", "TRYAGAIN", "NOLEADER", "LOADING"].contains(&word), "{reply:?}");
            (connection, place, again) = (None, place + 1, again + 1);
            thread::sleep(AFTER_REFUSAL);
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    again
}

/// Watches from node to node until so much was told, and takes along nothing but the last revision. Answers the values that
/// were told, and at how many nodes it was.
fn roam(first: usize, ports: &Ports) -> (Vec<usize>, usize) {
    let (mut told, mut revision, mut hops) = (Vec::new(), 0_u64, 0);
    for place in first.. {
        let Ok(mut client) = Client::open(&port(ports, place), WATCH_PATIENCE) else {
            thread::sleep(AFTER_REFUSAL);
            continue;
        };
        let begun = client.command(&["TIDE.WATCH", "PREFIX", "", "AFTER", &revision.to_string()]);
        if !begun.is_ok_and(|begun| begun == "OK") {
            continue;
        }
        hops += 1;
        for _ in 0..STAY {
            let Ok(event) = client.read_next() else { break };
            let words: Vec<&str> = event.split(['[', ']', ' ']).filter(|word| !word.is_empty()).collect();
            let ["tide.operation", at, "default", "written", "n", _, value] = words[..] else {
                panic!("nothing else happens: {event}")
            };
            let at = at.parse().expect("a revision");
            assert!(at > revision, "{at} was told behind {revision}");
            revision = at;
            told.push(value.parse().expect("a number"));
            if told.len() == COUNTING * TIMES {
                return (told, hops);
            }
        }
    }
    unreachable!("places do not end")
}

/// The leader dies again and again. All count to the same number, and whoever watches is told each number once.
#[test]
fn named_writes_are_done_once_and_roaming_watchers_are_told_each_once() {
    let mut anchors = Anchors::start();
    let (ports, done) = (anchors.ports.clone(), AtomicUsize::new(0));
    thread::scope(|scope| {
        let (ports, done) = (&*ports, &done);
        let counting = [0, 1, 2].map(|client| scope.spawn(move || count(client, ports, done)));
        let roaming = [0, 1].map(|first| scope.spawn(move || roam(first, ports)));
        for part in 1..=3 {
            eventually("they count", || done.load(Ordering::Relaxed) >= part * COUNTING * TIMES / 5);
            let leader = anchors.leader();
            anchors.nodes[leader].kill();
            let before = done.load(Ordering::Relaxed);
            eventually("the others go on", || done.load(Ordering::Relaxed) >= before + 10);
            anchors.nodes[leader].restart();
            anchors.publish();
        }
        let again: usize = counting.map(|counting| counting.join().expect("it counts")).iter().sum();
        assert!(again >= 1, "clients asked again {again} times only");
        for watcher in roaming {
            let (told, hops) = watcher.join().expect("it watches");
            assert_eq!(told, (1..=COUNTING * TIMES).collect::<Vec<_>>());
            assert!(hops >= 10, "it went to {hops} nodes only");
        }
    });
    let total = (COUNTING * TIMES).to_string();
    for node in &mut anchors.nodes {
        eventually("it has counted as far", || node.command(&["GET", "n"]) == total);
        // What was answered long ago is answered again, at each of them.
        let again = node.command(&["TIDE.AS", "client 0", "200", "INCR", "n"]);
        assert!(again.parse::<usize>().is_ok_and(|again| again <= COUNTING * TIMES), "{again}");
        let other = node.command(&["TIDE.AS", "client 0", "200", "INCR", "m"]);
        assert!(other.starts_with("error: ERR this client and number name another operation"), "{other}");
    }
}
