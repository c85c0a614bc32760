//! Sets of networks, each of which serves one request at a time.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::cancel::Cancel;
use crate::error::Result;
use crate::nets::Networks;

/// Interval at which a waiting request checks for cancellation.
const PATIENCE: Duration = Duration::from_millis(50);

/// All sets of networks, and the idle ones.
pub(super) struct Pool {
    all: Vec<Mutex<Box<dyn Networks>>>,
    free: Mutex<Vec<usize>>,
    given_back: Condvar,
}

impl Pool {
    /// A pool of `all`, at least one.
    pub(super) fn new(all: Vec<Box<dyn Networks>>) -> Self {
        Pool {
            free: Mutex::new((0..all.len()).rev().collect()),
            all: all.into_iter().map(Mutex::new).collect(),
            given_back: Condvar::new(),
        }
    }

    /// Number of requests that run at once.
    pub(super) fn width(&self) -> usize {
        self.all.len()
    }

    /// The most recently used idle set, which has the most graphs loaded; waits while all are in use.
    ///
    /// # Errors
    /// [`Cancelled`](crate::error::ErrorKind::Cancelled) once `cancel` is set.
    pub(super) fn take(&self, cancel: &Cancel) -> Result<Lease<'_>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            cancel.check()?;
            if let Some(index) = free.pop() {
                let networks = self.all[index]
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                return Ok(Lease {
                    pool: self,
                    index,
                    networks,
                });
            }
            let waited = self.given_back.wait_timeout(free, PATIENCE);
            free = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A set of networks in use; returned to the pool on drop.
pub(super) struct Lease<'a> {
    pool: &'a Pool,
    index: usize,
    networks: MutexGuard<'a, Box<dyn Networks>>,
}

impl Lease<'_> {
    /// The networks.
    pub(super) fn networks(&mut self) -> &mut dyn Networks {
        self.networks.as_mut()
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let free = self.pool.free.lock();
        free.unwrap_or_else(PoisonError::into_inner)
            .push(self.index);
        self.pool.given_back.notify_one();
    }
}
