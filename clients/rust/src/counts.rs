//! What a client counts (docs/client.md lists the names).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counters that any thread may read.
#[derive(Clone, Default)]
pub(crate) struct Counts(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Counts {
    pub(crate) fn add(&self, name: &'static str) {
        self.add_many(name, 1);
    }

    pub(crate) fn add_many(&self, name: &'static str, number: u64) {
        if number > 0 {
            *self
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(name)
                .or_default() += number;
        }
    }

    pub(crate) fn get(&self, name: &'static str) -> u64 {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .copied()
            .unwrap_or(0)
    }

    pub(crate) fn all(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Says, when it goes, how many values something newer was learnt of while it was there (level debug).
pub(crate) struct Superseding {
    counts: Counts,
    before: u64,
}

impl Superseding {
    pub(crate) fn of(counts: &Counts) -> Self {
        Self {
            counts: counts.clone(),
            before: counts.get("superseded"),
        }
    }
}

impl Drop for Superseding {
    fn drop(&mut self) {
        let superseded = self.counts.get("superseded") - self.before;
        if superseded > 0 {
            tracing::debug!(superseded, "values are not current any more");
        }
    }
}
