//! One operation by a name of its client's, which is done once however often it is asked for.

use tidelock_engine::id::ClientId;
use tidelock_engine::write::Outcome;

use super::{Expected, Strong, StrongError};
use crate::keyspace::Batch;

/// A strong keyspace for one operation, which has a name.
///
/// Whoever does not know what became of it asks for the same by the same name again, at this node or another: where it was
/// executed before, it is answered what it gave then, and nothing is done. Another operation by this name is refused, with
/// [`StrongError::OtherOperation`].
#[derive(Clone, Debug)]
pub struct Named(Strong);

impl Strong {
    /// Names an operation: who the client is, in whatever words, and which of its operations this is.
    ///
    /// A client numbers its operations upwards, and does not begin again. What became of the one of its highest number and
    /// of the 1,023 numbers below is kept until it has executed nothing for a day; what is lower is refused, with
    /// [`StrongError::Forgotten`]. So it may have as many open at once, and asks again within a day.
    ///
    /// ```no_run
    /// # async fn example(orders: tidelock::Strong) -> Result<(), Box<dyn std::error::Error>> {
    /// use tidelock::{Batch, StrongError};
    ///
    /// let withdraw = || orders.named("till-3", 8_812).batch(Batch::new().increment("balance", -5));
    /// let done = match withdraw().await {
    ///     // It may have been done: it is asked for again, and is done once.
    ///     Err(StrongError::Unknown { .. }) => withdraw().await,
    ///     known => known,
    /// };
    /// # done?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn named(&self, client: impl AsRef<[u8]>, number: u64) -> Named {
        let name = (ClientId::named(client.as_ref()), number);
        Named(Strong { keyspace: self.keyspace.named(name), terms: self.terms })
    }
}

impl Named {
    /// As [`Strong::put`].
    ///
    /// # Errors
    /// [`StrongError`] says what became of it.
    pub async fn put(self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), StrongError> {
        self.0.put(key, value).await
    }

    /// As [`Strong::delete`].
    ///
    /// # Errors
    /// [`StrongError`] says what became of it.
    pub async fn delete(self, key: impl AsRef<[u8]>) -> Result<bool, StrongError> {
        self.0.delete(key).await
    }

    /// As [`Strong::compare_and_set`].
    ///
    /// # Errors
    /// [`StrongError`] says what became of it.
    pub async fn compare_and_set(
        self,
        key: impl AsRef<[u8]>,
        expected: Expected<'_>,
        value: impl AsRef<[u8]>,
    ) -> Result<bool, StrongError> {
        self.0.compare_and_set(key, expected, value).await
    }

    /// As [`Strong::batch`].
    ///
    /// # Errors
    /// [`StrongError`] says what became of it.
    pub async fn batch(self, batch: Batch) -> Result<Vec<Outcome>, StrongError> {
        self.0.batch(batch).await
    }

    /// As [`Strong::batch_if`].
    ///
    /// # Errors
    /// [`StrongError`] says what became of it.
    pub async fn batch_if<K: AsRef<[u8]>>(
        self,
        expected: impl IntoIterator<Item = (K, Expected<'_>)>,
        batch: Batch,
    ) -> Result<Option<Vec<Outcome>>, StrongError> {
        self.0.batch_if(expected, batch).await
    }
}
