//! What an operator may set about the Redis port.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use tidelock_engine::bounds::VALUE_BYTES_MAX;

use super::auth::Password;

/// The port that is listened on when none is named: Redis's own plus one, so that both run on one machine.
pub const PORT_DEFAULT: u16 = 6380;

/// The settings of the Redis port. Every bound protects the node's memory from its clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// Where to listen. Default `127.0.0.1:6380`; port 0 takes a free one. Without a password any
    /// address but loopback gives everybody who reaches it all keyspaces; the node warns about it.
    pub address: SocketAddr,
    /// What clients must say with AUTH or HELLO before anything else. Default: nothing. It travels as it is, so beyond
    /// loopback it needs a network that nobody listens to; and who can read the config file knows it.
    #[serde(skip_serializing)]
    pub password: Option<Password>,
    /// The longest argument of a command, in bytes: 1 to 16 MiB, which is the default. Smaller refuses long
    /// values; longer values do not fit into an operation.
    pub bulk_bytes_max: usize,
    /// The arguments of one command: 1 to 1,048,576, which is the default. Smaller refuses large MSETs.
    pub array_elements_max: usize,
    /// One command, or all that is queued between MULTI and EXEC, in bytes; an argument counts 32 bytes more
    /// than it is long. Default 64 MiB, at least `bulk_bytes_max` and 1 KiB. Larger lets one client hold more.
    pub command_bytes_max: usize,
    /// The commands that all clients together may have half sent, queued or in execution, in bytes. Default
    /// 256 MiB, at least `command_bytes_max`. A client that goes beyond is closed.
    pub input_bytes_max: usize,
    /// The clients connected at a time: at least 1. Default 10,000. One more is told so and closed.
    pub clients_max: usize,
    /// The replies that one client has not read yet, in bytes. Default 64 MiB, at least 1 KiB. A client that
    /// reads more slowly than it asks is closed beyond it; a single longer reply becomes an error.
    pub client_output_bytes_max: usize,
    /// The replies that all clients together have not read yet, in bytes. Default 256 MiB, at least
    /// `client_output_bytes_max`. The client whose reply goes beyond it is closed.
    pub output_bytes_max: usize,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT_DEFAULT)),
            password: None,
            bulk_bytes_max: VALUE_BYTES_MAX,
            array_elements_max: ARRAY_ELEMENTS_MAX,
            command_bytes_max: 64 << 20,
            input_bytes_max: 256 << 20,
            clients_max: 10_000,
            client_output_bytes_max: 64 << 20,
            output_bytes_max: 256 << 20,
        }
    }
}

const ARRAY_ELEMENTS_MAX: usize = 1 << 20;

/// The least that a buffer is bounded to: an error message must fit.
const BUFFER_BYTES_MIN: usize = 1 << 10;

/// Which setting is out of its range. Nothing was started.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("redis.{field} is {value}; it must be from {min} to {max}")]
pub struct RedisConfigError {
    /// The field's name.
    pub field: &'static str,
    /// What it was set to.
    pub value: usize,
    /// Its least value.
    pub min: usize,
    /// Its greatest value.
    pub max: usize,
}

impl RedisConfig {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`RedisConfigError`] names the first field that is out of its range.
    pub fn validate(&self) -> Result<(), RedisConfigError> {
        let command_bytes_min = self.bulk_bytes_max.saturating_add(BUFFER_BYTES_MIN);
        let ranges = [
            ("bulk_bytes_max", self.bulk_bytes_max, 1, VALUE_BYTES_MAX),
            ("array_elements_max", self.array_elements_max, 1, ARRAY_ELEMENTS_MAX),
            ("command_bytes_max", self.command_bytes_max, command_bytes_min, usize::MAX),
            ("input_bytes_max", self.input_bytes_max, self.command_bytes_max, usize::MAX),
            ("clients_max", self.clients_max, 1, usize::MAX),
            ("client_output_bytes_max", self.client_output_bytes_max, BUFFER_BYTES_MIN, usize::MAX),
            ("output_bytes_max", self.output_bytes_max, self.client_output_bytes_max, usize::MAX),
        ];
        for (field, value, min, max) in ranges {
            if !(min..=max).contains(&value) {
                return Err(RedisConfigError { field, value, min, max });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_on_loopback() {
        let config = RedisConfig::default();
        assert_eq!(config.validate(), Ok(()));
        assert!(config.address.ip().is_loopback());
    }

    #[test]
    fn every_field_is_refused_one_past_its_bound() {
        type Change = fn(&mut RedisConfig);
        let cases: [(&str, Change); 7] = [
            ("bulk_bytes_max", |config| config.bulk_bytes_max = VALUE_BYTES_MAX + 1),
            ("array_elements_max", |config| config.array_elements_max = ARRAY_ELEMENTS_MAX + 1),
            ("command_bytes_max", |config| config.command_bytes_max = VALUE_BYTES_MAX + 1023),
            ("input_bytes_max", |config| config.input_bytes_max = (64 << 20) - 1),
            ("clients_max", |config| config.clients_max = 0),
            ("client_output_bytes_max", |config| config.client_output_bytes_max = 1023),
            ("output_bytes_max", |config| config.output_bytes_max = (64 << 20) - 1),
        ];
        for (field, change) in cases {
            let mut config = RedisConfig::default();
            change(&mut config);
            assert_eq!(config.validate().map_err(|error| error.field), Err(field));
        }
    }

    #[test]
    fn unknown_settings_are_refused() {
        assert!(toml::from_str::<RedisConfig>("clients_max = 5").is_ok());
        assert!(toml::from_str::<RedisConfig>("client_max = 5").is_err());
    }
}
