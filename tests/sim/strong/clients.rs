//! Clients of strong keyspaces: each asks for one thing after the other, at a node of its own while that runs, and
//! remembers what it was told and when.
//!
//! A client counts its operations. What became of one that nobody knows the outcome of it asks now and then by asking for
//! it again under its number, and else leaves open.

use std::collections::BTreeMap;

use tidelock_engine::id::{ClientId, KeyspaceId};
use tidelock_engine::request::{RequestError, RequestId, RequestReply};

use super::OperationName;
use super::deeds::{Answered, Cell, Deed};
use crate::linearizable::{Event, UNKNOWN};

/// What a client waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    /// Which client.
    pub(crate) client: usize,
    /// The node that was asked.
    pub(crate) node: usize,
    pub(crate) asked: Pending,
}

/// What a client asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) deed: Deed,
    pub(crate) cell: u8,
    /// Its number, if it is more than a read.
    pub(crate) number: Option<u64>,
    called: u64,
    /// Whether an earlier try may have been done.
    may_be_done: bool,
}

/// What came of what was asked for, for the book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// It is done.
    Done(Option<OperationName>),
    /// It is certainly not done.
    Denied(OperationName),
    /// Nobody knows, or it was a read.
    Nothing,
    /// It was answered with what is no answer.
    Wrong(String),
}

/// One client.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    id: ClientId,
    numbers: u64,
    /// Where it is when that runs.
    pub(crate) home: usize,
    again: Option<Pending>,
    /// What it last saw of each cell.
    pub(crate) seen: [Cell; CELLS],
}

/// The cells that clients share.
pub(crate) const CELLS: usize = 3;

/// All clients of a world, and their history.
#[derive(Debug, Default)]
pub struct Clients {
    /// Where they ask.
    pub(crate) keyspace: Option<(&'static str, KeyspaceId)>,
    pub(crate) all: Vec<Client>,
    pub(crate) waiting: BTreeMap<RequestId, Waiting>,
    /// What happened, by cell.
    pub events: Vec<Event<u8, Answered>>,
    /// What nobody told the outcome of, and its name.
    open: Vec<(OperationName, Event<u8, Answered>)>,
    moment: u64,
    /// Operations that were acknowledged.
    pub done: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Operations whose outcome nobody told.
    pub unknown: u64,
    /// Operations that were certainly not done, and reads that were not answered.
    pub denied: u64,
    /// Operations that were asked for again under their number.
    pub repeated: u64,
}

impl Clients {
    /// One more client, who is at that node.
    pub(crate) fn add(&mut self, home: usize) -> usize {
        let number = self.all.len();
        let mut id = [0xc1; 16];
        id[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
        self.all.push(Client { id: ClientId(id), numbers: 0, home, again: None, seen: Default::default() });
        number
    }

    /// The next moment: each thing that happens to clients has its own.
    pub(crate) fn moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// What a client asks for next, and its name if it counts.
    pub(crate) fn next(&mut self, client: usize, drawn: (Deed, u8)) -> (Pending, Option<OperationName>) {
        let called = self.moment();
        let one = &mut self.all[client];
        let pending = if let Some(again) = one.again.take() {
            self.repeated += 1;
            again
        } else {
            let (deed, cell) = drawn;
            one.numbers += u64::from(!deed.is_read());
            let number = (!deed.is_read()).then_some(one.numbers);
            Pending { deed, cell, number, called, may_be_done: false }
        };
        (pending, pending.number.map(|number| (one.id, number)))
    }

    /// A request was answered; `repeats` says whether its client asks again if nobody knows what came of it.
    pub(crate) fn answered(&mut self, id: RequestId, reply: &RequestReply, repeats: bool) -> Came {
        let Some(Waiting { client, asked, .. }) = self.waiting.remove(&id) else { return Came::Nothing };
        let name = asked.number.map(|number| (self.all[client].id, number));
        match reply {
            Ok(replies) => match asked.deed.told(replies) {
                Ok(told) => {
                    let returned = self.moment();
                    let seen = &mut self.all[client].seen[usize::from(asked.cell)];
                    *seen = asked.deed.seen(told, *seen);
                    *if name.is_some() { &mut self.done } else { &mut self.reads } += 1;
                    let (called, cell) = (asked.called, asked.cell);
                    let asked = Answered(asked.deed, Some(told));
                    self.events.push(Event { called, returned, cell, asked });
                    Came::Done(name)
                }
                Err(wrong) => Came::Wrong(wrong),
            },
            Err(RequestError::Unknown(_) | RequestError::Commit(_) | RequestError::Untold) => {
                self.lost(client, asked, repeats);
                Came::Nothing
            }
            Err(_) if asked.may_be_done => {
                self.lost(client, asked, repeats);
                Came::Nothing
            }
            Err(_) => {
                self.denied += 1;
                name.map_or(Came::Nothing, Came::Denied)
            }
        }
    }

    /// Nobody knows what came of something.
    fn lost(&mut self, client: usize, asked: Pending, repeats: bool) {
        let Some(number) = asked.number else {
            self.denied += 1;
            return;
        };
        if repeats {
            self.all[client].again = Some(Pending { may_be_done: true, ..asked });
        } else {
            self.unknown += 1;
            let (called, cell) = (asked.called, asked.cell);
            let name = (self.all[client].id, number);
            let asked = Answered(asked.deed, None);
            self.open.push((name, Event { called, returned: UNKNOWN, cell, asked }));
        }
    }

    /// A node is gone, and with it what it was asked; answers whose clients go on.
    pub(crate) fn ended(&mut self, node: usize, mut repeats: impl FnMut() -> bool) -> Vec<usize> {
        let gone: Vec<RequestId> =
            self.waiting.iter().filter(|(_, waiting)| waiting.node == node).map(|(id, _)| *id).collect();
        let mut free = Vec::new();
        for id in gone {
            let Waiting { client, asked, .. } = self.waiting.remove(&id).expect("it was there");
            self.lost(client, asked, repeats());
            free.push(client);
        }
        free
    }

    /// All that happened, when `executed` tells before which moment operations were executed: what was not never did.
    pub(crate) fn history(
        &mut self,
        executed: impl Fn(OperationName) -> Option<u64>,
    ) -> Vec<Event<u8, Answered>> {
        let open = self.open.iter().filter_map(|(name, event)| {
            let returned = executed(*name)?;
            Some(Event { returned, ..*event })
        });
        self.events.iter().copied().chain(open).collect()
    }

    /// Nobody asks any more: what is still open stays so.
    pub(crate) fn give_up(&mut self) {
        let waiting: Vec<Waiting> = std::mem::take(&mut self.waiting).into_values().collect();
        waiting.into_iter().for_each(|Waiting { client, asked, .. }| self.lost(client, asked, false));
        for client in 0..self.all.len() {
            if let Some(again) = self.all[client].again.take() {
                self.lost(client, again, false);
            }
        }
    }
}
