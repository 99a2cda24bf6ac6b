//! What the courier makes of what a group says: which of it is a reason for a turn, and which waits for the next one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidelock_engine::courier::Courier;
use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{
    AnchorId, Change, Consensus, DriverError, LogIndex, Member, Output, RequestId, Role, Status, Term, Token,
};
use tidelock_engine::replica::{Heard, Input};

use crate::world::by_hand::Kept;

/// What a group says next.
type Saying = Arc<Mutex<Vec<Output>>>;

/// A group that says what it is told to.
struct Scripted(Saying);

impl Consensus for Scripted {
    fn received(&mut self, _: PeerId, _: &[u8]) {}
    fn disconnected(&mut self, _: PeerId) {}
    fn untold(&mut self, _: &[u8]) {}
    fn introduce(&mut self, _: LogIndex, _: BTreeMap<AnchorId, Member>) {}
    fn propose(&mut self, _: RequestId, _: Vec<u8>, _: Duration) {}
    fn barrier(&mut self, _: RequestId, _: Duration) {}
    fn administer(&mut self, _: RequestId, _: Change, _: Duration) {}
    fn written(&mut self, _: Token, _: Result<(), DriverError>) {}
    fn applied(&mut self, _: Token, _: Result<Vec<Vec<u8>>, DriverError>) {}
    fn snapshot_built(&mut self, _: Token, _: Result<Vec<u8>, DriverError>) {}
    fn installed(&mut self, _: Token, _: Result<(), DriverError>) {}

    fn poll(&mut self) -> Vec<Output> {
        std::mem::take(&mut *self.0.lock().expect("nobody panics"))
    }
}

struct Node {
    courier: Courier,
    says: Saying,
}

impl Node {
    fn new() -> Self {
        let says = Saying::default();
        let said = Arc::clone(&says);
        let open = move |_| Box::new(Scripted(Arc::clone(&said))) as Box<dyn Consensus + Send>;
        Self { courier: Courier::new(Box::new(open), Some(AnchorId(1))), says }
    }

    /// The inputs of the next turn, when the group says these things before and there are some already.
    fn collect(&mut self, outputs: Vec<Output>, mut inputs: Vec<Input>, is_due: bool) -> Vec<Input> {
        self.says.lock().expect("nobody panics").extend(outputs);
        self.courier.collect(&mut inputs, &mut Kept::default(), is_due);
        inputs
    }
}

/// How the group stands, when its log has come so far.
fn status(term: u64, last: u64) -> Status {
    Status { term: Term(term), role: Role::Follower, last: Some(LogIndex(last)), ..Status::default() }
}

fn says(term: u64, last: u64) -> Vec<Output> {
    vec![Output::Status(status(term, last))]
}

fn heard(term: u64, last: u64) -> Input {
    Input::Consensus(Heard::Status(status(term, last)))
}

#[test]
fn log_that_went_on_is_no_reason_for_a_turn() {
    let mut node = Node::new();
    assert_eq!(node.collect(says(1, 1), vec![], false), [heard(1, 1)], "who it is, is news");
    for last in 2..5 {
        assert_eq!(node.collect(says(1, last), vec![], false), []);
    }
    assert_eq!(node.collect(vec![], vec![], true), [heard(1, 4)], "the newest, when a turn is due");
    assert_eq!(node.collect(vec![], vec![], true), [], "once");
}

#[test]
fn log_that_went_on_is_told_with_what_is_a_reason() {
    let mut node = Node::new();
    node.collect(says(1, 1), vec![], false);
    node.collect(says(1, 2), vec![], false);
    let inputs = node.collect(vec![], vec![Input::Tick], false);
    assert_eq!(inputs, [Input::Tick, heard(1, 2)]);
    let stopped = || Output::Stopped { reason: "the disk failed".to_owned() };
    let inputs = node.collect([says(1, 3), vec![stopped()]].concat(), vec![], false);
    assert!(matches!(&inputs[..], [Input::Consensus(Heard::Stopped { .. }), last] if *last == heard(1, 3)));
}

#[test]
fn news_replace_what_has_not_been_told() {
    let mut node = Node::new();
    node.collect(says(1, 1), vec![], false);
    node.collect(says(1, 2), vec![], false);
    assert_eq!(node.collect(says(2, 3), vec![], false), [heard(2, 3)]);
    assert_eq!(node.collect(vec![], vec![], true), [], "what was before it is old");
    node.collect(says(2, 4), vec![], false);
    node.courier.reopen(Some(AnchorId(1)));
    assert_eq!(node.collect(vec![], vec![], true), [], "another life");
}
