//! The knobs of the transport: what each is, its unit and range, and what gets worse in each direction.
//!
//! [`Config::validate`] refuses what cannot work, above all a door that is open to everybody: whoever listens
//! beyond loopback must name who may come in.

use std::collections::BTreeSet;
use std::time::Duration;

use thiserror::Error;
use tidelock_engine::id::PeerId;
use tidelock_engine::ports::Address;

use crate::address::{self, AddressError};
use crate::identity::SecretKey;
use crate::lane::{FRAME_COST_BYTES, Lane, LaneConfig};

/// The longest frame that a lane can be configured for, in bytes.
const FRAME_BYTES_LIMIT: usize = 1 << 30;

/// How a node is reached, whom it lets in, and how patient it is.
#[derive(Clone, Debug)]
pub struct Config {
    /// The identity of the node; its peer id is the public half.
    pub key: SecretKey,
    /// Multiaddresses to listen on, TCP or QUIC; port 0 takes a free one. Default: none, the node only dials.
    pub listen: Vec<Address>,
    /// Who is admitted, whichever side dials. `None` is everybody, and is refused when listening beyond
    /// loopback. Default: `None`.
    pub allow: Option<BTreeSet<PeerId>>,
    /// The lanes that are opened and accepted, each at most once, with their bounds. Default: `Sync` and `Raft`, of
    /// which the latter costs nothing until there is somebody to talk with.
    pub lanes: Vec<LaneConfig>,
    /// The topic of the best-effort messages between peers, such as one for each cluster: only peers with the same
    /// hear each other. Default: `None`, there are no such messages.
    pub gossip: Option<String>,
    /// Whether to look for peers by multicast DNS, and to answer those who look. Default: off, because it
    /// tells the local network that the node exists. What is found is only reported, never dialled by itself.
    pub mdns: bool,
    /// Established connections that others dialled. Range: 1 and up. Default: 128. More: more memory under an
    /// attack by admitted peers. Fewer: peers are refused in a large cluster.
    pub connections_incoming_max: u32,
    /// Incoming connections in their handshake. Range: 1 and up. Default: 32. More: strangers can make us
    /// compute more. Fewer: a burst of reconnecting peers has to try again.
    pub connections_pending_max: u32,
    /// All established connections. Range: 1 and up. Default: 256. Each costs the bounds of its lanes.
    pub connections_max: u32,
    /// The pause after a first failed dial or a lost connection. Range: above 0. Default: 200 ms. Longer:
    /// reconnecting takes longer. Shorter: more attempts in vain.
    pub backoff_min: Duration,
    /// The longest pause between two dials; it doubles up to here, and each pause is drawn from its upper
    /// half. Range: at least `backoff_min`. Default: 30 s. Longer: a peer that comes back is noticed later.
    /// Shorter: more attempts in vain.
    pub backoff_max: Duration,
    /// How long a dial and its handshake may take. Range: above 0. Default: 10 s. Longer: dead addresses
    /// block a target for longer. Shorter: slow networks never connect.
    pub dial_timeout: Duration,
    /// How long a connection may stand without a lane. Range: above 0. Default: 10 s. Longer: peers without
    /// our protocols hold connections for longer. Shorter: slow peers are cut off.
    pub up_timeout: Duration,
    /// How old a connection must be before a new one from the same peer replaces it. Range: at least
    /// `dial_timeout`, so that two dials at the same moment never count as a restart. Default: 12 s. Longer: a
    /// peer that restarted without a goodbye waits for longer.
    pub replace_after: Duration,
    /// How long queued bytes may make no progress before the connection is closed. Range: above 0. Default:
    /// 30 s. Longer: a stuck peer holds its queue for longer. Shorter: a peer whose engine pauses is cut off.
    pub stall_timeout: Duration,
    /// How often a peer is pinged. Range: above 0. Default: 5 s. Longer: a silent peer is noticed later.
    /// Shorter: more wake-ups on a phone.
    pub ping_interval: Duration,
    /// How long a ping may take. Range: above 0. Default: 10 s. A silent peer is closed after about
    /// `ping_interval + ping_timeout` over QUIC, and 10 s later over TCP, because libp2p forgives one ping
    /// and gives the next stream 10 s. Longer: a silent peer is noticed later. Shorter: a busy one is cut
    /// off.
    pub ping_timeout: Duration,
}

/// Why a configuration cannot work. Nothing was started.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A `listen` address cannot be read.
    #[error("listen: {0}")]
    Listen(#[from] AddressError),
    /// The node would be open to everybody who can reach it.
    #[error(
        "listen: {address} is open to other machines; name who may connect with --allow PEERID (repeatable)"
    )]
    OpenToAll {
        /// The address.
        address: Address,
    },
    /// A lane is configured twice, or none is.
    #[error("lanes: one or more, each at most once")]
    Lanes,
    /// A bound of a lane is out of range.
    #[error("lanes: {lane:?}: {field} is {bytes}, allowed are {min} to {max}")]
    LaneBound {
        /// The lane.
        lane: Lane,
        /// The field of [`LaneConfig`].
        field: &'static str,
        /// What it is, in bytes.
        bytes: usize,
        /// The least that works.
        min: usize,
        /// The most that works.
        max: usize,
    },
    /// A number that must be above 0 is 0.
    #[error("{field}: must be above 0")]
    Zero {
        /// The field of [`Config`].
        field: &'static str,
    },
    /// A duration is shorter than one that it must not be shorter than.
    #[error("{field}: must be at least {other}")]
    Shorter {
        /// The field of [`Config`] that is too short.
        field: &'static str,
        /// The field that it is compared with.
        other: &'static str,
    },
}

