//! Lanes: the long-lived, ordered streams that one connection carries, and the bounds of each.
//!
//! There is one stream per lane and connection, so that bulk data never stands in front of a heartbeat in a
//! queue of ours. A lane is its own protocol name on the wire. Nothing here does I/O.

use tidelock_engine::ports::MESSAGE_BYTES_MAX;

use crate::talk;

/// What every queued frame costs beside its bytes, so that empty frames are bounded too.
pub(crate) const FRAME_COST_BYTES: usize = 64;

/// A stream with its own order, bounds and priority. The order of the variants is the order of priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// The talk of consensus, see [`Transport::tell`]; open only with the peers of [`Transport::talk_with`].
    ///
    /// [`Transport::tell`]: tidelock_engine::ports::Transport::tell
    /// [`Transport::talk_with`]: tidelock_engine::ports::Transport::talk_with
    Raft,
    /// The sync protocol of the engine.
    Sync,
    /// Snapshots and other bulk transfers.
    Bulk,
}

impl Lane {
    /// All lanes, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Raft, Self::Sync, Self::Bulk];

    /// The name that is negotiated for the lane's stream.
    pub const fn protocol(self) -> &'static str {
        match self {
            Self::Raft => "/tidelock/raft/1",
            Self::Sync => "/tidelock/sync/1",
            Self::Bulk => "/tidelock/bulk/1",
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// The swarm asks for the accepted protocols whenever it polls a connection, so a lane is its own name:
/// nothing is allocated there.
impl AsRef<str> for Lane {
    fn as_ref(&self) -> &str {
        self.protocol()
    }
}

/// The bounds of one lane, per peer. Those of [`Lane::Raft`] hold for each class of its messages; what has no room there
/// is dropped and counted, and the lane itself never pauses.
///
/// A lane takes at most about `out_bytes_max + in_bytes_max + 2 * frame_bytes_max` plus 256 KiB of buffers,
/// and the windows of the multiplexer below (256 KiB at first, growing with use).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneConfig {
    /// Which lane is opened and accepted.
    pub lane: Lane,
    /// The longest frame, in bytes. Range: 1 to 1 GiB. Both sides must agree: a frame beyond the receiver's
    /// bound resets the lane. Larger: a peer can make us hold more. Smaller: large values do not fit.
    pub frame_bytes_max: usize,
    /// How much may wait to be sent, in bytes. Range: at least one frame of `frame_bytes_max`. Larger: more
    /// memory for a slow peer. Smaller: `Full` comes earlier and throughput falls.
    pub out_bytes_max: usize,
    /// How much may wait to be taken by the engine before we stop reading, in bytes. Range: at least 1. A
    /// frame that was begun below the bound is completed. Larger: more memory for a slow engine. Smaller:
    /// the stream pauses more often.
    pub in_bytes_max: usize,
}

impl LaneConfig {
    /// The default bounds of `lane`. For `Sync` they hold one largest message of the engine; for `Raft` an append and
    /// all proposals that are forwarded at once; `Bulk` carries chunks of its own making.
    pub const fn new(lane: Lane) -> Self {
        let (frame_bytes_max, out_bytes_max, in_bytes_max) = match lane {
            Lane::Raft => (MESSAGE_BYTES_MAX, 64 << 20, 4 << 20),
            Lane::Sync => (MESSAGE_BYTES_MAX, 20 << 20, 4 << 20),
            Lane::Bulk => (4 << 20, 8 << 20, 4 << 20),
        };
        Self { lane, frame_bytes_max, out_bytes_max, in_bytes_max }
    }

    /// The longest frame on the wire: a message, or a piece of one.
    pub(crate) const fn wire_bytes_max(&self) -> usize {
        match self.lane {
            Lane::Raft => talk::FRAME_BYTES_MAX,
            Lane::Sync | Lane::Bulk => self.frame_bytes_max,
        }
    }
}

/// The configured lanes; a lane that is not configured is neither opened nor accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lanes([Option<LaneConfig>; 3]);

impl Lanes {
    pub(crate) fn new(configs: &[LaneConfig]) -> Self {
        Self(Lane::ALL.map(|lane| configs.iter().find(|config| config.lane == lane).copied()))
    }

    pub(crate) fn get(&self, lane: Lane) -> Option<LaneConfig> {
        self.0[lane.index()]
    }

    /// The configured lanes, the most urgent first; `None` where one is not configured.
    pub(crate) fn names(&self) -> [Option<Lane>; 3] {
        self.0.map(|config| config.map(|config| config.lane))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_listed_by_priority_whatever_the_order_of_the_config() {
        let lanes = Lanes::new(&[LaneConfig::new(Lane::Bulk), LaneConfig::new(Lane::Raft)]);
        assert_eq!(lanes.names(), [Some(Lane::Raft), None, Some(Lane::Bulk)]);
        assert!(lanes.get(Lane::Sync).is_none());
    }

    #[test]
    fn default_queue_of_the_sync_lane_holds_the_largest_message() {
        let sync = LaneConfig::new(Lane::Sync);
        assert_eq!(sync.frame_bytes_max, MESSAGE_BYTES_MAX);
        assert!(sync.out_bytes_max >= MESSAGE_BYTES_MAX + FRAME_COST_BYTES);
    }
}
