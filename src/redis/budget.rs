//! Bytes that clients hold in this node, counted over all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many bytes all clients together may hold.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    max: usize,
}

impl Budget {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), max })
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// What one client holds of a budget. It is given back when the client is gone.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Arc<Budget>,
    held: usize,
}

impl Charge {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: budget.clone(), held: 0 }
    }

    /// Says that the client holds `bytes` now; answers whether it may. Who does not hold more than before always
    /// may: that all clients together are past the budget is the doing of another, which will be refused.
    pub(super) fn set(&mut self, bytes: usize) -> bool {
        let held = std::mem::replace(&mut self.held, bytes);
        if bytes <= held {
            self.budget.used.fetch_sub(held - bytes, Ordering::Relaxed);
            return true;
        }
        let more = bytes - held;
        self.budget.used.fetch_add(more, Ordering::Relaxed) + more <= self.budget.max
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_holds_at_its_bound_and_not_one_past_it() {
        let budget = Budget::new(10);
        let mut one = Charge::new(&budget);
        let mut two = Charge::new(&budget);
        assert!(one.set(6));
        assert!(two.set(4));
        assert!(!two.set(5));
        assert!(one.set(6) && Charge::new(&budget).set(0), "it is not their doing");
        drop(two);
        assert_eq!(budget.used(), 6);
        assert!(one.set(10));
        assert!(one.set(0));
        assert_eq!(budget.used(), 0);
    }
}
