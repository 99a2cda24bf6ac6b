//! The one thread that changes things: it feeds the engine's turns and passes on what they leave.
//!
//! It takes what clients and peers have brought, makes one turn of it, and sleeps until there is more. While a
//! commit is under way the next inputs gather, and that is the group commit. It does no reading for clients.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidelock_engine::courier::Courier;
use tidelock_engine::frame::{Frame, SigningKey};
use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{Choice, LoggedFrame, Status, Target};
use tidelock_engine::replica::{AnchorReply, Input, Label, Now, OrderReply, Report};
use tidelock_engine::request::{RequestId, RequestReply};
use tidelock_engine::turn::{Driver, TurnOutcome};
use tidelock_store::RedbStore;
use tidelock_transport::Libp2pTransport;
use tokio::sync::{oneshot, watch};

use crate::document::Documents;
use crate::node::asking::{Outbox, Question, Replied};
use crate::node::ending::Ending;
use crate::node::group_times::GroupTimes;
use crate::node::mailbox::{Job, Mailbox};
use crate::node::metrics::LoopMetrics;
use crate::node::modes::Modes;
use crate::node::rejoining;
use crate::watch_hub::WatchHub;

/// The jobs of one turn at most.
const TURN_JOBS_MAX: usize = 1_024;

/// The events of the network that one turn takes at most.
const TURN_EVENTS_MAX: usize = 1_024;

/// The peers of the local network that are dialled for having been discovered, at most.
const DISCOVERED_MAX: usize = 64;

/// How often time passes for the engine.
const TICK: Duration = Duration::from_millis(100);

/// How long a buffered commit stays off the disk at most.
const BUFFERED_MAX: Duration = Duration::from_millis(50);

/// How often it is looked whether a disk that was full has room again.
const HEAL_EVERY: Duration = Duration::from_secs(1);

/// The loop's state.
pub(super) struct EventLoop {
    pub(super) driver: Driver<RedbStore, Libp2pTransport>,
    pub(super) courier: Courier,
    pub(super) key: SigningKey,
    pub(super) network: Libp2pTransport,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) hub: WatchHub,
    pub(super) documents: Arc<Documents>,
    pub(super) report: Arc<Mutex<Arc<Report>>>,
    pub(super) modes: Arc<Modes>,
    pub(super) group: watch::Sender<Status>,
    pub(super) is_full: Arc<AtomicBool>,
    pub(super) started: Instant,
    pub(super) pending: Pending,
    pub(super) metrics: LoopMetrics,
    pub(super) times: GroupTimes,
    pub(super) discovered: BTreeSet<PeerId>,
    /// The last field, so that the end is known when all else was let go.
    pub(super) _ending: Ending,
}

/// Who waits for which answers.
#[derive(Debug, Default)]
pub(super) struct Pending {
    next: u64,
    confirms: BTreeMap<RequestId, watch::Sender<usize>>,
    orders: BTreeMap<RequestId, oneshot::Sender<OrderReply>>,
    governed: BTreeMap<RequestId, oneshot::Sender<AnchorReply>>,
    /// By the id of their first request.
    bursts: BTreeMap<RequestId, Burst>,
}

/// Requests that were handed over together, and are answered together: those of an eventual keyspace in the turn that
/// takes them, others when the anchors have decided. Their ids follow each other.
#[derive(Debug)]
struct Burst {
    replies: Vec<Option<RequestReply>>,
    missing: usize,
    label: Option<Label>,
    sender: oneshot::Sender<Replied>,
}

