//! Who listens to what, on this node.
//!
//! A message is queued for all its subscribers under one lock, so all see those of one publisher in one order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::letter::{Letter, Space};
use super::queue::{Notice, Queue};
use crate::redis::glob_matches;

/// The number of a subscriber.
type Id = u64;

/// The subscribers of a node.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    names: Mutex<Names>,
    ids: AtomicU64,
    queued_bytes: Arc<AtomicUsize>,
    told: AtomicU64,
    lost: AtomicU64,
    malformed: AtomicU64,
}

/// By name, who listens.
type Listeners = BTreeMap<Arc<[u8]>, BTreeMap<Id, Arc<Queue>>>;

#[derive(Debug, Default)]
struct Names {
    plain: Listeners,
    sharded: Listeners,
    patterns: Listeners,
}

impl Names {
    fn of(&self, space: Space) -> &Listeners {
        match space {
            Space::Plain => &self.plain,
            Space::Sharded => &self.sharded,
            Space::Pattern => &self.patterns,
        }
    }

    fn of_mut(&mut self, space: Space) -> &mut Listeners {
        match space {
            Space::Plain => &mut self.plain,
            Space::Sharded => &mut self.sharded,
            Space::Pattern => &mut self.patterns,
        }
    }
}

/// What a node's channels have done since the start, and what there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubFigures {
    /// Channels that somebody listens to.
    pub channels: usize,
    /// Channels of the sharded commands that somebody listens to.
    pub sharded_channels: usize,
    /// Patterns that somebody listens to.
    pub patterns: usize,
    /// Messages queued for subscribers, counted for each.
    pub told: u64,
    /// Messages that subscribers lost because they did not read, counted for each.
    pub lost: u64,
    /// What peers published that was no message.
    pub malformed: u64,
    /// What waits for subscribers, in bytes.
    pub queued_bytes: usize,
}

impl Hub {
    /// A subscriber for whom so many bytes may wait. It listens to nothing yet.
    pub(crate) fn subscriber(hub: &Arc<Self>, bytes_max: usize) -> Subscriber {
        let queue = Arc::new(Queue::new(bytes_max, Arc::clone(&hub.queued_bytes)));
        let id = hub.ids.fetch_add(1, Ordering::Relaxed);
        let names = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
        Subscriber { id, hub: Arc::clone(hub), queue, names, held_bytes: 0 }
    }

    /// Tells a message to whoever listens; answers how many were told, counting each way.
    pub(crate) fn tell(&self, letter: Letter) -> usize {
        let names = self.lock();
        let listeners = names.of(letter.space).get(letter.channel.as_slice());
        let has_patterns = letter.space == Space::Plain && !names.patterns.is_empty();
        if listeners.is_none() && !has_patterns {
            return 0;
        }
        let letter = Arc::new(letter);
        let (mut told, mut lost) = (0, 0);
        let mut push = |queue: &Queue, pattern: Option<&Arc<[u8]>>| {
            if queue.push(pattern.cloned(), &letter) { told += 1 } else { lost += 1 }
        };
        listeners.into_iter().flat_map(BTreeMap::values).for_each(|queue| push(queue, None));
        if has_patterns {
            let matching = names.patterns.iter().filter(|(glob, _)| glob_matches(glob, &letter.channel));
            for (pattern, listeners) in matching {
                listeners.values().for_each(|queue| push(queue, Some(pattern)));
            }
        }
        drop(names);
        self.told.fetch_add(told as u64, Ordering::Relaxed);
        self.lost.fetch_add(lost, Ordering::Relaxed);
        told
    }

    /// Whether anybody listens to a channel or pattern.
    pub(super) fn is_listened_to(&self) -> bool {
        let names = self.lock();
        !names.plain.is_empty() || !names.patterns.is_empty()
    }

    pub(super) fn note_malformed(&self) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
    }

    /// The names that somebody listens to and a pattern matches.
    pub(crate) fn channels(&self, space: Space, pattern: Option<&[u8]>) -> Vec<Vec<u8>> {
        let names = self.lock();
        let wanted = |name: &&Arc<[u8]>| pattern.is_none_or(|pattern| glob_matches(pattern, name));
        names.of(space).keys().filter(wanted).map(|name| name.to_vec()).collect()
    }

    /// How many listen to a name.
    pub(crate) fn count(&self, space: Space, name: &[u8]) -> usize {
        self.lock().of(space).get(name).map_or(0, BTreeMap::len)
    }

    pub(crate) fn figures(&self) -> HubFigures {
        let names = self.lock();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HubFigures {
            channels: names.plain.len(),
            sharded_channels: names.sharded.len(),
            patterns: names.patterns.len(),
            told: count(&self.told),
            lost: count(&self.lost),
            malformed: count(&self.malformed),
            queued_bytes: self.queued_bytes.load(Ordering::Relaxed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One subscriber, with what it listens to. When it is dropped it listens to nothing.
#[derive(Debug)]
pub(crate) struct Subscriber {
    id: Id,
    hub: Arc<Hub>,
    queue: Arc<Queue>,
    /// By space.
    names: [BTreeSet<Arc<[u8]>>; 3],
    held_bytes: usize,
}

/// What a name costs a subscriber beside its bytes.
const NAME_COST_BYTES: usize = 128;

impl Subscriber {
    /// Listens to a name, if it does not yet.
    pub(crate) fn subscribe(&mut self, space: Space, name: &[u8]) {
        if self.names[space as usize].contains(name) {
            return;
        }
        let mut names = self.hub.lock();
        let listeners = names.of_mut(space);
        // All who listen to a name share its bytes.
        let name = listeners.get_key_value(name).map_or_else(|| name.into(), |(known, _)| Arc::clone(known));
        listeners.entry(Arc::clone(&name)).or_default().insert(self.id, Arc::clone(&self.queue));
        drop(names);
        self.held_bytes += NAME_COST_BYTES + name.len();
        self.names[space as usize].insert(name);
    }

    /// Listens to a name no more.
    pub(crate) fn unsubscribe(&mut self, space: Space, name: &[u8]) {
        if self.names[space as usize].remove(name) {
            self.held_bytes -= NAME_COST_BYTES + name.len();
            leave(&mut self.hub.lock(), space, name, self.id);
        }
    }

    /// What it listens to, in order.
    pub(crate) fn names(&self, space: Space) -> impl ExactSizeIterator<Item = &Arc<[u8]>> {
        self.names[space as usize].iter()
    }

    /// The bytes of the names that it listens to.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Waits until there is something, or, if there is no room for it, until something is lost.
    pub(crate) async fn told(&self, has_room: bool) {
        self.queue.told(has_room).await;
    }

    /// What is next, if there is anything.
    pub(crate) fn try_next(&self) -> Option<Notice> {
        self.queue.try_next()
    }

    /// Waits for what is next. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&self) -> Notice {
        self.queue.next().await
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let mut names = self.hub.lock();
        for space in [Space::Plain, Space::Sharded, Space::Pattern] {
            self.names[space as usize].iter().for_each(|name| leave(&mut names, space, name, self.id));
        }
    }
}

/// Takes a subscriber off a name, and the name with the last of them.
fn leave(names: &mut Names, space: Space, name: &[u8], id: Id) {
    let listeners = names.of_mut(space);
    if let Some(of_name) = listeners.get_mut(name) {
        of_name.remove(&id);
        if of_name.is_empty() {
            listeners.remove(name);
        }
    }
}
