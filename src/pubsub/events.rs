//! Keyspace notifications: which are wanted, and what is told of the keys that a turn changed.
//!
//! They are made of what a reader sees to have changed, whoever wrote it, here or on a peer: which command it was is not
//! known. So a key is told once for a turn, by events of its kind, and each node tells its own subscribers of what it
//! applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU16, Ordering};

use tidelock_engine::id::{KeyspaceId, KeyspaceName};
use tidelock_engine::row::Kind;

use super::PubSub;
use super::letter::{Letter, Space};
use crate::watch::Change;

/// The letters of the classes, as Redis orders them when it tells what is set; those behind `A` are not part of it.
const LETTERS: [u8; 14] = *b"g$lshzxetdnKEm";

/// The letters that `A` stands for.
const ALL: u16 = (1 << 10) - 1;

const KEYSPACE: u16 = 1 << 11;
const KEYEVENT: u16 = 1 << 12;

/// Classes of notifications, chosen by the letters of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Letters(u16);

impl Letters {
    /// What the letters stand for, if they all stand for something.
    pub(crate) fn parse(letters: &[u8]) -> Option<Self> {
        let mut flags = 0;
        for letter in letters {
            flags |=
                if *letter == b'A' { ALL } else { 1 << LETTERS.iter().position(|known| known == letter)? };
        }
        Some(Self(flags))
    }
}

/// Which notifications are wanted: `CONFIG SET notify-keyspace-events`. None at first.
#[derive(Debug, Default)]
pub(crate) struct Wanted(AtomicU16);

impl Wanted {
    pub(super) fn set(&self, letters: Letters) {
        self.0.store(letters.0, Ordering::Relaxed);
    }

    /// The letters, as Redis writes them.
    pub(crate) fn text(&self) -> String {
        let flags = self.0.load(Ordering::Relaxed);
        let is_all = flags & ALL == ALL;
        let told = LETTERS.iter().enumerate().filter(|(place, _)| {
            let flag = 1 << place;
            // Redis leaves out that new keys are told, when all else is.
            flags & flag != 0 && !(is_all && (flag & ALL != 0 || flag == 1 << 10))
        });
        is_all.then_some('A').into_iter().chain(told.map(|(_, letter)| char::from(*letter))).collect()
    }

    fn has(&self, flag: u16) -> bool {
        self.0.load(Ordering::Relaxed) & flag != 0
    }
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Set,
    Sadd,
    Srem,
    Hset,
    Hdel,
    Zadd,
    Zrem,
    Document,
    Expire,
    Persist,
    Del,
    Expired,
}

impl Event {
    /// Its name, and the letter of its class.
    fn name(self) -> (&'static str, u8) {
        match self {
            Self::Set => ("set", b'$'),
            Self::Sadd => ("sadd", b's'),
            Self::Srem => ("srem", b's'),
            Self::Hset => ("hset", b'h'),
            Self::Hdel => ("hdel", b'h'),
            Self::Zadd => ("zadd", b'z'),
            Self::Zrem => ("zrem", b'z'),
            Self::Document => ("document", b'd'),
            Self::Expire => ("expire", b'g'),
            Self::Persist => ("persist", b'g'),
            Self::Del => ("del", b'g'),
            Self::Expired => ("expired", b'x'),
        }
    }
}

/// What a turn did to one key.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    events: BTreeSet<Event>,
    has_lost: bool,
    /// The deadline before and after, if it was touched.
    pub(crate) deadline: Option<(Option<u64>, Option<u64>)>,
}

impl Touched {
    /// Notes a change that a reader sees.
    pub(crate) fn note(&mut self, change: &Change) {
        let is_there = change.new.is_some();
        self.has_lost |= !is_there;
        let event = match (change.kind, is_there) {
            (Kind::Set, true) => Event::Sadd,
            (Kind::Set, false) => Event::Srem,
            (Kind::Map, true) => Event::Hset,
            (Kind::Map, false) => Event::Hdel,
            (Kind::Sorted, true) => Event::Zadd,
            (Kind::Sorted, false) => Event::Zrem,
            (Kind::Document, true) => Event::Document,
            (_, true) => Event::Set,
            // What is left of the key tells more.
            (_, false) => return,
        };
        self.events.insert(event);
    }

    /// Whether it matters if the key is still there.
    pub(crate) fn may_be_gone(&self) -> bool {
        self.has_lost
    }

