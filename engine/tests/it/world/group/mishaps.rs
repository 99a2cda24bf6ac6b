//! What befalls the nodes of a group: disks that are full, slow or lost, links that end, and nodes that become anchors.

use tidelock_engine::draft::Draft;
use tidelock_engine::mem_store::MemStore;
use tidelock_engine::message::Message;
use tidelock_engine::ports::{AnchorId, Batch, Durability, Log, SessionId, Store, TransportEvent};
use tidelock_engine::replica::{Heard, Input};
use tidelock_engine::row::{Payload, RowId};

use super::super::{NOTES, keyspace_id};
use super::{Group, cluster};

impl Group {
    /// The disk of a node takes nothing from now on, or takes everything again.
    pub(crate) fn fill(&mut self, index: usize, is_full: bool) {
        self.nodes[index].driver.as_mut().expect("it runs").store_mut().fill(is_full);
    }

    /// What has left a node since this was last asked, and to whom, while its disk holds back what was committed.
    pub(crate) fn left(&mut self, index: usize) -> Vec<(usize, Message)> {
        let driver = self.nodes[index].driver.as_mut().expect("it runs");
        let sent = std::mem::take(&mut driver.transport().sent).into_iter();
        sent.map(|(session, message)| (usize::try_from(session.0).expect("few"), message)).collect()
    }

    /// What was committed by a node comes to its disk.
    pub(crate) fn sync(&mut self, index: usize) {
        self.nodes[index].driver.as_mut().expect("it runs").sync().expect("memory takes everything");
    }

    /// A disk that was full has room, and the node goes on.
    pub(crate) fn heal(&mut self, index: usize) {
        self.fill(index, false);
        let driver = self.nodes[index].driver.as_mut().expect("it runs");
        let recovered = driver.store().recovered();
        driver.go_on(&recovered);
        self.tell_status(index);
        for other in (0..self.nodes.len()).filter(|other| *other != index) {
            self.meet(other, index);
        }
        self.greet(index);
    }

    /// A session with a node is over, and another one begins.
    pub(super) fn meet(&mut self, index: usize, other: usize) {
        let session = SessionId(other as u64);
        let down = TransportEvent::Down { session, reason: "restarted".to_owned() };
        let peer = self.nodes[other].key.peer();
        let address = "hand".to_owned();
        let up = TransportEvent::Up { peer, session, address, is_dialer: false };
        self.turn(index, vec![Input::Network(down), Input::Network(up)]);
    }

    /// The disk of a node is lost: it begins again with nothing, as another replica, and the others meet it anew.
    pub(crate) fn wipe(&mut self, index: usize, seed: u8) {
        self.nodes[index].driver = None;
        let card = self.nodes[index].key.card([seed; 16]);
        self.start(index, MemStore::new(cluster(), card));
        for other in (0..self.nodes.len()).filter(|other| *other != index) {
            self.meet(other, index);
        }
        self.greet(index);
    }

    /// A node goes on as another replica, which is no anchor.
    pub(crate) fn rejoin(&mut self, index: usize, seed: u8) {
        let (now, card) = (self.now(), self.nodes[index].key.card([seed; 16]));
        let driver = self.nodes[index].driver.as_mut().expect("it runs");
        driver.rejoin(now, card).expect("memory takes everything");
        (self.nodes[index].anchor, self.nodes[index].proposed) = Default::default();
        for other in (0..self.nodes.len()).filter(|other| *other != index) {
            self.meet(other, index);
        }
        self.greet(index);
    }

    /// A row of a node's keyspace is another one, or none, and its log does not say so.
    pub(crate) fn damage(&mut self, index: usize, row: RowId, payload: Option<Payload>) {
        let store = self.nodes[index].driver.as_mut().expect("it runs").store_mut();
        let mut draft = Draft::over(store);
        let author = row.dot.replica;
        draft.put(keyspace_id(NOTES), row, payload, author).expect("memory");
        let batch = Batch { changes: draft.into_changes(), ..Batch::default() };
        store.commit(&batch, Durability::Durable).expect("memory takes everything");
        self.restart(index);
    }

    /// A guest becomes an anchor, whose log begins with the first entry: the guest behind the last anchor.
    pub(crate) fn promote(&mut self) {
        let index = self.anchors;
        self.anchors += 1;
        self.nodes[index].anchor = Some(AnchorId(index as u64));
        self.turn(index, vec![Input::Consensus(Heard::Anchor(AnchorId(index as u64)))]);
        (0..self.anchors).for_each(|index| self.tell_status(index));
    }

    /// A node lets go of the log that it holds, but for the last record.
    pub(crate) fn forget_log(&mut self, index: usize) {
        let store = self.nodes[index].driver.as_mut().expect("it runs").store_mut();
        let end = store.end().position;
        store.truncate(end);
    }

    /// Two nodes do not hear each other any more, and know it.
    pub(crate) fn part(&mut self, a: usize, b: usize) {
        self.cut.insert((a, b));
        for (index, other) in [(a, b), (b, a)] {
            let reason = "parted".to_owned();
            let down = TransportEvent::Down { session: SessionId(other as u64), reason };
            self.turn(index, vec![Input::Network(down)]);
        }
    }
}
