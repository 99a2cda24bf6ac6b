//! Entries of `rows.redb` that are committed but not yet written there.
//!
//! An overlay holds the versions of each entry that somebody may still read: a reader asks for the newest
//! version at or before its moment, so that a commit, which adds its entries one by one, appears at once when
//! the moment is published. Moments count commits; they are numbers of this process and never stored.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard};

use smallvec::SmallVec;

/// A number that rises with every commit.
pub(crate) type Moment = u64;

/// The bytes of an entry; `None` when it was removed.
pub(crate) type EntryValue = Option<Arc<[u8]>>;

/// A key of so many bytes stands in the map itself, where comparing it costs no look elsewhere in memory.
const INLINE_BYTES: usize = 40;

type Key = SmallVec<[u8; INLINE_BYTES]>;

/// What an entry costs beyond its bytes, about: its place in the map.
const ENTRY_BYTES: usize = 64;

/// What a version costs beyond its bytes, about: its place, and the counts of its reference-counted value.
const VERSION_BYTES: usize = 48;

/// How many entries are added while readers wait.
const ENTRIES_PER_LOCK: usize = 128;

/// The entries of some consecutive commits.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    entries: RwLock<BTreeMap<Key, Versions>>,
    count: AtomicUsize,
    bytes: AtomicUsize,
}

/// Invariant: moments rise from `earlier` to `last`.
#[derive(Debug)]
struct Versions {
    last: (Moment, EntryValue),
    earlier: Vec<(Moment, EntryValue)>,
}

impl Versions {
    fn at(&self, moment: Moment) -> Option<&EntryValue> {
        let earlier = self.earlier.iter().rev();
        std::iter::once(&self.last).chain(earlier).find(|(at, _)| *at <= moment).map(|(_, value)| value)
    }

    /// Drops what nobody reads who reads at `moment` or later; answers how many bytes that were.
    fn forget_before(&mut self, moment: Moment) -> usize {
        let unneeded = if self.last.0 <= moment {
            self.earlier.len()
        } else {
            self.earlier.iter().rposition(|(at, _)| *at <= moment).unwrap_or(0)
        };
        self.earlier.drain(..unneeded).map(|(_, value)| bytes_of(&value)).sum()
    }
}

fn bytes_of(value: &EntryValue) -> usize {
    VERSION_BYTES + value.as_ref().map_or(0, |value| value.len())
}

impl Overlay {
    /// Adds the entries of a commit. They become visible when `moment` is published. Nobody reads at a moment
    /// before `oldest_read`, which is at most the one published now.
    pub(crate) fn add(&self, moment: Moment, oldest_read: Moment, entries: Vec<(Vec<u8>, EntryValue)>) {
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let mut map = self.entries.write().expect("no holder of this lock panics");
            for (key, value) in entries.by_ref().take(ENTRIES_PER_LOCK) {
                self.add_one(&mut map, (moment, value), oldest_read, &key);
            }
        }
    }

    fn add_one(
        &self,
        map: &mut BTreeMap<Key, Versions>,
        version: (Moment, EntryValue),
        oldest_read: Moment,
        key: &[u8],
    ) {
        let value_bytes = bytes_of(&version.1);
        if let Some(versions) = map.get_mut(key) {
            let forgotten = versions.forget_before(oldest_read);
            versions.earlier.push(std::mem::replace(&mut versions.last, version));
            self.bytes.fetch_add(value_bytes, Ordering::Relaxed);
            self.bytes.fetch_sub(forgotten, Ordering::Relaxed);
        } else {
            self.bytes.fetch_add(key.len() + value_bytes + ENTRY_BYTES, Ordering::Relaxed);
            self.count.fetch_add(1, Ordering::Relaxed);
            map.insert(Key::from_slice(key), Versions { last: version, earlier: Vec::new() });
        }
    }

    /// An entry at a moment; `None` when this overlay says nothing about it.
    pub(crate) fn get(&self, key: &[u8], moment: Moment) -> Option<EntryValue> {
        self.map().get(key)?.at(moment).cloned()
    }

    /// The first `limit` entries of a range that this overlay says something about.
    pub(crate) fn range(
        &self,
        from: Bound<&[u8]>,
        end: &[u8],
        moment: Moment,
        limit: usize,
    ) -> Vec<(Vec<u8>, EntryValue)> {
        // Comparing with the end as it goes is cheaper than looking for it first: most ranges have few entries.
        self.map()
            .range::<[u8], _>((from, Bound::Unbounded))
            .take_while(|(key, _)| &key[..] < end)
            .filter_map(|(key, versions)| Some((key.to_vec(), versions.at(moment)?.clone())))
            .take(limit)
            .collect()
    }

    /// Visits the last version of every entry in order. The overlay must take no more commits.
    pub(crate) fn visit_last<E>(
        &self,
        mut visit: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.map().iter().try_for_each(|(key, versions)| visit(key, versions.last.1.as_deref()))
    }

    /// The number of entries.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// What they take in memory, in bytes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn map(&self) -> RwLockReadGuard<'_, BTreeMap<Key, Versions>> {
        self.entries.read().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Arc<[u8]> {
        Arc::from(text.as_bytes())
    }

    fn add(overlay: &Overlay, moment: Moment, oldest_read: Moment, text: &str) {
        overlay.add(moment, oldest_read, vec![(b"k".to_vec(), Some(value(text)))]);
    }

    #[test]
    fn reader_sees_the_newest_version_at_its_moment() {
        let overlay = Overlay::default();
        add(&overlay, 2, 0, "two");
        add(&overlay, 5, 0, "five");
        overlay.add(7, 0, vec![(b"k".to_vec(), None)]);
        assert_eq!(overlay.get(b"k", 1), None);
        assert_eq!(overlay.get(b"k", 2), Some(Some(value("two"))));
        assert_eq!(overlay.get(b"k", 6), Some(Some(value("five"))));
        assert_eq!(overlay.get(b"k", 7), Some(None));
        assert_eq!(overlay.range(Bound::Unbounded, b"z", 4, 9), [(b"k".to_vec(), Some(value("two")))]);
    }

    #[test]
    fn range_ends_before_its_end_whatever_the_length_of_the_keys() {
        let overlay = Overlay::default();
        let keys = [vec![1], vec![2; INLINE_BYTES], vec![2; INLINE_BYTES + 1], vec![3], vec![4]];
        overlay.add(1, 0, keys.iter().map(|key| (key.clone(), None)).collect());
        let found: Vec<Vec<u8>> =
            overlay.range(Bound::Excluded(&[1]), &[4], 1, 9).into_iter().map(|(key, _)| key).collect();
        assert_eq!(found, keys[1..4]);
        assert_eq!(overlay.range(Bound::Included(&[1]), &[4], 1, 2).len(), 2);
    }

    #[test]
    fn hot_entry_keeps_two_versions_while_nobody_reads_older_ones() {
        let overlay = Overlay::default();
        for moment in 1..1_000 {
            add(&overlay, moment, moment - 1, "v");
            let kept = overlay.map().get(&b"k"[..]).map(|versions| versions.earlier.len());
            assert!(kept <= Some(1), "{kept:?} earlier versions at {moment}");
        }
        assert!(overlay.bytes() < 300, "{} bytes", overlay.bytes());
    }
}
