//! What stories do with a world: ask its anchors, wait for the answers, and judge the whole in the end.

use std::collections::BTreeSet;
use std::time::Duration;

use tidelock_engine::ports::{AnchorId, Change, Consensus, LogIndex, NotDone, Outcome, RequestId, Role};
use tidelock_raft_mode::{GroupCounts, Refused};
use tokio::time::Instant;

use crate::history::{self, Verdict};
use crate::node::{Disk, peer_of};
use crate::world::{World, member};

impl World {
    fn story(&mut self) -> RequestId {
        self.next_story += 1;
        RequestId(self.next_story)
    }

    /// Asks an anchor for a change of the group and does not wait.
    pub(crate) fn ask_to(&mut self, anchor: u64, change: Change) -> RequestId {
        let id = self.story();
        self.note(&format!("{anchor} is asked: {change:?}"));
        self.node(anchor).administer(id, change, Duration::from_secs(10));
        id
    }

    /// Asks an anchor for a change of the group and waits for the answer.
    pub(crate) async fn administer(&mut self, anchor: u64, change: Change) -> Option<Result<(), NotDone>> {
        let id = self.ask_to(anchor, change);
        self.until("an answer", Duration::from_secs(15), |world| world.administered.contains_key(&id)).await;
        self.administered.remove(&id).expect("it is there")
    }

    /// Proposes a command at an anchor and waits for the outcome.
    pub(crate) async fn propose(&mut self, anchor: u64, command: Vec<u8>, within: Duration) -> Outcome {
        let id = self.story();
        self.node(anchor).propose(id, command, within);
        let limit = within + Duration::from_secs(2);
        self.until("an outcome", limit, |world| world.told.contains_key(&id)).await;
        self.told.remove(&id).expect("it is there")
    }

    /// Asks an anchor for a barrier and waits for it.
    pub(crate) async fn barrier(&mut self, anchor: u64, within: Duration) -> Result<LogIndex, NotDone> {
        let id = self.story();
        self.node(anchor).barrier(id, within);
        let limit = within + Duration::from_secs(2);
        self.until("a barrier", limit, |world| world.barriers.contains_key(&id)).await;
        self.barriers.remove(&id).expect("it is there")
    }

    /// Proposes commands, all at once, and waits for their outcomes.
    pub(crate) async fn propose_many(
        &mut self,
        anchor: u64,
        number: usize,
        within: Duration,
    ) -> Vec<Outcome> {
        let ids: Vec<RequestId> = (0..number).map(|_| self.story()).collect();
        for id in &ids {
            self.node(anchor).propose(*id, Vec::new(), within);
        }
        let last = ids.clone();
        self.until("all are answered", within + Duration::from_secs(2), |world| {
            last.iter().all(|id| world.told.contains_key(id))
        })
        .await;
        ids.iter().map(|id| self.told.remove(id).expect("it is there")).collect()
    }

    /// Lets clients ask for a while. They go on after it.
    pub(crate) async fn work(&mut self, clients: u64, ms: u64) {
        self.clients.start(clients, Instant::now());
        self.run_ms(ms).await;
    }

    /// Asserts that enough was done for the checks to mean something: operations and reads.
    pub(crate) fn did(&self, operations: usize, reads: u64) {
        let (done, read) = (self.clients.done.len(), self.clients.reads);
        if done < operations || read < reads || self.facts.acknowledged == 0 {
            self.fail(&format!("only {done} operations and {read} reads were done"));
        }
    }

    /// The disk of an anchor.
    pub(crate) fn disk(&mut self, anchor: u64) -> &mut Disk {
        &mut self.nodes.get_mut(&anchor).expect("it is there").disk
    }

    /// Who leads, if that one does not count.
    pub(crate) fn leader_beside(&self, anchor: u64) -> Option<u64> {
        let leaders = self.nodes.values().filter(|node| {
            node.status.role == Role::Leader && node.group.is_some() && node.anchor.0 != anchor
        });
        leaders.max_by_key(|node| node.status.term).map(|node| node.anchor.0)
    }

