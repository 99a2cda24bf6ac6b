//! What an operator may set about the HTTP port.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use thiserror::Error;

use tidelock_engine::bounds::VALUE_BYTES_MAX;

/// The port that is listened on when none is named: 2,000 above that of the Redis port.
pub const HTTP_PORT_DEFAULT: u16 = 8380;

/// The settings of the HTTP port. Every bound protects the node's memory from its clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Where to listen. Default `127.0.0.1:8380`; port 0 takes a free one. Any address but loopback needs a `token`.
    pub address: SocketAddr,
    /// What clients must send as `Authorization: Bearer`: at least 16 visible characters. Default: nothing. Whether the
    /// node lives and is ready can be asked without it.
    pub token: Option<Token>,
    /// The names under which the port is reached, such as `node1.example.org`, without ports. Default: none.
    /// `localhost` and plain addresses are always right; requests for any other name are refused, because a web page
    /// could let its own name point to this machine.
    pub allowed_hosts: Vec<String>,
    /// The connections at a time: 1 to 65,536. Default 256. One more is told so and closed.
    pub connections_max: usize,
    /// The longest body of a request, in bytes: 1 KiB to 64 MiB. Default 16 MiB, which is the longest value. Smaller
    /// refuses long values and large batches.
    pub body_bytes_max: usize,
    /// The bodies and answers of all clients together, in bytes: from `body_bytes_max` to 4 GiB. Default 256 MiB. What
    /// goes beyond is refused, and can be tried again.
    pub buffers_bytes_max: usize,
    /// For how many seconds a connection may rest, or take to send the head of a request or its body, or to take the
    /// next piece of an answer: 1 to 3,600. Default 30. More lets slow clients keep their places longer.
    pub timeout_s: u64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, HTTP_PORT_DEFAULT)),
            token: None,
            allowed_hosts: Vec::new(),
            connections_max: 256,
            body_bytes_max: VALUE_BYTES_MAX,
            buffers_bytes_max: 256 << 20,
            timeout_s: 30,
        }
    }
}

const TOKEN_CHARS_MIN: usize = 16;

/// A secret that clients know. It is never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token(String);

impl Token {
    /// The secret as text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether a client knows it. How long that takes tells its length at most.
    pub(super) fn is(&self, text: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(text).into()
    }

    fn is_valid(&self) -> bool {
        self.0.len() >= TOKEN_CHARS_MIN && self.0.bytes().all(|byte| byte.is_ascii_graphic())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Which setting cannot work. Nothing was started.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpConfigError {
    /// A number is out of its range.
    #[error("http.{field} is {value}; it must be from {min} to {max}")]
    Range {
        /// The field's name.
        field: &'static str,
        /// What it was set to.
        value: u64,
        /// Its least value.
        min: u64,
        /// Its greatest value.
        max: u64,
    },
    /// The token can be guessed, or not be sent.
    #[error("http.token: must have at least {TOKEN_CHARS_MIN} characters, all of them visible ASCII")]
    Token,
    /// Everybody who reaches the address could read and write everything.
    #[error("http.address: {0} is open beyond this machine, so http.token must be set")]
    Open(SocketAddr),
    /// A name that no request could ask for.
    #[error("http.allowed_hosts: {0:?} is not the name of a host, without a port")]
    Host(String),
}

impl HttpConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`HttpConfigError`] names the first field that cannot work.
    pub fn validate(&self) -> Result<(), HttpConfigError> {
        let (body, buffers) = (self.body_bytes_max as u64, self.buffers_bytes_max as u64);
        let ranges = [
            ("connections_max", self.connections_max as u64, 1, 65_536),
            ("body_bytes_max", body, 1 << 10, 64 << 20),
            ("buffers_bytes_max", buffers, body, 4 << 30),
            ("timeout_s", self.timeout_s, 1, 3_600),
        ];
        for (field, value, min, max) in ranges {
            if !(min..=max).contains(&value) {
                return Err(HttpConfigError::Range { field, value, min, max });
            }
        }
        if self.token.as_ref().is_some_and(|token| !token.is_valid()) {
            return Err(HttpConfigError::Token);
        }
        if self.token.is_none() && !self.address.ip().is_loopback() {
            return Err(HttpConfigError::Open(self.address));
        }
        let is_name = |host: &&String| {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        };
        match self.allowed_hosts.iter().find(|host| !is_name(host)) {
            Some(host) => Err(HttpConfigError::Host(host.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "sixteen-letters!";

    #[test]
    fn defaults_are_valid_and_on_loopback() {
        let config = HttpConfig::default();
        assert_eq!(config.validate(), Ok(()));
        assert!(config.address.ip().is_loopback());
    }

    #[test]
    fn every_number_is_refused_one_past_its_bound() {
        type Change = fn(&mut HttpConfig);
        let cases: [(&str, Change); 8] = [
            ("connections_max", |config| config.connections_max = 0),
            ("connections_max", |config| config.connections_max = 65_537),
            ("body_bytes_max", |config| config.body_bytes_max = 1_023),
            ("body_bytes_max", |config| config.body_bytes_max = (64 << 20) + 1),
            ("buffers_bytes_max", |config| config.buffers_bytes_max = config.body_bytes_max - 1),
            ("buffers_bytes_max", |config| config.buffers_bytes_max = (4 << 30) + 1),
            ("timeout_s", |config| config.timeout_s = 0),
            ("timeout_s", |config| config.timeout_s = 3_601),
        ];
        for (name, change) in cases {
            let mut config = HttpConfig::default();
            change(&mut config);
            let error = config.validate().expect_err("out of range");
            assert!(matches!(error, HttpConfigError::Range { field, .. } if field == name), "{error}");
        }
    }

    #[test]
    fn address_beyond_loopback_needs_a_token() {
        let mut config = HttpConfig { address: ([0, 0, 0, 0], 0).into(), ..HttpConfig::default() };
        assert_eq!(config.validate(), Err(HttpConfigError::Open(config.address)));
        config.token = Some(Token::new(&SECRET[1..]));
        assert_eq!(config.validate(), Err(HttpConfigError::Token), "one character less");
        config.token = Some(Token::new(SECRET));
        assert_eq!(config.validate(), Ok(()));
    }

    #[test]
    fn host_with_a_port_is_refused() {
        let config = HttpConfig { allowed_hosts: vec!["node:80".to_owned()], ..HttpConfig::default() };
        assert_eq!(config.validate(), Err(HttpConfigError::Host("node:80".to_owned())));
    }

    #[test]
    fn token_is_never_shown() {
        let config = HttpConfig { token: Some(Token::new(SECRET)), ..HttpConfig::default() };
        assert!(!format!("{config:?}").contains(SECRET));
    }

    #[test]
    fn only_the_very_token_is_right() {
        let token = Token::new(SECRET);
        assert!(token.is(SECRET.as_bytes()));
        for other in ["", "sixteen-letters", "sixteen-letters!!", "sixteen-letters?"] {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
    }
}
