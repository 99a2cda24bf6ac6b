//! How a node is set up: where its data is, which cluster it is in, and whom it talks to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tidelock_engine::id::{KeyspaceName, PeerId};
use tidelock_engine::ports::Conditional;
use tidelock_engine::replica::{Limits, Retention};

use crate::http::{HttpConfig, HttpConfigError};
use crate::redis::{RedisConfig, RedisConfigError};

/// The settings of a node. In a TOML file the fields stand at the top level, those of the Redis port under
/// `[redis]`, those of the HTTP port under `[http]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// The directory of the node's key and store; made if it is not there. Default `./tidelock-data`.
    pub data: PathBuf,
    /// A name for the status, for people. Default: none.
    pub name: Option<String>,
    /// The cluster. Nodes sync with nodes of the same cluster only. Default `local`.
    pub cluster: String,
    /// Where peers can connect, as multiaddresses. Default `/ip4/127.0.0.1/tcp/7400` and its QUIC twin; empty
    /// for a node that only dials. Beyond loopback `allow` must name who may.
    pub listen: Vec<String>,
    /// Peers to stay connected with, as multiaddresses, with or without `/p2p/PEERID`. Default: none. They
    /// tell of others, so one that is up is enough.
    pub peers: Vec<String>,
    /// The only peers that are admitted, as peer ids. Default: everybody who reaches a loopback address.
    pub allow: Vec<String>,
    /// The keyspaces that this node replicates; none stands for all that it hears of. Default: all. Others can
    /// be neither read nor written here.
    pub keyspaces: Vec<KeyspaceName>,
    /// Whether this node makes the group of anchors that agree on strong keyspaces, with itself as the first. Default: no.
    /// One node of a cluster does, once: to say it again changes nothing.
    pub found: bool,
    /// How many anchors there are to be while this node leads them: an odd number, 7 at most. Connected peers are asked to
    /// be anchors by themselves until there are so many. Default 3, which outlive the loss of one; more outlive more and
    /// make each write wait for more disks. With 0 this node never becomes one.
    pub anchors_target: usize,
    /// Whether to find peers of the local network by multicast DNS. Default: no, because it tells everybody
    /// there that the node exists.
    pub mdns: bool,
    /// What may be cached of the store, in bytes. Default 256 MiB. Less makes reads of cold keys slower.
    pub cache_bytes: usize,
    /// How long the log is kept, under `[retention]`.
    pub retention: RetentionConfig,
    /// What keyspaces may hold on this node, in bytes, under `[quota]`: names and numbers. It bounds what is written here,
    /// never what comes from peers. Default: anything.
    pub quota: BTreeMap<KeyspaceName, u64>,
    /// What is done with commands that decide, such as SETNX or EXEC after WATCH, in keyspaces of which nothing else was
    /// said while the node ran: `strong` refuses them, because other replicas of an eventual keyspace may decide
    /// otherwise at the same time, and `local` decides by what this node sees. Default: strong.
    pub conditional: Conditional,
    /// Keyspaces that peers name are taken in while there are fewer than so many; more can be made and joined here, up
    /// to 4,096. Default 1,024. More lets one peer fill more of the disk, fewer may leave a keyspace out.
    pub keyspaces_max: usize,
    /// The Redis port. It is served by `tidelock run`, not by the library.
    pub redis: RedisConfig,
    /// The HTTP port, under `[http]`. It is served by `tidelock run`, not by the library.
    pub http: HttpConfig,
}

/// How long a node keeps its log. Whoever comes back later than that is brought up to date by state in place of
/// frames, which costs more and loses nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// Everything is kept for so many seconds at least. Default 86,400: a day.
    pub age_s: u64,
    /// After that it is kept for peers that lack it, if they were connected in the last so many seconds. Default
    /// 604,800: a week.
    pub peers_s: u64,
    /// Beyond so many bytes the oldest go, whoever lacks them. Default 1 GiB.
    pub bytes: u64,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        let Retention { age_ms, peers_ms, bytes } = Retention::default();
        Self { age_s: age_ms / 1_000, peers_s: peers_ms / 1_000, bytes }
    }
}

impl RetentionConfig {
    pub(crate) fn for_engine(self) -> Retention {
        let Self { age_s, peers_s, bytes } = self;
        Retention { age_ms: age_s.saturating_mul(1_000), peers_ms: peers_s.saturating_mul(1_000), bytes }
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            data: PathBuf::from("./tidelock-data"),
            name: None,
            cluster: "local".to_owned(),
            listen: vec!["/ip4/127.0.0.1/tcp/7400".to_owned(), "/ip4/127.0.0.1/udp/7400/quic-v1".to_owned()],
            peers: Vec::new(),
            allow: Vec::new(),
            keyspaces: Vec::new(),
            found: false,
            anchors_target: 3,
            mdns: false,
            cache_bytes: 256 << 20,
            retention: RetentionConfig::default(),
            quota: BTreeMap::new(),
            conditional: Conditional::default(),
            keyspaces_max: Limits::default().keyspaces_max,
            redis: RedisConfig::default(),
            http: HttpConfig::default(),
        }
    }
}