    /// What is told. A key that is gone is told to be gone, and by nothing else.
    fn told(mut self, is_gone: bool, unix_ms: u64) -> BTreeSet<Event> {
        let (before, after) = self.deadline.unwrap_or_default();
        if is_gone {
            let is_due = before.is_some_and(|deadline| deadline <= unix_ms);
            return BTreeSet::from([if is_due { Event::Expired } else { Event::Del }]);
        }
        match (before, after) {
            (before, Some(_)) if before != after => drop(self.events.insert(Event::Expire)),
            // SET takes the deadline along, as in Redis, which does not tell that.
            (Some(_), None) if !self.events.contains(&Event::Set) => drop(self.events.insert(Event::Persist)),
            _ => {}
        }
        self.events
    }
}

/// The keys that a turn touched, and whether each is gone.
pub(crate) type Keys = BTreeMap<(KeyspaceId, Vec<u8>), (Touched, bool)>;

impl PubSub {
    /// Whether anybody may be told of a key.
    pub(crate) fn tells_of_keys(&self) -> bool {
        self.wanted.has(KEYSPACE | KEYEVENT) && self.hub().is_listened_to()
    }

    /// Tells the subscribers of this node what became of keys. Deadlines up to `unix_ms` are past.
    pub(crate) fn tell_of_keys(&self, keys: Keys, names: &[(KeyspaceId, KeyspaceName)], unix_ms: u64) {
        for ((keyspace, key), (touched, is_gone)) in keys {
            let Some((_, name)) = names.iter().find(|(id, _)| *id == keyspace) else { continue };
            let database = database(name.as_str());
            for event in touched.told(is_gone, unix_ms) {
                let (event, letter) = event.name();
                let place = LETTERS.iter().position(|known| *known == letter);
                if !place.is_some_and(|place| self.wanted.has(1 << place)) {
                    continue;
                }
                if self.wanted.has(KEYSPACE) {
                    let channel = [format!("__keyspace@{database}__:").as_bytes(), &key].concat();
                    self.tell_here(channel, event.as_bytes().to_vec());
                }
                if self.wanted.has(KEYEVENT) {
                    let channel = format!("__keyevent@{database}__:{event}").into_bytes();
                    self.tell_here(channel, key.clone());
                }
            }
        }
    }

    fn tell_here(&self, channel: Vec<u8>, payload: Vec<u8>) {
        self.hub().tell(Letter { space: Space::Plain, channel, payload, author: self.peer });
    }
}

/// What SELECT calls a keyspace: a number, or its name.
fn database(name: &str) -> &str {
    match name.strip_prefix("db") {
        Some(number) if number.parse::<u32>().is_ok() => number,
        _ if name == "default" => "0",
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_taken_and_told_as_by_redis() {
        let wanted = Wanted::default();
        for (set, told) in [
            ("KEA", "AKE"),
            ("Kx", "xK"),
            ("g$lshzxetdK", "AK"),
            ("", ""),
            ("mEn$", "$nEm"),
            ("AnK", "AK"),
            ("xEK", "xKE"),
        ] {
            wanted.set(Letters::parse(set.as_bytes()).expect("they stand for something"));
            assert_eq!(wanted.text(), told, "{set}");
        }
        assert_eq!(Letters::parse(b"KEq"), None);
    }

    #[test]
    fn keyspaces_are_called_as_select_calls_them() {
        assert_eq!(["default", "db7", "dbx", "notes"].map(database), ["0", "7", "dbx", "notes"]);
    }

    #[test]
    fn deadlines_say_what_became_of_a_key() {
        let told = |events: &[Event], deadline, is_gone| {
            let events = events.iter().copied().collect();
            let touched = Touched { events, has_lost: is_gone, deadline };
            touched.told(is_gone, 100).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(told(&[Event::Hdel], None, true), [Event::Del]);
        assert_eq!(told(&[], Some((Some(100), None)), true), [Event::Expired]);
        assert_eq!(told(&[], Some((Some(101), None)), true), [Event::Del]);
        assert_eq!(told(&[Event::Set], Some((None, Some(7))), false), [Event::Set, Event::Expire]);
        assert_eq!(told(&[Event::Set], Some((Some(7), None)), false), [Event::Set]);
        assert_eq!(told(&[], Some((Some(7), None)), false), [Event::Persist]);
        assert_eq!(told(&[Event::Sadd, Event::Srem], None, false), [Event::Sadd, Event::Srem]);
    }
}
