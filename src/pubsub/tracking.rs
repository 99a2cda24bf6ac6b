//! Which keys clients keep copies of, and who is told that a copy is not good any more: CLIENT TRACKING.
//!
//! A client is remembered with what it reads, or names prefixes. After each turn, whoever wrote, here or on a peer, who
//! has read a key that changed is told of it once, and is remembered with it again when it reads it again. A key is
//! remembered before it is read, and looked up once its change can be read, so no change of a copy is missed; a client
//! may be told of one that its copy shows already.
//!
//! All is bounded. Who is remembered with more than it may be, or does not read what it is told, is told that none of
//! its copies is good, which says enough at any time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tidelock_engine::id::KeyspaceName;
use tokio::sync::Notify;

/// What a remembered key takes beside its bytes, about.
const KEY_COST_BYTES: usize = 128;

/// The keys that one client is remembered with at most, in bytes.
const CLIENT_BYTES_MAX: usize = 16 << 20;

/// The keys that all clients are remembered with at most, in bytes.
const ALL_BYTES_MAX: usize = 128 << 20;

/// What waits for one client at most, in bytes.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// The keys of one turn that a client is told of by a prefix. Of more it is told that all are changed.
const TOLD_BY_PREFIX_MAX: usize = 4_096;

type Key = Arc<[u8]>;

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Invalidation {
    /// Copies of these keys are not good any more.
    Keys(Vec<Key>),
    /// No copy is good any more.
    All,
    /// The client of this number is gone, which was to be told instead.
    Broken(u64),
}

impl Invalidation {
    fn bytes(&self) -> usize {
        match self {
            Self::Keys(keys) => keys.iter().map(|key| KEY_COST_BYTES + key.len()).sum(),
            Self::All | Self::Broken(_) => KEY_COST_BYTES,
        }
    }
}

/// What waits for one client, between the event loop that tells it and its own task.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Each with whether another client's copies are meant.
    told: VecDeque<(Invalidation, bool)>,
    bytes: usize,
}

impl Inbox {
    fn push(&self, mut told: Invalidation, mut is_redirected: bool) {
        let mut waiting = self.lock();
        if waiting.bytes + told.bytes() > WAITING_BYTES_MAX {
            // One word stands for all that waits.
            is_redirected |= waiting.told.iter().any(|(_, is_redirected)| *is_redirected);
            (told, *waiting) = (Invalidation::All, Waiting::default());
        }
        waiting.bytes += told.bytes();
        waiting.told.push_back((told, is_redirected));
        drop(waiting);
        self.wake.notify_one();
    }

    /// What is next, if there is anything, and whether another client's copies are meant.
    pub(crate) fn try_next(&self) -> Option<(Invalidation, bool)> {
        let mut waiting = self.lock();
        let next = waiting.told.pop_front()?;
        waiting.bytes -= next.0.bytes();
        Some(next)
    }