/// Which setting cannot work. Nothing was started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file is not TOML, or names settings that do not exist.
    #[error("config: {0}")]
    Toml(#[from] toml::de::Error),
    /// `cluster` is empty.
    #[error("cluster: must not be empty")]
    Cluster,
    /// An entry of `allow` is not a peer id.
    #[error("allow: {text}: {source}")]
    Allow {
        /// The entry.
        text: String,
        /// The cause.
        source: tidelock_engine::id::ParsePeerIdError,
    },
    /// An entry of `peers` is not an address.
    #[error("peers: {0}")]
    Peer(tidelock_transport::AddressError),
    /// `anchors_target` is no number of anchors.
    #[error("anchors_target: must be 0, or an odd number up to {ANCHORS_TARGET_MAX}; with `found`, not 0")]
    Anchors,
    /// `cache_bytes` is too small.
    #[error("cache_bytes: must be at least {CACHE_BYTES_MIN}")]
    Cache,
    /// A setting of the Redis port.
    #[error(transparent)]
    Redis(#[from] RedisConfigError),
    /// A setting of the HTTP port.
    #[error(transparent)]
    Http(#[from] HttpConfigError),
}

/// More anchors make writes slower and survive no likely failure more.
const ANCHORS_TARGET_MAX: usize = 7;

/// The least that a store can work with.
const CACHE_BYTES_MIN: usize = 1 << 20;

impl NodeConfig {
    /// Settings with their defaults, for a node whose data is in `data`.
    pub fn at(data: impl Into<PathBuf>) -> Self {
        Self { data: data.into(), ..Self::default() }
    }

    /// Reads a TOML file's text.
    ///
    /// # Errors
    /// [`ConfigError::Toml`] names line and field.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Ok(toml::from_str(text)?)
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that cannot work. Addresses are checked by the transport.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.cluster.is_empty() {
            return Err(ConfigError::Cluster);
        }
        if self.cache_bytes < CACHE_BYTES_MIN {
            return Err(ConfigError::Cache);
        }
        let target = self.anchors_target;
        let is_odd = !target.is_multiple_of(2) && target <= ANCHORS_TARGET_MAX;
        if !is_odd && (target != 0 || self.found) {
            return Err(ConfigError::Anchors);
        }
        for peer in &self.peers {
            tidelock_transport::check_address(peer).map_err(ConfigError::Peer)?;
        }
        self.allowed()?;
        self.redis.validate()?;
        Ok(self.http.validate()?)
    }

    /// The peers that are admitted; `None` for everybody.
    ///
    /// # Errors
    /// [`ConfigError::Allow`].
    pub fn allowed(&self) -> Result<Option<BTreeSet<PeerId>>, ConfigError> {
        let parse =
            |text: &String| text.parse().map_err(|source| ConfigError::Allow { text: text.clone(), source });
        let peers: BTreeSet<PeerId> = self.allow.iter().map(parse).collect::<Result<_, _>>()?;
        Ok((!peers.is_empty()).then_some(peers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_reads_what_it_writes() {
        let config = NodeConfig { peers: vec!["/ip4/127.0.0.1/tcp/7401".to_owned()], ..NodeConfig::at("d") };
        let text = toml::to_string(&config).expect("a config is TOML");
        assert_eq!(NodeConfig::from_toml(&text).expect("its own text"), config);
    }

    #[test]
    fn unknown_setting_is_refused_by_name() {
        let error = NodeConfig::from_toml("clutser = \"a\"").expect_err("a typing error");
        assert!(error.to_string().contains("clutser"), "{error}");
    }

    #[test]
    fn each_wrong_setting_is_named() {
        let bad_allow = NodeConfig { allow: vec!["nobody".to_owned()], ..NodeConfig::default() };
        assert!(bad_allow.validate().expect_err("no peer id").to_string().starts_with("allow: nobody"));
        let bad_peer = NodeConfig { peers: vec!["nowhere".to_owned()], ..NodeConfig::default() };
        assert!(bad_peer.validate().expect_err("no address").to_string().starts_with("peers"));
        let no_cluster = NodeConfig { cluster: String::new(), ..NodeConfig::default() };
        assert!(no_cluster.validate().expect_err("no name").to_string().starts_with("cluster"));
        for (anchors_target, found) in [(2, false), (9, false), (0, true)] {
            let wrong = NodeConfig { found, anchors_target, ..NodeConfig::default() };
            assert!(wrong.validate().expect_err("no number").to_string().starts_with("anchors_target"));
        }
        let no_cache = NodeConfig { cache_bytes: 10, ..NodeConfig::default() };
        assert!(no_cache.validate().expect_err("too small").to_string().starts_with("cache_bytes"));
    }
}
