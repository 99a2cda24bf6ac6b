//! The order of a sorted set: where a score or a rank is, without reading all members.
//!
//! A member has an entry at height 0, and nothing else says where it is. Above, the order is cut into *stretches*,
//! each an entry with the number of members from its first place on up to the next of its height. Stretches of one
//! height consist of whole ones of the height below. So a walk from the highest down passes what is before it in
//! steps of many members, and a change touches one count per height.
//!
//! A stretch of height h is cut in two when it holds more than twice [`FAN`] to the power h, and neighbours become one
//! when they hold no more than half of that power. So there is a bounded number of stretches in one of the height above,
//! whatever comes and goes in which order: nobody can choose members so that a walk gets long. Where the cuts are
//! depends on the order of arrival, so two replicas cut alike only by chance. They are derived, local, and outside the
//! fingerprint; of the entries at height 0 every replica with the same rows has the same.
//!
//! Source: L. Arge, J. S. Vitter, "Optimal external memory interval management" (2003), weight-balanced B-trees; here a
//! node is its first key, so that no entry is larger than one member. J. I. Munro, T. Papadakis, R. Sedgewick,
//! "Deterministic skip lists" (1992), for a walk that needs nothing but sorted entries.

use std::ops::ControlFlow;

use crate::id::KeyspaceId;
use crate::ports::{HEIGHT_MAX, Milestone, Place, ReadError, Rows};

/// A stretch consists of about so many of the height below.
pub const FAN: u64 = 32;

/// The members of a stretch of this height, about.
pub(crate) const fn members_of(height: u8) -> u64 {
    FAN.saturating_pow(height as u32)
}

/// A stretch of more members is cut.
pub(crate) const fn members_max(height: u8) -> u64 {
    members_of(height).saturating_mul(2)
}

/// The order of one sorted set, as it can be read.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    rows: &'a dyn Rows,
    keyspace: KeyspaceId,
    key: &'a [u8],
}

