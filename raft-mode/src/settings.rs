//! What can be set about a group, with the values that fit a local network and those that fit a wide one.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy};
use thiserror::Error;

/// Why settings are refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field}: {reason}")]
pub struct SettingsError {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

/// The settings of a group. All its anchors should have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often a leader tells its followers that it leads, 1 ms to 10 s. Default 60 ms.
    ///
    /// Five sixths of it are also how long a heartbeat may take, there and back: longer than the slowest round trip to a
    /// voter.
    /// Shorter costs messages while idle; longer costs time until a dead leader is noticed.
    pub heartbeat: Duration,
    /// A follower that hears no leader for a time between this and `election_max` asks for votes; more than three
    /// heartbeats. Default 300 ms.
    ///
    /// Shorter elects sooner after a crash, and also when a disk or a network was only slow.
    pub election_min: Duration,
    /// See `election_min`; greater than that. Default 600 ms. A leader's lease is this long, so an election takes
    /// between the sum of both and twice this.
    pub election_max: Duration,
    /// How long entries sent to a follower may take until they are sent again: the round trip and its sync. At
    /// least `heartbeat`. Default 600 ms.
    ///
    /// Shorter sends the same bytes twice to a slow disk; longer waits for what a broken connection lost.
    pub append_timeout: Duration,
    /// How long a piece of a snapshot may take. Default 2 s. The last piece's answer waits for the installation.
    pub chunk_timeout: Duration,
    /// The bytes of the entries applied since the last snapshot after which the next is made. Default 64 MiB.
    ///
    /// Fewer make snapshots more often; more make the log longer, and a start slower.
    pub snapshot_bytes: u64,
    /// How many entries behind a snapshot are kept for followers that are a little behind. Default 10,000.
    ///
    /// Fewer send snapshots to those; more take disk.
    pub entries_kept: u64,
}

impl Settings {
    /// For anchors in one place.
    pub fn local() -> Self {
        Self {
            heartbeat: Duration::from_millis(60),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(600),
            append_timeout: Duration::from_millis(600),
            chunk_timeout: Duration::from_secs(2),
            snapshot_bytes: 64 << 20,
            entries_kept: 10_000,
        }
    }

    /// For anchors far from each other: heartbeats of 500 ms, elections after 3 to 6 s.
    pub fn wide() -> Self {
        Self {
            heartbeat: Duration::from_millis(500),
            election_min: Duration::from_secs(3),
            election_max: Duration::from_secs(6),
            append_timeout: Duration::from_secs(3),
            chunk_timeout: Duration::from_secs(10),
            ..Self::local()
        }
    }

    /// Whether they make sense together.
    ///
    /// # Errors
    /// Names the field that does not.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let check = |holds: bool, field, reason: &str| {
            if holds { Ok(()) } else { Err(SettingsError { field, reason: reason.to_owned() }) }
        };
        let beats = Duration::from_millis(1)..=Duration::from_secs(10);
        check(beats.contains(&self.heartbeat), "heartbeat", "from 1 ms to 10 s")?;
        check(self.election_min > self.heartbeat * 3, "election_min", "more than three heartbeats")?;
        check(self.election_max > self.election_min, "election_max", "more than election_min")?;
        check(self.append_timeout >= self.heartbeat, "append_timeout", "at least one heartbeat")?;
        check(!self.chunk_timeout.is_zero(), "chunk_timeout", "more than zero")?;
        check(self.snapshot_bytes > 0, "snapshot_bytes", "at least one")
    }

    /// How far apart the moments are at which openraft looks at its clock: two in a heartbeat.
    pub(crate) fn grid(&self) -> Duration {
        self.heartbeat / 2
    }

    /// openraft's settings for these.
    pub(crate) fn config(&self, entries_max: u64) -> Config {
        Config {
            cluster_name: "tidelock".to_owned(),
            // A heartbeat is due between two lines of the grid, and goes out at the second.
            heartbeat_interval: millis(self.heartbeat * 5 / 6).max(1),
            election_timeout_min: millis(self.election_min),
            election_timeout_max: millis(self.election_max),
            install_snapshot_timeout: millis(self.chunk_timeout),
            max_payload_entries: entries_max,
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: self.entries_kept,
            enable_pre_vote: Some(true),
            allow_log_reversion: Some(false),
            // A leader that starts again asks for votes like all others: what it did not send before its crash may
            // be gone from its disk.
            enable_leader_restore: Some(false),
            backoff: "200ms".to_owned(),
            ..Config::default()
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::local()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_are_valid_to_us_and_to_openraft() {
        for settings in [Settings::local(), Settings::wide()] {
            assert_eq!(settings.validate(), Ok(()));
            assert!(settings.config(512).validate().is_ok());
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let settings = Settings { election_max: Duration::from_millis(300), ..Settings::local() };
        assert_eq!(settings.validate().expect_err("it fails").field, "election_max");
        let settings = Settings { election_min: Duration::from_millis(100), ..Settings::local() };
        assert_eq!(settings.validate().expect_err("it fails").field, "election_min");
    }
}
