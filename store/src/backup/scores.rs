//! The orders of the sorted sets among rows that are taken in their order. No more than one set is kept.

use tidelock_engine::causality::{Dot, Stamp};
use tidelock_engine::order::built;
use tidelock_engine::ports::Place;
use tidelock_engine::row::Payload;
use tidelock_engine::score::Score;

use crate::key;
use crate::schema::seal;

/// A sorted set whose rows are being taken in.
#[derive(Default)]
pub(super) struct ScoresOfSet {
    set: (u32, Vec<u8>),
    member: Option<(Vec<u8>, (Stamp, Dot, Score))>,
    places: Vec<Place>,
    entries: Vec<(Vec<u8>, Vec<u8>)>,
}

impl ScoresOfSet {
    /// Takes in a row of a sorted set; `None` if it holds no score.
    pub(super) fn take(
        &mut self,
        (keyspace, key): (u32, &[u8]),
        member: &[u8],
        (dot, payload): (Dot, &Payload),
    ) -> Option<()> {
        let Payload::Value { stamp, value } = payload else { return None };
        let score = (*stamp, dot, Score::from_bytes(value).ok()?);
        if self.set.0 != keyspace || self.set.1 != key {
            self.end_set();
            self.set = (keyspace, key.to_vec());
        }
        match &mut self.member {
            Some((same, read)) if same == member => *read = score.max(*read),
            _ => {
                self.end_member();
                self.member = Some((member.to_vec(), score));
            }
        }
        Some(())
    }

    /// The entries of the sets that were taken in whole.
    pub(super) fn finished(&mut self, is_end: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
        if is_end {
            self.end_set();
        }
        std::mem::take(&mut self.entries)
    }

    fn end_member(&mut self) {
        let place = self.member.take().map(|(member, (.., score))| Place { score, member });
        self.places.extend(place);
    }

    fn end_set(&mut self) {
        self.end_member();
        let mut places = std::mem::take(&mut self.places);
        places.sort_unstable();
        let (keyspace, user_key) = &self.set;
        self.entries.extend(built(places).into_iter().map(|(milestone, count)| {
            let key = key::order(*keyspace, user_key, &milestone);
            let value = seal(&key, key::order_value(milestone.height, count));
            (key, value)
        }));
    }
}
