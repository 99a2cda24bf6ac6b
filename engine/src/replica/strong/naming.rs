//! The names of operations whose clients do not count: this node is their client.
//!
//! Of a client only the outcomes of its highest numbers are kept, and what is below them is never executed. What this
//! node has open may be executed in any order, so one name is used for as many operations as are kept at once, and
//! further ones for what is open beside.

use std::collections::BTreeSet;

use crate::bounds::OUTCOMES_PER_CLIENT;
use crate::command::{ClientId, OperationId};
use crate::id::KeyspaceId;
use crate::mode::Mode;
use crate::replica::{Now, Replica};

/// This node's names as a client, for as long as it runs.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<Name>);

#[derive(Debug)]
struct Name {
    client: ClientId,
    last: u64,
    /// The numbers of which it is not known what became of them.
    open: BTreeSet<u64>,
}

impl Name {
    fn has_room(&self, count: u64) -> bool {
        self.open.first().is_none_or(|first| self.last + count < first + OUTCOMES_PER_CLIENT)
    }
}

impl Names {
    fn take(&mut self, count: u64, draw: impl FnOnce(usize) -> ClientId) -> (ClientId, u64) {
        let place = self.0.iter().position(|name| name.has_room(count)).unwrap_or_else(|| {
            let client = draw(self.0.len());
            self.0.push(Name { client, last: 0, open: BTreeSet::new() });
            self.0.len() - 1
        });
        let name = &mut self.0[place];
        let first = name.last + 1;
        name.last += count;
        name.open.extend(first..=name.last);
        (name.client, first)
    }

    /// Nobody waits any more for so many operations from this one on.
    pub(super) fn close(&mut self, operation: &OperationId, count: u64) {
        if let Some(name) = self.0.iter_mut().find(|name| name.client == operation.client) {
            (operation.number..operation.number.saturating_add(count)).for_each(|number| {
                name.open.remove(&number);
            });
        }
    }
}

impl Replica {
    /// The first of so many operations, whose numbers follow each other: as the client names it, or drawn.
    pub(super) fn operation(
        &mut self,
        now: Now,
        id: KeyspaceId,
        named: Option<(ClientId, u64)>,
        count: usize,
    ) -> OperationId {
        let epoch = self.mode(id).map(Mode::latest).unwrap_or_default();
        let (client, number) = named.unwrap_or_else(|| {
            let own = self.id;
            self.strong.requests.names.take(count as u64, |place| draw_client(now, own.as_bytes(), place))
        });
        OperationId { epoch, client, number }
    }
}

/// A name that nobody else has, nor this node when it ran before.
fn draw_client(now: Now, own: &[u8], place: usize) -> ClientId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(own);
    hasher.update(&now.unix_ms.to_be_bytes());
    hasher.update(&now.entropy.to_be_bytes());
    hasher.update(&(place as u64).to_be_bytes());
    ClientId(*hasher.finalize().as_bytes().first_chunk().expect("a blake3 hash has 32 bytes"))
}