impl EventLoop {
    /// Runs until the mailbox is closed and everything in it was done.
    pub(super) fn run(mut self) {
        let mut tick_at = Instant::now();
        let mut sync_at: Option<Instant> = None;
        let mut heal_at = tick_at;
        loop {
            let events = self.network.poll_events(TURN_EVENTS_MAX);
            let jobs = self.mailbox.take(TURN_JOBS_MAX);
            let now = Instant::now();
            let is_tick = now >= tick_at;
            let is_due = unix_ms() >= self.driver.replica().next_deadline_ms();
            let mut inputs: Vec<Input> = events.into_iter().map(|(_, event)| Input::Network(event)).collect();
            self.courier.collect(&mut inputs, &mut self.network, is_tick || is_due || !jobs.is_empty());
            self.times.heard(&inputs);
            let is_idle = inputs.is_empty() && jobs.is_empty() && !is_tick && !is_due;
            if !is_idle {
                self.take_jobs(jobs, &mut inputs);
                if is_tick {
                    inputs.push(Input::Tick);
                    self.forget_confirms(&mut inputs);
                    self.greet_discovered(&mut inputs);
                    tick_at = now + TICK;
                }
                let count = inputs.len();
                let outcome = self.driver.turn(self.moment(), inputs);
                self.metrics.turned(count, now.elapsed());
                self.pass_on(outcome);
                if is_tick {
                    self.publish_report();
                    self.hub.tick();
                }
                if now >= heal_at && self.driver.store().is_full() {
                    self.heal();
                    heal_at = now + HEAL_EVERY;
                }
            }
            sync_at = if self.driver.is_durable() { None } else { sync_at.or(Some(now + BUFFERED_MAX)) };
            if sync_at.is_some_and(|at| Instant::now() >= at) {
                // A failure is in the replica's report, and every later write is refused with it.
                let _ = self.driver.sync();
                sync_at = None;
            }
            // Peers that keep sending do not keep it from ending.
            if self.mailbox.is_done() {
                break;
            }
            if is_idle {
                let until = sync_at.map_or(tick_at, |at| at.min(tick_at));
                let due_in = self.driver.replica().next_deadline_ms().saturating_sub(unix_ms());
                let patience = until.saturating_duration_since(Instant::now());
                thread::park_timeout(patience.min(Duration::from_millis(due_in)));
            }
        }
        let _ = self.driver.sync();
        self.publish_report();
        // With all rows written the next start has nothing to replay. If they can not be, it replays.
        if let Err(error) = self.driver.store().flush() {
            tracing::warn!(%error, "cannot write all rows before the end");
        }
        // It reads the store, which is to be closed when the end is known. A panic of it was logged by itself.
        if let Some(worker) = self.documents.close() {
            let _ = worker.join();
        }
    }

