//! The program's closures that are told what a node does.
//!
//! They are not ours, and run in our threads. One that panics is logged and never called again; the thread
//! that called it goes on.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};

/// Closures of one kind, in the order in which they were added.
pub(crate) struct Observers<F: ?Sized>(RwLock<Vec<Arc<F>>>);

impl<F: ?Sized> Default for Observers<F> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<F: ?Sized> fmt::Debug for Observers<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observers")
    }
}

impl<F: ?Sized> Observers<F> {
    /// Adds a closure for the life of the node.
    pub(crate) fn add(&self, observer: Arc<F>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(observer);
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Calls each closure. No lock is held meanwhile, so a closure may add others.
    pub(crate) fn tell(&self, call: impl Fn(&F)) {
        if self.is_empty() {
            return;
        }
        let observers = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        for observer in observers {
            // What the panic left half done is the closure's own, and it is never called again.
            if catch_unwind(AssertUnwindSafe(|| call(&observer))).is_err() {
                tracing::error!("an observer panicked; it is told nothing more");
                let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
                kept.retain(|it| !Arc::ptr_eq(it, &observer));
            }
        }
    }
}
