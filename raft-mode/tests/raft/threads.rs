//! Groups on a real runtime of several threads and the real clock, each driven by a thread of its own as a node's event
//! loop would drive it. Nothing goes wrong here; what is tested is that nothing depends on the simulator's one thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{
    AnchorId, Change, CommittedPayload, Consensus, LogIndex, Member, Outcome, Output, RequestId,
};
use tidelock_raft_mode::{Group, MemRaftLog, Opening, Settings};
use tokio::runtime::Runtime;

use crate::machine::{Action, Machine, Operation};
use crate::node::peer_of;
use crate::world::{GROUP, member};

const WITHIN: Duration = Duration::from_secs(30);

/// What reaches an event loop.
enum Input {
    Wake,
    Message(PeerId, Vec<u8>),
    Found(BTreeMap<AnchorId, Member>),
    Propose(RequestId, Vec<u8>),
    Barrier(RequestId),
    Stop,
}

/// What the test hears: who was told what.
enum Heard {
    Proposed(u64, Outcome),
    Barrier(bool),
}

struct Loop {
    anchor: u64,
    group: Group,
    log: Arc<MemRaftLog>,
    machine: Machine,
    inputs: Receiver<Input>,
    peers: BTreeMap<PeerId, Sender<Input>>,
    heard: Sender<Heard>,
}

impl Loop {
    /// Takes inputs and carries out what they led to until it is stopped. What is left is the state.
    fn run(mut self) -> Machine {
        while let Ok(input) = self.inputs.recv() {
            match input {
                Input::Wake => (),
                Input::Message(from, bytes) => self.group.received(from, &bytes),
                Input::Found(members) => self.group.administer(RequestId(0), Change::Found(members), WITHIN),
                Input::Propose(id, command) => self.group.propose(id, command, WITHIN),
                Input::Barrier(id) => self.group.barrier(id, WITHIN),
                Input::Stop => return self.machine,
            }
            self.turn();
        }
        self.machine
    }

    fn turn(&mut self) {
        for output in self.group.poll() {
            match output {
                Output::Write { token, writes } => {
                    self.log.write(writes);
                    self.log.sync();
                    self.group.written(token, Ok(()));
                }
                Output::Apply { token, entries, record } => {
                    let replies = entries.iter().map(|entry| match &entry.payload {
                        CommittedPayload::Command(command) => self.machine.apply(command),
                        CommittedPayload::Blank | CommittedPayload::Membership(_) => Vec::new(),
                    });
                    let replies = replies.collect();
                    self.log.set_applied(record);
                    self.log.sync();
                    self.group.applied(token, Ok(replies));
                }
                Output::Send { to, bytes, .. } => {
                    // A loop that has stopped hears nothing.
                    self.peers[&to].send(Input::Message(peer_of(self.anchor), bytes)).ok();
                }
                Output::Proposed { outcome, .. } => {
                    self.heard.send(Heard::Proposed(self.anchor, outcome)).ok();
                }
                Output::Barrier { result, .. } => {
                    self.heard.send(Heard::Barrier(result.is_ok())).ok();
                }
                Output::Stopped { reason } => panic!("{reason}"),
                _ => (),
            }
        }
    }
}

/// Starts three loops, of which the first founds the group.
fn start(runtime: &Runtime, heard: &Sender<Heard>) -> (Vec<Sender<Input>>, Vec<JoinHandle<Machine>>) {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| channel()).unzip();
    let peers: BTreeMap<PeerId, Sender<Input>> = (1..=3).map(peer_of).zip(senders.iter().cloned()).collect();
    let members: BTreeMap<AnchorId, Member> =
        (1..=3).map(|anchor| (AnchorId(anchor), member(anchor))).collect();
    let threads = (1..=3)
        .zip(receivers)
        .map(|(anchor, inputs)| {
            let waking = peers[&peer_of(anchor)].clone();
            let log = Arc::new(MemRaftLog::new());
            let opening = Opening {
                group: GROUP,
                me: AnchorId(anchor),
                log: Arc::clone(&log) as _,
                settings: Settings::local(),
                seed: anchor,
                runtime: runtime.handle().clone(),
                wake: Box::new(move || drop(waking.send(Input::Wake))),
            };
            let mut group = Group::open(opening).expect("the settings are valid");
            group.introduce(LogIndex(0), members.clone());
            let (peers, heard) = (peers.clone(), heard.clone());
            let machine = Machine::default();
            thread::spawn(move || Loop { anchor, group, log, machine, inputs, peers, heard }.run())
        })
        .collect();
    senders[0].send(Input::Found(members)).expect("it runs");
    (senders, threads)
}

/// Clients at each of three anchors add up, 40 at a time, and then read behind a barrier.
#[test]
fn three_event_loops_on_a_real_runtime() {
    const EACH: u64 = 400;
    const AT_ONCE: u64 = 40;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("it builds");
    let (hearing, heard) = channel();
    let (senders, threads) = start(&runtime, &hearing);
    let propose = |anchor: u64, number: u64| {
        let operation = Operation { id: (anchor, number), cell: 0, action: Action::Add(1) };
        let sender = &senders[usize::try_from(anchor).expect("it is small") - 1];
        sender.send(Input::Propose(RequestId(number), operation.command())).expect("it runs");
    };
    let mut asked: BTreeMap<u64, u64> = (1..=3).map(|anchor| (anchor, AT_ONCE)).collect();
    (1..=3).for_each(|anchor| (1..=AT_ONCE).for_each(|number| propose(anchor, number)));
    for _ in 0..3 * EACH {
        let Ok(Heard::Proposed(anchor, Outcome::Done { .. })) = heard.recv_timeout(WITHIN * 2) else {
            panic!("not done");
        };
        let number = asked.get_mut(&anchor).expect("it is one of three");
        if *number < EACH {
            *number += 1;
            propose(anchor, *number);
        }
    }
    senders.iter().for_each(|sender| sender.send(Input::Barrier(RequestId(1))).expect("it runs"));
    for _ in 0..3 {
        let Ok(Heard::Barrier(true)) = heard.recv_timeout(WITHIN * 2) else { panic!("no barrier") };
    }
    senders.iter().for_each(|sender| sender.send(Input::Stop).expect("it runs"));
    for thread in threads {
        let machine = thread.join().expect("it did not panic");
        assert_eq!(
            machine.cells.get(&0).copied(),
            i64::try_from(3 * EACH).ok(),
            "behind the barrier all is there"
        );
    }
}