    /// Takes writes again if the disk was full and has room.
    fn heal(&mut self) {
        match self.driver.store_mut().heal() {
            Ok(Some(recovered)) => {
                // What it had not on disk it must not remember.
                self.courier.close();
                self.driver.go_on(&recovered);
                self.courier.reopen(self.driver.replica().anchor());
                self.times.forget();
                self.modes.publish_all(self.driver.replica());
                // Peers are met anew, so whoever waits for their confirmations would wait for ever.
                self.pending.confirms.clear();
                // What the failed commit left on the disk can be read now.
                self.hub.invalidate_all();
                tracing::info!("the disk has room again, and the node takes writes again");
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the disk has room again, but the store cannot be opened"),
        }
    }

    fn take_jobs(&mut self, jobs: Vec<Job>, inputs: &mut Vec<Input>) {
        for job in jobs {
            match job {
                Job::Requests(requests, sender) | Job::Changes(requests, sender) => {
                    self.pending.expect_replies(requests.len(), sender);
                    for (request, terms) in requests {
                        self.metrics.asked(&request);
                        inputs.push(Input::RequestOn(self.pending.next_id(), request, terms));
                    }
                }
                Job::Question(question) => self.tell(question),
                Job::Confirm(keyspace, sender) => {
                    let id = self.pending.next_id();
                    self.pending.confirms.insert(id, sender);
                    inputs.push(Input::Confirm(id, keyspace));
                }
                Job::Watch(request) => self.hub.add(request),
                Job::Rejoin(is_forced, sender) => {
                    let now = self.moment();
                    // Whoever asked may have gone; what was done shows in the status.
                    let rejoined = rejoining::rejoin(&mut self.driver, &self.key, now, is_forced);
                    // Another replica is another anchor, if it is any.
                    self.courier.reopen(self.driver.replica().anchor());
                    let _ = sender.send(rejoined);
                }
                Job::Order(keyspace, order, sender) => {
                    let id = self.pending.next_id();
                    self.pending.orders.insert(id, sender);
                    inputs.push(Input::Order(id, keyspace, order));
                }
                Job::Govern(order, sender) => {
                    let id = self.pending.next_id();
                    self.pending.governed.insert(id, sender);
                    inputs.push(Input::Govern(id, order));
                }
                Job::Connect(target) => inputs.push(Input::Connect(target)),
                Job::Listening(addresses) => inputs.push(Input::Listening(addresses)),
                #[cfg(test)]
                Job::Panic => panic!("as the test wants it"),
            }
        }
    }

    /// Answers what is asked of the replica. Whoever asked may have gone.
    fn tell(&self, question: Question) {
        let (replica, store) = (self.driver.replica(), self.driver.store());
        match question {
            Question::Outbox(keyspace, bytes_max, sender) => {
                let id = replica.id_of(&keyspace);
                let logged = replica.outbox(store, id, bytes_max);
                let operations = replica.outbox_operations(id);
                // What does not decode was never in the log: the store checks what it reads.
                let frame = |frame: &LoggedFrame| Frame::decode(&frame.bytes).expect("it was decoded before");
                let outbox =
                    logged.map(|frames| Outbox { operations, frames: frames.iter().map(frame).collect() });
                let _ = sender.send(outbox);
            }
        }
    }

    /// Watchers see a change before its writer is answered, so a writer finds it in its own watch.
    fn pass_on(&mut self, outcome: TurnOutcome) {
        self.times.asked(&outcome.asks);
        self.courier.deliver(outcome.asks);
        // Whoever is answered from here on finds the modes in which that was done.
        self.modes.publish(self.driver.replica(), &outcome.modes);
        self.group.send_if_modified(|status| {
            let now = self.driver.replica().group();
            let is_other = status != now;
            if is_other {
                status.clone_from(now);
            }
            is_other
        });
        if let Some(position) = outcome.position {
            self.hub.publish(&outcome.changes, position, unix_ms());
            self.documents.inbox.note_losses(&outcome.changes, self.driver.replica().id());
        }
        for (name, settings) in &outcome.settings {
            if settings.choice == Some(Choice::Leave) {
                self.hub.lose(self.driver.replica().id_of(name));
            }
        }
        // Whoever ordered finds in the next status what came of it.
        if !outcome.orders.is_empty() {
            self.publish_report();
        }
        for (id, reply) in outcome.orders {
            if let Some(sender) = self.pending.orders.remove(&id) {
                // Whoever ordered may have gone.
                let _ = sender.send(reply);
            }
        }
        for (id, reply) in outcome.governed {
            if let Some(sender) = self.pending.governed.remove(&id) {
                let _ = sender.send(reply);
            }
        }
        for (id, confirmed) in outcome.confirmations {
            if let Some(sender) = self.pending.confirms.get(&id) {
                sender.send_replace(confirmed);
            }
        }
        for (id, label) in outcome.labels {
            self.pending.labelled(id, label);
        }
        for (id, reply) in outcome.replies {
            self.pending.replied(id, reply);
        }
    }

    fn forget_confirms(&mut self, inputs: &mut Vec<Input>) {
        self.pending.confirms.retain(|id, sender| {
            let is_wanted = !sender.is_closed();
            if !is_wanted {
                inputs.push(Input::Forget(*id));
            }
            is_wanted
        });
    }

    /// Peers that multicast DNS has found since the last tick are kept connected with like configured ones.
    fn greet_discovered(&mut self, inputs: &mut Vec<Input>) {
        for (peer, addresses) in self.network.discovered() {
            if self.discovered.len() < DISCOVERED_MAX && self.discovered.insert(peer) {
                inputs.push(Input::Connect(Target { peer: Some(peer), addresses }));
            }
        }
    }

    fn publish_report(&self) {
        self.is_full.store(self.driver.store().is_full(), Ordering::Relaxed);
        let report = Arc::new(self.driver.replica().report());
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }

    fn moment(&self) -> Now {
        Now {
            unix_ms: unix_ms(),
            mono_ms: millis(self.started.elapsed()),
            // Without dice the choices among peers repeat, which is harmless.
            entropy: getrandom::u64().unwrap_or(0),
        }
    }
}

impl Pending {
    fn next_id(&mut self) -> RequestId {
        self.next += 1;
        RequestId(self.next)
    }

    /// The next requests, so many, are answered together.
    fn expect_replies(&mut self, count: usize, sender: oneshot::Sender<Replied>) {
        if count == 0 {
            let _ = sender.send(Replied::default());
            return;
        }
        let replies = std::iter::repeat_with(|| None).take(count).collect();
        let burst = Burst { replies, missing: count, label: None, sender };
        self.bursts.insert(RequestId(self.next + 1), burst);
    }

    /// Takes in what a read saw, before its reply.
    fn labelled(&mut self, id: RequestId, label: Label) {
        if let Some((_, burst)) = self.bursts.range_mut(..=id).next_back() {
            burst.label = Some(label);
        }
    }

    /// Takes in a reply, and answers those that are answered together once the last of them has one.
    fn replied(&mut self, id: RequestId, reply: RequestReply) {
        let Some((first, burst)) = self.bursts.range_mut(..=id).next_back() else { return };
        let first = *first;
        let place = usize::try_from(id.0 - first.0).unwrap_or(usize::MAX);
        let Some(slot) = burst.replies.get_mut(place) else { return };
        burst.missing -= usize::from(slot.replace(reply).is_none());
        if burst.missing > 0 {
            return;
        }
        let Some(Burst { replies, label, sender, .. }) = self.bursts.remove(&first) else { return };
        // A client that went away does not want its answer.
        let _ = sender.send(Replied { replies: replies.into_iter().flatten().collect(), label });
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
