//! AUTH: one password for the whole port, which stands in the config.
//!
//! What is kept of it is a hash. What a client sends is hashed too, and the hashes are compared in constant time, so how
//! long it takes says nothing of the password. Wrong ones are counted, by connection and by address: guessing costs a
//! new connection every few tries, and then waiting.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer};

use super::backend::Backend;
use super::call::Arguments;
use super::connection;
use super::errors;
use super::reply::Reply;
use super::session::{Flow, Session};
use super::state::SessionState;
use super::table::Other;

/// After so many wrong passwords a connection is closed.
pub(super) const WRONG_PER_CONNECTION_MAX: u32 = 5;

/// After so many wrong passwords from one address within [`WINDOW`], none is looked at until it is over.
const WRONG_PER_ADDRESS_MAX: u32 = 20;

/// How long a wrong password is held against its address.
const WINDOW: Duration = Duration::from_mins(1);

/// The addresses that are remembered. Beyond them the one that was wrong first is forgotten.
const ADDRESSES_MAX: usize = 4_096;

/// The only user, as Redis calls it.
const USER: &[u8] = b"default";

pub(super) const REQUIRED: Reply = errors::constant("NOAUTH Authentication required.");

pub(super) const HELLO_REQUIRED: Reply = errors::constant(
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> \
     option can be used to authenticate the client and select the RESP protocol version at the same time",
);

const WRONG: Reply = errors::constant("WRONGPASS invalid username-password pair or user is disabled.");

const NO_PASSWORD: Reply = errors::constant(
    "ERR AUTH <password> called without any password configured for the default user. \
     Are you sure your configuration is correct?",
);

const TOO_MANY: Reply = errors::constant("ERR too many wrong passwords from this address; wait a minute");

/// The password of the Redis port, as the config has it. Nothing shows or writes it: only its hash is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(blake3::Hash);

impl Password {
    /// Remembers a password.
    pub fn new(password: &[u8]) -> Self {
        Self(blake3::hash(password))
    }

    /// Whether this is the password. Takes as long for any of the same length.
    pub fn is(&self, password: &[u8]) -> bool {
        // The comparison of hashes is in constant time.
        self.0 == blake3::hash(password)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Err(serde::de::Error::custom("the password is empty; leave it out to have none"));
        }
        Ok(Self::new(text.as_bytes()))
    }
}

/// What a client says to be let in.
#[derive(Debug)]
pub(super) struct Credentials {
    user: Vec<u8>,
    password: Vec<u8>,
    /// Whether it named the user.
    is_named: bool,
}

impl Credentials {
    /// `AUTH [user] password`
    pub(super) fn parse(mut arguments: Arguments) -> Result<Self, Reply> {
        match arguments.len() {
            1 => Ok(Self { user: USER.to_vec(), password: arguments.take(), is_named: false }),
            2 => Ok(Self::named(arguments.take(), arguments.take())),
            _ => Err(errors::SYNTAX),
        }
    }

    pub(super) fn named(user: Vec<u8>, password: Vec<u8>) -> Self {
        Self { user, password, is_named: true }
    }

    /// Whether they are right, if there is a password; any do for the only user if there is none, as in Redis.
    fn check(&self, expected: Option<&Password>) -> Result<(), Reply> {
        let Some(expected) = expected else {
            if !self.is_named {
                return Err(NO_PASSWORD);
            }
            return if self.user == USER { Ok(()) } else { Err(WRONG) };
        };
        // The name of the only user is no secret, so its comparison may show in the time.
        if self.user == USER && expected.is(&self.password) { Ok(()) } else { Err(WRONG) }
    }
}

/// Wrong passwords by address.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    /// Since when, and how many.
    wrong: BTreeMap<IpAddr, (Instant, u32)>,
}