impl std::fmt::Debug for Order<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Order")
            .field("keyspace", &self.keyspace)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl<'a> Order<'a> {
    /// The order of the sorted set under a key.
    pub const fn of(rows: &'a dyn Rows, keyspace: KeyspaceId, key: &'a [u8]) -> Self {
        Self { rows, keyspace, key }
    }

    /// The number of members before a place.
    pub fn before(&self, place: &Place) -> Result<u64, ReadError> {
        let (start, passed) = self.down(|at, _| at <= place)?;
        let mut count = passed;
        self.walk(&Milestone::new(0, start), &mut |at, _| {
            if at >= *place {
                return ControlFlow::Break(());
            }
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    /// Shows the members from a rank on, in order, until told to stop.
    pub fn from(&self, rank: u64, mut show: impl FnMut(Place) -> ControlFlow<()>) -> Result<(), ReadError> {
        let (start, passed) = self.down(|_, passed| passed <= rank)?;
        let mut skipped = passed;
        self.walk(&Milestone::new(0, start), &mut |place, _| {
            if skipped < rank {
                skipped += 1;
                return ControlFlow::Continue(());
            }
            show(place)
        })
    }

    /// The height of the highest stretches; 0 if there are none.
    pub(crate) fn top(&self) -> Result<u8, ReadError> {
        let mut top = 0;
        self.rows.order(self.keyspace, self.key, &Milestone::FIRST, &mut |first, _| {
            top = first.height;
            ControlFlow::Break(())
        })?;
        Ok(top)
    }

    /// Shows the entries of one height from a place on.
    pub(crate) fn walk(
        &self,
        from: &Milestone,
        show: &mut dyn FnMut(Place, u64) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.rows.order(self.keyspace, self.key, from, &mut |milestone, count| {
            if milestone.height == from.height {
                show(milestone.place, count)
            } else {
                ControlFlow::Break(())
            }
        })
    }

    /// Goes down through the last stretch of each height whose beginning, and the members passed up to there, are not
    /// too far. Answers where the lowest begins, and how many members are before it.
    fn down(&self, is_near: impl Fn(&Place, u64) -> bool) -> Result<(Place, u64), ReadError> {
        let (mut start, mut passed) = (Place::FIRST, 0);
        for height in (1..=self.top()?).rev() {
            let (mut next, mut within) = (passed, passed);
            let mut last = start.clone();
            self.walk(&Milestone::new(height, start), &mut |place, count| {
                if !is_near(&place, next) {
                    return ControlFlow::Break(());
                }
                (last, within) = (place, next);
                next = within.saturating_add(count);
                ControlFlow::Continue(())
            })?;
            (start, passed) = (last, within);
        }
        Ok((start, passed))
    }
}

/// The entries of a set that is there whole, of places in their order: cut as evenly as can be.
pub fn built(places: Vec<Place>) -> Vec<(Milestone, u64)> {
    let total = places.len() as u64;
    let mut entries = Vec::new();
    for height in (1..=HEIGHT_MAX).rev().filter(|height| total > members_max(*height)) {
        let size = usize::try_from(members_of(height)).expect("a set in memory is longer");
        for (number, stretch) in places.chunks(size).enumerate() {
            let place = if number == 0 { Place::FIRST } else { stretch[0].clone() };
            entries.push((Milestone::new(height, place), stretch.len() as u64));
        }
    }
    entries.extend(places.into_iter().map(|place| (Milestone::new(0, place), 1)));
    entries
}

/// Where a stretch begins, how many members it says it holds, and how many were counted.
type Stretch = (Place, u64, u64);

/// Checks the entries of a set, which are taken in their order: that every count is right, and that each stretch
/// consists of whole ones.
#[derive(Debug, Default)]
pub struct OrderAudit {
    /// The stretches of each height, from the highest down.
    heights: Vec<(u8, Vec<Stretch>)>,
    last: Option<Milestone>,
    /// The members.
    pub members: u64,
}

impl OrderAudit {
    /// Takes in an entry; `None` if it is out of order, or cuts a stretch that is not cut below.
    pub fn take(&mut self, milestone: &Milestone, count: u64) -> Option<()> {
        if self.last.as_ref().is_some_and(|last| last >= milestone) {
            return None;
        }
        self.last = Some(milestone.clone());
        let Milestone { height, place } = milestone;
        if *height > 0 {
            if self.heights.last().is_none_or(|(last, _)| last != height) {
                (*place == Place::FIRST).then_some(())?;
                self.heights.push((*height, Vec::new()));
            }
            let (_, stretches) = self.heights.last_mut()?;
            stretches.push((place.clone(), count, 0));
            return Some(());
        }
        self.members += count;
        for (_, stretches) in &mut self.heights {
            let at = stretches.partition_point(|(first, ..)| first <= place).checked_sub(1)?;
            stretches[at].2 += count;
        }
        (count == 1).then_some(())
    }

    /// What is wrong, if something is, now that all entries were taken in.
    pub fn complaint(&self) -> Option<String> {
        for (height, stretches) in &self.heights {
            if let Some((place, says, _)) = stretches.iter().find(|(_, says, _)| *says > members_max(*height))
            {
                return Some(format!(
                    "the stretch {height} at {place:?} holds {says} members and was not cut"
                ));
            }
            if let Some((place, says, counted)) = stretches.iter().find(|(_, says, counted)| says != counted)
            {
                return Some(format!(
                    "the stretch {height} at {place:?} holds {counted} members, and says {says}"
                ));
            }
        }
        let heights: Vec<u8> = self.heights.iter().map(|(height, _)| *height).rev().collect();
        if heights.iter().zip(1..).any(|(height, wanted)| *height != wanted) {
            return Some(format!("there are stretches of the heights {heights:?} only"));
        }
        for (above, below) in self.heights.iter().zip(self.heights.iter().skip(1)) {
            let is_cut = |place: &Place| below.1.binary_search_by(|(first, ..)| first.cmp(place)).is_ok();
            if let Some((place, ..)) = above.1.iter().find(|(place, ..)| !is_cut(place)) {
                return Some(format!("the stretch {} at {place:?} is not of whole ones", above.0));
            }
            for (number, (place, count, _)) in above.1.iter().enumerate() {
                let until = above.1.get(number + 1).map(|(next, ..)| next);
                let within =
                    below.1.iter().filter(|(at, ..)| at >= place && until.is_none_or(|next| at < next));
                let parts = within.count() as u64;
                if parts > PARTS_MAX {
                    return Some(format!(
                        "the stretch {} at {place:?} of {count} has {parts} parts",
                        above.0
                    ));
                }
            }
        }
        None
    }
}

/// The stretches in one of the height above at most: any two neighbours of it hold more than half of what one should,
/// but where two have just become one.
const PARTS_MAX: u64 = 16 * FAN;
