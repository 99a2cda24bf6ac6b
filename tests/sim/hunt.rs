//! The hunt for seeds that break something: all scenarios in turn, on all cores, until the time or the seeds
//! are over.
//!
//! Here and in the binary real time passes; no history knows of it. A history that does not end cannot be
//! stopped from outside: it is reported as stuck, and another thread takes its place.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crate::scenario::{Outcome, Scenario};
use crate::verdict::{self, Failure};

/// How often the players are looked after.
const LOOK: Duration = Duration::from_millis(500);

/// What is played.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// The scenarios, each with the same seeds.
    pub scenarios: Vec<&'static Scenario>,
    /// The first seed.
    pub first_seed: u64,
    /// The number of seeds of each scenario; `None` for as many as there is time for.
    pub seeds: Option<u64>,
    /// For how long seeds are begun; `None` for as long as there are any.
    pub lasts: Option<Duration>,
    /// The number of players, from 1.
    pub threads: usize,
    /// A seed that takes longer is stuck.
    pub stuck_after: Duration,
}

/// What a hunt says while it goes on.
#[derive(Debug)]
pub enum News {
    /// A seed was played.
    Played(&'static Scenario, Box<Result<Outcome, Failure>>),
    /// A seed takes longer than any should.
    Stuck(Failure),
    /// Nothing happened for a moment.
    Quiet,
}

/// What a player plays, and since when.
type Playing = Arc<Mutex<Option<(&'static str, u64, Instant)>>>;

/// A hunt that goes on.
struct Players {
    hunt: Arc<Hunt>,
    begun: Instant,
    next: Arc<AtomicU64>,
    playing: Vec<Playing>,
    sender: Sender<News>,
}

impl Hunt {
    /// Plays until the end, and tells the news as they come.
    pub fn run(&self, mut tell: impl FnMut(News)) {
        let (sender, receiver) = channel();
        let hunt = Arc::new(self.clone());
        let next = Arc::new(AtomicU64::new(0));
        let mut players = Players { hunt, begun: Instant::now(), next, playing: Vec::new(), sender };
        (0..self.threads).for_each(|_| players.add());
        players.listen(&receiver, &mut tell);
    }

    /// The scenario and seed of a turn, while there is one.
    fn turn(&self, number: u64, begun: Instant) -> Option<(&'static Scenario, u64)> {
        let count = self.scenarios.len() as u64;
        let seed = number / count;
        let is_over = self.seeds.is_some_and(|seeds| seed >= seeds)
            || self.lasts.is_some_and(|lasts| begun.elapsed() >= lasts);
        let scenario = usize::try_from(number % count).expect("below a usize");
        (!is_over).then(|| (self.scenarios[scenario], self.first_seed.wrapping_add(seed)))
    }
}

impl Players {
    fn add(&mut self) {
        let playing = Playing::default();
        self.playing.push(Arc::clone(&playing));
        let (hunt, next) = (Arc::clone(&self.hunt), Arc::clone(&self.next));
        let (begun, sender) = (self.begun, self.sender.clone());
        thread::spawn(move || {
            while let Some((scenario, seed)) = hunt.turn(next.fetch_add(1, Ordering::Relaxed), begun) {
                *lock(&playing) = Some((scenario.name, seed, Instant::now()));
                let result = verdict::play(scenario, seed);
                *lock(&playing) = None;
                if sender.send(News::Played(scenario, Box::new(result))).is_err() {
                    return;
                }
            }
            drop(playing);
        });
    }

    /// Tells the news until nobody plays any more but those that are stuck.
    fn listen(&mut self, receiver: &Receiver<News>, tell: &mut dyn FnMut(News)) {
        while !self.playing.is_empty() {
            match receiver.recv_timeout(LOOK) {
                Ok(news) => tell(news),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    // Whoever is done has dropped its share.
                    self.playing.retain(|playing| Arc::strong_count(playing) > 1);
                    tell(News::Quiet);
                }
            }
            for failure in self.take_stuck() {
                tell(News::Stuck(failure));
                self.add();
            }
        }
        receiver.try_iter().for_each(tell);
    }

    /// Takes out the players that are stuck. What they say later is still heard.
    fn take_stuck(&mut self) -> Vec<Failure> {
        let longest = self.hunt.stuck_after;
        let is_stuck = |playing: &mut Playing| lock(playing).is_some_and(|it| it.2.elapsed() > longest);
        let stuck: Vec<Playing> = self.playing.extract_if(.., is_stuck).collect();
        let failure = |playing: &Playing| {
            let (scenario, seed, since) = (*lock(playing))?;
            let message = format!("stuck: not over after {} s of real time", since.elapsed().as_secs());
            Some(Failure { scenario: scenario.to_owned(), seed, message, place: "watchdog".to_owned() })
        };
        stuck.iter().filter_map(failure).collect()
    }
}

fn lock(playing: &Playing) -> MutexGuard<'_, Option<(&'static str, u64, Instant)>> {
    playing.lock().expect("no holder of this lock panics")
}
