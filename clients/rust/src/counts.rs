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
        self.all().get(name).copied().unwrap_or(0)
    }

    pub(crate) fn all(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