    /// Takes an anchor that does not run out of the world.
    pub(crate) fn remove(&mut self, anchor: u64) {
        self.nodes.remove(&anchor);
    }

    /// How many messages an anchor refused because their senders are no members.
    pub(crate) fn refused_strangers(&self, anchor: u64) -> u64 {
        self.counts(anchor).refused(Refused::NotMember)
    }

    /// What an anchor that runs has counted.
    pub(crate) fn counts(&self, anchor: u64) -> GroupCounts {
        self.nodes[&anchor].group.as_ref().expect("it runs").counts()
    }

    /// The newest messages to an anchor that arrived.
    pub(crate) fn overheard(&self, anchor: u64) -> Vec<Vec<u8>> {
        self.heard.iter().filter(|(to, _)| *to == peer_of(anchor)).map(|(_, bytes)| bytes.clone()).collect()
    }

    /// Says something to an anchor as another one.
    pub(crate) fn say(&mut self, from: u64, to: u64, bytes: &[u8]) {
        self.node(to).received(peer_of(from), bytes);
    }

    /// Makes these the voters, as soon as that is possible.
    pub(crate) async fn set_voters(&mut self, voters: &[u64]) {
        let voters: BTreeSet<AnchorId> = voters.iter().copied().map(AnchorId).collect();
        for _ in 0..40 {
            let leader = self.elected().await;
            if self.administer(leader, Change::SetVoters(voters.clone())).await == Some(Ok(())) {
                return;
            }
            self.run_ms(100).await;
        }
        self.fail("the voters were not changed");
    }

    /// Adds an anchor with an empty disk as a learner and waits until it has what the others have.
    pub(crate) async fn add_learner(&mut self, anchor: u64) {
        let leader = self.elected().await;
        self.add(anchor);
        assert_eq!(
            self.administer(leader, Change::AddLearner(AnchorId(anchor), member(anchor))).await,
            Some(Ok(()))
        );
        self.until("the learner is caught up", Duration::from_secs(20), |world| {
            let goal = world.leader().and_then(|leader| world.status(leader).committed);
            goal.is_some() && world.nodes[&anchor].applied >= goal
        })
        .await;
    }

    /// Ends all faults, waits until all are equal, and judges the whole history.
    pub(crate) async fn settle(&mut self) {
        self.heal();
        (self.network.loss, self.network.doubling, self.network.delay_ms) = (0, 0, (1, 8));
        let down: Vec<u64> = self.nodes.keys().copied().filter(|it| !self.running().contains(it)).collect();
        down.into_iter().for_each(|anchor| self.start(anchor));
        self.clients.stop();
        self.until("all requests are answered", Duration::from_secs(10), |world| world.clients.are_idle())
            .await;
        let leader = self.elected().await;
        let members: Vec<u64> =
            self.status(leader).membership.members.keys().map(|anchor| anchor.0).collect();
        self.until("all members are equal", Duration::from_secs(30), |world| {
            let leader = world.leader().map(|leader| &world.nodes[&leader]);
            members.iter().all(|member| {
                leader.is_some_and(|leader| {
                    let member = &world.nodes[member];
                    member.applied == leader.applied && leader.applied == leader.status.last
                })
            })
        })
        .await;
        self.clients.give_up();
        self.judge(leader);
    }

    /// Nothing acknowledged is lost, nothing refused was done, and one order explains every answer.
    fn judge(&self, leader: u64) {
        let machine = &self.nodes[&leader].machine;
        for (id, answer) in &self.clients.done {
            if machine.outcomes.get(id) != Some(answer) {
                self.fail(&format!("acknowledged and lost (C2): {id:?} {answer:?}"));
            }
        }
        for id in &self.clients.not_done {
            if machine.outcomes.contains_key(id) {
                self.fail(&format!("refused and done (C3): {id:?}"));
            }
        }
        match history::check(&self.clients.events) {
            Verdict::Linearizable => (),
            verdict => self.fail(&format!("not linearizable (C1): {verdict:?}")),
        }
    }
}