impl Guesses {
    /// Lets a client in, or says why not. A refusal for a wrong password is counted.
    pub(super) fn check(
        &mut self,
        from: IpAddr,
        credentials: &Credentials,
        expected: Option<&Password>,
        now: Instant,
    ) -> Result<(), Reply> {
        let from = network(from);
        self.wrong.retain(|_, (since, _)| now.saturating_duration_since(*since) < WINDOW);
        if self.wrong.get(&from).is_some_and(|(_, count)| *count >= WRONG_PER_ADDRESS_MAX) {
            return Err(TOO_MANY);
        }
        let checked = credentials.check(expected);
        if checked.is_err() && expected.is_some() {
            self.wrong.entry(from).or_insert((now, 0)).1 += 1;
            if self.wrong.len() > ADDRESSES_MAX {
                let first = self.wrong.iter().min_by_key(|(_, (since, _))| *since).map(|(from, _)| *from);
                first.map(|first| self.wrong.remove(&first));
            }
        }
        checked
    }
}

/// Who has one IPv6 address mostly has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

impl<B: Backend> Session<B> {
    /// Lets a client in that says the password. One that goes on guessing is closed.
    pub(super) fn authenticate(
        &mut self,
        other: Other,
        arguments: Arguments,
    ) -> Result<Flow<B::Watch>, Reply> {
        let shared = &self.shared;
        let let_in = |state: &mut SessionState, credentials: &Credentials| {
            let mut guesses = shared.guesses.lock().expect("no holder of the lock panics");
            let expected = shared.config.password.as_ref();
            let checked = guesses.check(state.address, credentials, expected, Instant::now());
            state.is_authenticated |= checked.is_ok();
            state.wrong_passwords += u32::from(checked.is_err() && expected.is_some());
            checked
        };
        let reply = if other == Other::Auth {
            let_in(&mut self.state, &Credentials::parse(arguments)?)
                .map_or_else(|refused| refused, |()| Reply::OK)
        } else {
            connection::hello(&mut self.state, arguments, let_in)
        };
        self.burst.ready(reply);
        let is_guessing = self.state.wrong_passwords >= WRONG_PER_CONNECTION_MAX;
        Ok(if is_guessing { Flow::Close } else { Flow::Continue })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(password: &str) -> Credentials {
        Credentials::named(USER.to_vec(), password.as_bytes().to_vec())
    }

    #[test]
    fn address_that_guesses_is_not_looked_at_for_a_minute() {
        let (mut guesses, password, start) = (Guesses::default(), Password::new(b"right"), Instant::now());
        let here = IpAddr::from([127, 0, 0, 1]);
        for _ in 0..WRONG_PER_ADDRESS_MAX {
            assert_eq!(guesses.check(here, &guess("wrong"), Some(&password), start), Err(WRONG));
        }
        let right = guess("right");
        assert_eq!(guesses.check(here, &right, Some(&password), start), Err(TOO_MANY));
        assert_eq!(guesses.check(IpAddr::from([127, 0, 0, 2]), &right, Some(&password), start), Ok(()));
        assert_eq!(guesses.check(here, &right, Some(&password), start + WINDOW), Ok(()));
    }

    #[test]
    fn addresses_of_one_network_count_together_and_the_table_is_bounded() {
        let (mut guesses, password, start) = (Guesses::default(), Password::new(b"right"), Instant::now());
        for host in 0..100_u16 {
            let from = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host).into();
            let _ = guesses.check(from, &guess("wrong"), Some(&password), start);
        }
        assert_eq!(guesses.wrong.len(), 1);
        for address in 0..2 * u32::try_from(ADDRESSES_MAX).expect("it is small") {
            let from = IpAddr::from(address.to_be_bytes());
            let _ = guesses.check(from, &guess("wrong"), Some(&password), start);
        }
        assert_eq!(guesses.wrong.len(), ADDRESSES_MAX);
    }

    #[test]
    fn password_is_compared_whole_and_never_shown() {
        let password = Password::new(b"right");
        assert!(password.is(b"right"));
        assert!(["", "righ", "right ", "Right"].iter().all(|wrong| !password.is(wrong.as_bytes())));
        assert_eq!(format!("{password:?}"), "Password");
    }
}
