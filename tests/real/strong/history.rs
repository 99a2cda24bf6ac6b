//! Clients of a strong keyspace, and the history of what they asked and were told.
//!
//! What was certainly not done is left out of the history, so a trace of it that anybody sees explains nothing. What may
//! have been done, because the node died or said so, has no end.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::linearizable::{self, Event, UNKNOWN, Verdict};
use crate::processes::Client;

/// How long a client waits for a reply: longer than a node may take to find out that there is no leader.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a client waits after it was refused, or could not connect.
const AFTER_REFUSAL: Duration = Duration::from_millis(20);

/// The registers, and as many counters. Few, so that clients meet.
const KEYS: i64 = 4;

/// What was asked of a key.
#[derive(Clone, Copy, Debug)]
enum Asked {
    /// GET, and what it answered.
    Get(Option<i64>),
    /// SET.
    Set(i64),
    /// INCR, and what it answered, if it did.
    Increment(Option<i64>),
}

impl linearizable::Asked for Asked {
    type State = Option<i64>;

    fn step(&self, state: &Option<i64>) -> Option<Option<i64>> {
        match *self {
            Self::Get(read) => (read == *state).then_some(*state),
            Self::Set(value) => Some(Some(value)),
            Self::Increment(answer) => {
                let sum = state.unwrap_or_default() + 1;
                answer.is_none_or(|answer| answer == sum).then_some(Some(sum))
            }
        }
    }
}

/// The keys: registers below [`KEYS`], counters from there on.
type Cell = i64;

/// What all clients saw.
#[derive(Debug)]
pub(crate) struct History {
    began: Instant,
    events: Mutex<Vec<Event<Cell, Asked>>>,
    values: AtomicI64,
    refused: Mutex<BTreeMap<String, usize>>,
}

impl History {
    pub(crate) fn new() -> Self {
        let (events, refused) = (Mutex::default(), Mutex::default());
        Self { began: Instant::now(), events, values: AtomicI64::new(0), refused }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).expect("a test is short")
    }

    /// A client that asks whatever node answers, until it is told to stop. `seed` says what it asks.
    pub(crate) fn ask_until(&self, seed: u64, nodes: &Mutex<Vec<String>>, stop: &AtomicBool) {
        let mut random = seed;
        let mut connection = None;
        while !stop.load(Ordering::Relaxed) {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let dice = random >> 33;
            let Some(client) = connection.as_mut() else {
                let nodes = nodes.lock().expect("no client panics with it").clone();
                let node = &nodes[usize::try_from(dice).expect("it fits") % nodes.len()];
                connection = Client::open(node, PATIENCE).ok();
                if connection.is_none() {
                    std::thread::sleep(AFTER_REFUSAL);
                }
                continue;
            };
            let key = i64::try_from(dice % 8).expect("it is small") % KEYS;
            let (cell, asked) = match dice / 8 % 4 {
                0 => (key, Asked::Set(self.values.fetch_add(1, Ordering::Relaxed))),
                1 => (key, Asked::Get(None)),
                2 => (key + KEYS, Asked::Increment(None)),
                _ => (key + KEYS, Asked::Get(None)),
            };
            if !self.ask(client, cell, asked) {
                connection = None;
            }
        }
    }

    /// Asks one thing; answers whether the connection can be used further.
    fn ask(&self, client: &mut Client, cell: Cell, asked: Asked) -> bool {
        let key = format!("k{cell}");
        let called = self.now();
        let reply = match asked {
            Asked::Get(_) => client.command(&["GET", &key]),
            Asked::Set(value) => client.command(&["SET", &key, &value.to_string()]),
            Asked::Increment(_) => client.command(&["INCR", &key]),
        };
        let mut event = Event { called, returned: self.now(), cell, asked };
        let is_usable = reply.is_ok();
        match (reply, &mut event.asked) {
            (Ok(reply), _) if is_certainly_not_done(&reply) => {
                let word = reply.split_whitespace().nth(1).unwrap_or_default().to_owned();
                *self.refused.lock().expect("no client panics with it").entry(word).or_default() += 1;
                std::thread::sleep(AFTER_REFUSAL);
                return true;
            }
            // A read that was not answered says nothing.
            (Err(_), Asked::Get(_)) => return false,
            (Ok(reply), Asked::Get(read)) => *read = number(&reply),
            (Ok(reply), _) if reply.starts_with("error: UNKNOWN ") => event.returned = UNKNOWN,
            (Err(_), _) => event.returned = UNKNOWN,
            (Ok(reply), Asked::Set(_)) => assert_eq!(reply, "OK"),
            (Ok(reply), Asked::Increment(answer)) => *answer = number(&reply),
        }
        self.events.lock().expect("no client panics with it").push(event);
        is_usable
    }

    /// How many operations were answered.
    pub(crate) fn answered(&self) -> usize {
        let events = self.events.lock().expect("no client panics with it");
        events.iter().filter(|event| event.returned != UNKNOWN).count()
    }

    /// Reads every key at the end, from a node, as one more client.
    pub(crate) fn read_all(&self, node: &str) {
        let mut client = Client::connect(node);
        for cell in 0..2 * KEYS {
            let before = self.events.lock().expect("no client panics with it").len();
            while self.events.lock().expect("no client panics with it").len() == before {
                assert!(self.ask(&mut client, cell, Asked::Get(None)), "{node} answers");
            }
        }
    }

    /// Whether all that was answered could have happened, one after the other: nothing acknowledged is lost, nothing is
    /// done twice, and no read is stale.
    pub(crate) fn judge(&self) {
        let events = self.events.lock().expect("no client panics with it");
        let unknown = events.iter().filter(|event| event.returned == UNKNOWN).count();
        let refused = self.refused.lock().expect("no client panics with it");
        println!("{} operations, {unknown} unknown, refused: {refused:?}", events.len());
        let verdict = linearizable::check(&None, &events);
        if let Verdict::Not { cell, .. } | Verdict::TooLarge { cell } = verdict {
            let mut of_cell: Vec<_> = events.iter().filter(|event| event.cell == cell).collect();
            of_cell.sort_by_key(|event| event.called);
            let lines = of_cell
                .iter()
                .map(|event| format!("{} {} {:?}\n", event.called, event.returned, event.asked));
            panic!("k{cell}: {verdict:?}\n{}", lines.collect::<String>());
        }
    }
}

/// Whether a reply says that nothing was done and that it may be tried again.
fn is_certainly_not_done(reply: &str) -> bool {
    let words = ["TRYAGAIN", "NOLEADER", "READONLY", "LOADING"];
    reply.strip_prefix("error: ").is_some_and(|error| words.iter().any(|word| error.starts_with(word)))
}

fn number(reply: &str) -> Option<i64> {
    (reply != "nil").then(|| reply.parse().unwrap_or_else(|_| panic!("not a number: {reply}")))
}