    /// Waits until there is something.
    pub(crate) async fn told(&self) {
        while self.lock().told.is_empty() {
            self.wake.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who is told of what, on this node.
#[derive(Debug, Default)]
pub(crate) struct Tracking(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    clients: BTreeMap<u64, Told>,
    /// Who has read which keys.
    readers: BTreeMap<KeyspaceName, BTreeMap<Key, BTreeSet<u64>>>,
    /// The keys of all clients, as they count.
    bytes: usize,
    next: u64,
}

/// One client that is told.
#[derive(Debug)]
struct Told {
    inbox: Arc<Inbox>,
    /// The client that is told instead.
    redirect: Option<(u64, Weak<Inbox>)>,
    is_broken: bool,
    /// What it has read.
    keys: BTreeMap<KeyspaceName, BTreeSet<Key>>,
    bytes: usize,
    prefixes: BTreeSet<Key>,
}

impl Told {
    fn tell(&mut self, told: Invalidation) {
        match &self.redirect {
            None => self.inbox.push(told, false),
            Some((client, inbox)) => {
                if let Some(inbox) = inbox.upgrade() {
                    inbox.push(told, true);
                } else {
                    self.is_broken = true;
                    self.inbox.push(Invalidation::Broken(*client), false);
                }
            }
        }
    }
}

/// What is tracked, for INFO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrackingFigures {
    /// Clients that are told of something.
    pub(crate) clients: usize,
    /// Keys that some client has read.
    pub(crate) keys: usize,
    /// The same, counted for each client that has.
    pub(crate) items: usize,
    /// Prefixes, counted once.
    pub(crate) prefixes: usize,
}

impl Tracking {
    /// Whether any client is told of anything.
    pub(crate) fn is_on(&self) -> bool {
        !self.lock().clients.is_empty()
    }

    /// Tells of keys that a turn changed. Their changes can be read by now. Keys may be named more than once.
    pub(crate) fn changed<'a>(&self, keys: impl IntoIterator<Item = (&'a KeyspaceName, &'a [u8])>) {
        let mut state = self.lock();
        let has_prefixes = state.clients.values().any(|client| !client.prefixes.is_empty());
        let mut by_prefix = BTreeSet::new();
        for (keyspace, key) in keys {
            if has_prefixes && !by_prefix.contains(key) {
                by_prefix.insert(Key::from(key));
            }
            state.tell_readers(keyspace, key);
        }
        for client in state.clients.values_mut() {
            for prefix in client.prefixes.clone() {
                let behind = by_prefix.range(Key::clone(&prefix)..);
                let of_prefix =
                    behind.take_while(|key| key.starts_with(&prefix)).take(TOLD_BY_PREFIX_MAX + 1);
                let keys: Vec<Key> = of_prefix.cloned().collect();
                match keys.len() {
                    0 => {}
                    1..=TOLD_BY_PREFIX_MAX => client.tell(Invalidation::Keys(keys)),
                    _ => client.tell(Invalidation::All),
                }
            }
        }
    }

    /// Tells that any key may be another.
    pub(crate) fn changed_all(&self) {
        let mut state = self.lock();
        let clients: Vec<u64> = state.clients.keys().copied().collect();
        clients.into_iter().for_each(|client| state.give_up(client));
    }

    pub(crate) fn figures(&self) -> TrackingFigures {
        let state = self.lock();
        let prefixes: BTreeSet<&Key> = state.clients.values().flat_map(|client| &client.prefixes).collect();
        TrackingFigures {
            clients: state.clients.len(),
            keys: state.readers.values().map(BTreeMap::len).sum(),
            items: state.clients.values().flat_map(|client| client.keys.values()).map(BTreeSet::len).sum(),
            prefixes: prefixes.len(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Tells who has read a key, and forgets that they have.
    fn tell_readers(&mut self, keyspace: &KeyspaceName, key: &[u8]) {
        let Some(keys) = self.readers.get_mut(keyspace) else { return };
        let Some((key, readers)) = keys.remove_entry(key) else { return };
        if keys.is_empty() {
            self.readers.remove(keyspace);
        }
        for reader in readers {
            let client = self.clients.get_mut(&reader).expect("who ends is forgotten with its keys");
            if let Some(keys) = client.keys.get_mut(keyspace) {
                keys.remove(&key);
            }
            client.bytes -= cost(&key);
            self.bytes -= cost(&key);
            client.tell(Invalidation::Keys(vec![Key::clone(&key)]));
        }
    }

    /// Forgets all that a client has read.
    fn forget(&mut self, client: u64) {
        let Some(told) = self.clients.get_mut(&client) else { return };
        self.bytes -= std::mem::take(&mut told.bytes);
        for (keyspace, keys) in std::mem::take(&mut told.keys) {
            let Some(readers) = self.readers.get_mut(&keyspace) else { continue };
            for key in keys {
                if let Some(of_key) = readers.get_mut(&key) {
                    of_key.remove(&client);
                    if of_key.is_empty() {
                        readers.remove(&key);
                    }
                }
            }
            if readers.is_empty() {
                self.readers.remove(&keyspace);
            }
        }
    }

    /// Tells a client that none of its copies is good, in place of what it has read.
    fn give_up(&mut self, client: u64) {
        self.forget(client);
        if let Some(told) = self.clients.get_mut(&client) {
            told.tell(Invalidation::All);
        }
    }

    fn remember(&mut self, client: u64, keyspace: &KeyspaceName, key: &[u8]) {
        let told = self.clients.get_mut(&client).expect("it tracks");
        let readers = self.readers.entry(keyspace.clone()).or_default();
        // All who have read a key share its bytes.
        let key = readers.get_key_value(key).map_or_else(|| Key::from(key), |(known, _)| Key::clone(known));
        if told.keys.entry(keyspace.clone()).or_default().insert(Key::clone(&key)) {
            told.bytes += cost(&key);
            self.bytes += cost(&key);
            readers.entry(key).or_default().insert(client);
        }
        if told.bytes > CLIENT_BYTES_MAX {
            self.give_up(client);
        }
        while self.bytes > ALL_BYTES_MAX {
            let fullest = self.clients.iter().max_by_key(|(_, told)| told.bytes);
            let fullest = *fullest.expect("somebody has read the keys").0;
            self.give_up(fullest);
        }
    }
}

fn cost(key: &[u8]) -> usize {
    KEY_COST_BYTES + key.len()
}

/// A client that tracks. When it is dropped it is told nothing more.
#[derive(Debug)]
pub(crate) struct Tracker {
    tracking: Arc<Tracking>,
    id: u64,
}

impl Tracker {
    /// A client that is told of what it reads from now on.
    pub(crate) fn new(tracking: &Arc<Tracking>, inbox: &Arc<Inbox>) -> Self {
        let mut state = tracking.lock();
        let id = state.next;
        state.next += 1;
        let told = Told {
            inbox: Arc::clone(inbox),
            redirect: None,
            is_broken: false,
            keys: BTreeMap::new(),
            bytes: 0,
            prefixes: BTreeSet::new(),
        };
        state.clients.insert(id, told);
        Self { tracking: Arc::clone(tracking), id }
    }

    /// Lets another client be told instead, or none.
    pub(crate) fn redirect(&self, redirect: Option<(u64, Weak<Inbox>)>) {
        self.with(|told| (told.redirect, told.is_broken) = (redirect, false));
    }

    /// Also tells of all keys of all keyspaces that begin so.
    pub(crate) fn follow(&self, prefix: &[u8]) {
        self.with(|told| {
            told.prefixes.insert(prefix.into());
        });
    }

    /// The prefixes, in order.
    pub(crate) fn prefixes(&self) -> Vec<Arc<[u8]>> {
        self.with(|told| told.prefixes.iter().cloned().collect())
    }

    /// Whether the client that is to be told instead was gone.
    pub(crate) fn is_broken(&self) -> bool {
        self.with(|told| told.is_broken)
    }

    /// Remembers keys that are about to be read.
    pub(crate) fn remember<'a>(&self, keyspace: &KeyspaceName, keys: impl IntoIterator<Item = &'a [u8]>) {
        let mut state = self.tracking.lock();
        keys.into_iter().for_each(|key| state.remember(self.id, keyspace, key));
    }

    fn with<T>(&self, what: impl FnOnce(&mut Told) -> T) -> T {
        what(self.tracking.lock().clients.get_mut(&self.id).expect("it is there until it is dropped"))
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        let mut state = self.tracking.lock();
        state.forget(self.id);
        state.clients.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyspace() -> KeyspaceName {
        "notes".parse().expect("a name")
    }

    fn told(inbox: &Inbox) -> Vec<Invalidation> {
        std::iter::from_fn(|| inbox.try_next()).map(|(told, _)| told).collect()
    }

    fn keys(keys: &[&str]) -> Invalidation {
        Invalidation::Keys(keys.iter().map(|key| key.as_bytes().into()).collect())
    }

    fn change(tracking: &Tracking, keys: &[&str]) {
        let keyspace = keyspace();
        tracking.changed(keys.iter().map(|key| (&keyspace, key.as_bytes())));
    }

    #[test]
    fn key_that_was_read_is_told_once_and_only_to_who_read_it_there() {
        let tracking = Arc::default();
        let inboxes: [Arc<Inbox>; 2] = Default::default();
        let trackers = inboxes.each_ref().map(|inbox| Tracker::new(&tracking, inbox));
        trackers[0].remember(&keyspace(), [b"a".as_slice(), b"b"]);
        trackers[1].remember(&"other".parse().expect("a name"), [b"a".as_slice()]);
        change(&tracking, &["a", "a", "c"]);
        change(&tracking, &["a"]);
        assert_eq!(told(&inboxes[0]), [keys(&["a"])]);
        assert_eq!(told(&inboxes[1]), []);
        let figures = TrackingFigures { clients: 2, keys: 2, items: 2, prefixes: 0 };
        assert_eq!(tracking.figures(), figures);
        drop(trackers);
        assert_eq!(tracking.figures(), TrackingFigures::default());
        assert_eq!(tracking.lock().bytes, 0);
    }

    #[test]
    fn prefixes_are_told_together_and_too_many_keys_as_all() {
        let (tracking, inbox) = (Arc::default(), Arc::default());
        let tracker = Tracker::new(&tracking, &inbox);
        ["x", "y"].iter().for_each(|prefix| tracker.follow(prefix.as_bytes()));
        change(&tracking, &["x2", "a", "y", "x1", "x2"]);
        assert_eq!(told(&inbox), [keys(&["x1", "x2"]), keys(&["y"])]);
        let many: Vec<String> = (0..=TOLD_BY_PREFIX_MAX).map(|number| format!("x{number}")).collect();
        change(&tracking, &many[1..].iter().map(String::as_str).collect::<Vec<_>>());
        change(&tracking, &many.iter().map(String::as_str).collect::<Vec<_>>());
        let told = told(&inbox);
        assert!(
            matches!(&told[..], [Invalidation::Keys(keys), Invalidation::All] if keys.len() == many.len() - 1)
        );
    }

    #[test]
    fn who_is_remembered_with_too_much_is_told_that_nothing_is_good() {
        let tracking = Arc::default();
        let long = |letter: u8, number: u32| [vec![letter; 1 << 16], number.to_be_bytes().to_vec()].concat();
        let per_client = u32::try_from(CLIENT_BYTES_MAX / cost(&long(0, 0))).expect("it is small");
        let inboxes: Vec<Arc<Inbox>> = (0..10).map(|_| Arc::default()).collect();
        let trackers: Vec<Tracker> = inboxes.iter().map(|inbox| Tracker::new(&tracking, inbox)).collect();
        for number in 0..per_client {
            trackers[0].remember(&keyspace(), [long(0, number).as_slice()]);
        }
        assert_eq!(told(&inboxes[0]), []);
        trackers[0].remember(&keyspace(), [long(0, per_client).as_slice()]);
        assert_eq!(told(&inboxes[0]), [Invalidation::All]);
        assert_eq!(tracking.figures().items, 0);
        for (letter, tracker) in (1..).zip(&trackers[1..]) {
            for number in 0..per_client {
                tracker.remember(&keyspace(), [long(letter, number).as_slice()]);
            }
        }
        assert!(tracking.lock().bytes <= ALL_BYTES_MAX);
        let given_up = inboxes.iter().filter(|inbox| told(inbox) == [Invalidation::All]).count();
        assert_eq!(given_up, 1, "nine are remembered with more than all may be, so one is not");
    }

    #[test]
    fn who_does_not_read_is_told_less_and_nothing_wrong() {
        let (tracking, inbox) = (Arc::default(), Arc::default());
        let tracker = Tracker::new(&tracking, &inbox);
        let many: Vec<String> = (0..20_000).map(|number| format!("key {number}")).collect();
        tracker.remember(&keyspace(), many.iter().map(String::as_bytes));
        change(&tracking, &many.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(inbox.lock().bytes <= WAITING_BYTES_MAX);
        assert_eq!(told(&inbox)[0], Invalidation::All);
    }

    #[test]
    fn redirection_to_who_is_gone_is_told_to_who_asked() {
        let (tracking, inbox, other): (_, Arc<Inbox>, Arc<Inbox>) = Default::default();
        let tracker = Tracker::new(&tracking, &inbox);
        tracker.redirect(Some((7, Arc::downgrade(&other))));
        tracker.remember(&keyspace(), [b"a".as_slice(), b"b"]);
        change(&tracking, &["a"]);
        assert_eq!(other.try_next(), Some((keys(&["a"]), true)));
        assert!(!tracker.is_broken());
        drop(other);
        change(&tracking, &["b"]);
        assert_eq!(told(&inbox), [Invalidation::Broken(7)]);
        assert!(tracker.is_broken());
        tracking.changed_all();
        assert_eq!(told(&inbox), [Invalidation::Broken(7)]);
    }
}
