//! Leases: keys that go unless their holder keeps them.
//!
//! A lease ends by the keyspace's own clock, which the log moves, so it ends on all nodes at one moment of the log. What
//! a holder does because it holds a lease must name that lease as a condition, [`Lease::held`]: a holder that was asleep
//! does not know that it holds it no more.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidelock_engine::condition::Condition;
use tidelock_engine::write::{Ttl, Write};

use super::{Expected, Strong, StrongError};

/// A key that this holder has until it expires.
#[derive(Clone, Debug)]
pub struct Lease {
    strong: Strong,
    key: Vec<u8>,
    /// Who holds it: nobody else writes this value.
    token: Vec<u8>,
    ttl: Duration,
}

/// Whether a lease was got.
#[derive(Clone, Debug)]
pub enum Leased {
    /// It is held from now on.
    Got(Lease),
    /// Another one holds it.
    Taken,
}

impl Strong {
    /// Takes a lease on a key for as long as `ttl`, unless another holds it or something else is under the key.
    ///
    /// # Errors
    /// [`StrongError`] says what became of it. After [`StrongError::Unknown`] it may be held by nobody who knows, until it
    /// expires.
    pub async fn lease(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Result<Leased, StrongError> {
        let key = key.as_ref().to_vec();
        // Without dice of the system it is still nobody else's on another node, or at another moment.
        let dice = getrandom::u64().unwrap_or_else(|_| now_ms());
        let token = format!("{}-{dice:016x}", self.keyspace.node.peer()).into_bytes();
        let lease = Lease { strong: self.clone(), key: key.clone(), token: token.clone(), ttl };
        let write = Write::SetFor { key: key.clone(), value: token, ttl: Ttl::Until(lease.deadline_ms()) };
        let got = self.decide(vec![Condition::Missing(key)], vec![write]).await?;
        Ok(if got.is_some() { Leased::Got(lease) } else { Leased::Taken })
    }
}

impl Lease {
    /// What must hold for what is done by right of this lease: a key, and what is expected of it.
    pub fn held(&self) -> (&[u8], Expected<'_>) {
        (&self.key, Expected::Value(&self.token))
    }

    /// Keeps it for another `ttl` from now; answers whether it was still held.
    ///
    /// # Errors
    /// [`StrongError`] says what became of it.
    pub async fn keep_alive(&self) -> Result<bool, StrongError> {
        let write = Write::Expire { key: self.key.clone(), deadline_ms: self.deadline_ms(), only: None };
        Ok(self.strong.decide(vec![self.condition()], vec![write]).await?.is_some())
    }

    /// Gives it back; answers whether it was still held.
    ///
    /// # Errors
    /// [`StrongError`] says what became of it.
    pub async fn release(self) -> Result<bool, StrongError> {
        let write = Write::Delete { key: self.key.clone() };
        Ok(self.strong.decide(vec![self.condition()], vec![write]).await?.is_some())
    }

    fn condition(&self) -> Condition {
        Condition::Equals { key: self.key.clone(), value: Some(self.token.clone()) }
    }

    fn deadline_ms(&self) -> u64 {
        now_ms().saturating_add(u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX))
    }
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis().try_into().unwrap_or(u64::MAX))
}