impl Config {
    /// The defaults: dials only, nothing in bulk, everybody is admitted.
    pub fn new(key: SecretKey) -> Self {
        Self {
            key,
            listen: Vec::new(),
            allow: None,
            lanes: vec![LaneConfig::new(Lane::Sync), LaneConfig::new(Lane::Raft)],
            gossip: None,
            mdns: false,
            connections_incoming_max: 128,
            connections_pending_max: 32,
            connections_max: 256,
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(30),
            dial_timeout: Duration::from_secs(10),
            up_timeout: Duration::from_secs(10),
            replace_after: Duration::from_secs(12),
            stall_timeout: Duration::from_secs(30),
            ping_interval: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(10),
        }
    }

    /// Checks every field against its range.
    ///
    /// # Errors
    /// The first field that is out of range, by name.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_listen()?;
        self.validate_lanes()?;
        let zeros = [
            ("connections_incoming_max", self.connections_incoming_max == 0),
            ("connections_pending_max", self.connections_pending_max == 0),
            ("connections_max", self.connections_max == 0),
            ("backoff_min", self.backoff_min.is_zero()),
            ("dial_timeout", self.dial_timeout.is_zero()),
            ("up_timeout", self.up_timeout.is_zero()),
            ("stall_timeout", self.stall_timeout.is_zero()),
            ("ping_interval", self.ping_interval.is_zero()),
            ("ping_timeout", self.ping_timeout.is_zero()),
        ];
        if let Some((field, _)) = zeros.into_iter().find(|(_, is_zero)| *is_zero) {
            return Err(ConfigError::Zero { field });
        }
        if self.backoff_max < self.backoff_min {
            return Err(ConfigError::Shorter { field: "backoff_max", other: "backoff_min" });
        }
        if self.replace_after < self.dial_timeout {
            return Err(ConfigError::Shorter { field: "replace_after", other: "dial_timeout" });
        }
        Ok(())
    }

    fn validate_listen(&self) -> Result<(), ConfigError> {
        for text in &self.listen {
            let parsed = address::parse(text)?;
            if self.allow.is_none() && !address::is_loopback(&parsed.address) {
                return Err(ConfigError::OpenToAll { address: text.clone() });
            }
        }
        Ok(())
    }

    fn validate_lanes(&self) -> Result<(), ConfigError> {
        let names: BTreeSet<_> = self.lanes.iter().map(|config| config.lane).collect();
        if names.is_empty() || names.len() != self.lanes.len() {
            return Err(ConfigError::Lanes);
        }
        for config in &self.lanes {
            // An empty queue must take the largest frame, or that frame is refused as `Full` for ever.
            let out_min = config.frame_bytes_max.saturating_add(FRAME_COST_BYTES);
            let bounds = [
                ("frame_bytes_max", config.frame_bytes_max, 1, FRAME_BYTES_LIMIT),
                ("out_bytes_max", config.out_bytes_max, out_min, usize::MAX),
                ("in_bytes_max", config.in_bytes_max, 1, usize::MAX),
            ];
            for (field, bytes, min, max) in bounds {
                if !(min..=max).contains(&bytes) {
                    return Err(ConfigError::LaneBound { lane: config.lane, field, bytes, min, max });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new(SecretKey::from_seed([1; 32]))
    }

    #[test]
    fn defaults_are_valid() {
        assert_eq!(config().validate(), Ok(()));
    }

    #[test]
    fn listening_beyond_loopback_needs_a_list_of_peers() {
        for open in
            ["/ip4/0.0.0.0/tcp/0", "/ip6/::/udp/0/quic-v1", "/ip4/192.0.2.1/tcp/1", "/dns/localhost/tcp/1"]
        {
            let mut config = config();
            config.listen = vec!["/ip4/127.0.0.1/tcp/0".to_owned(), open.to_owned()];
            let error = config.validate().expect_err("open to all");
            assert!(error.to_string().contains("--allow PEERID"), "{error}");
            config.allow = Some(BTreeSet::new());
            assert_eq!(config.validate(), Ok(()));
        }
    }

    #[test]
    fn field_out_of_range_is_named() {
        let refused = |change: fn(&mut Config)| {
            let mut config = config();
            change(&mut config);
            config.validate().expect_err("out of range").to_string()
        };
        assert!(refused(|c| c.lanes.clear()).contains("lanes"));
        assert!(refused(|c| c.lanes.push(LaneConfig::new(Lane::Sync))).contains("lanes"));
        assert!(refused(|c| c.lanes[0].out_bytes_max = c.lanes[0].frame_bytes_max).contains("out_bytes_max"));
        assert!(refused(|c| c.lanes[0].frame_bytes_max = 0).contains("frame_bytes_max"));
        assert!(refused(|c| c.backoff_max = Duration::ZERO).contains("backoff_max"));
        assert!(refused(|c| c.replace_after = Duration::ZERO).contains("replace_after"));
        assert!(refused(|c| c.ping_timeout = Duration::ZERO).contains("ping_timeout"));
        assert!(refused(|c| c.listen.push("127.0.0.1:1".to_owned())).contains("listen"));
    }
}
