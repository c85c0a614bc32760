//! Submitted requests wait here for the engine's worker threads, one for each request that it serves at once.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::boundary::{Failure, Outcome};
use super::error::diffbir_code;
use super::restore::is_running_here;
use super::work::RequestObject;

pub(super) struct Queue {
    limit: usize,
    width: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<RequestObject>>,
    workers: Vec<JoinHandle<()>>,
    closed: bool,
}

impl Queue {
    /// A queue in which at most `limit` requests wait for one of `width` workers.
    pub(super) fn new(limit: usize, width: usize) -> Arc<Self> {
        Arc::new(Queue {
            limit,
            width,
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `request` at the end and starts a worker as long as there are fewer than may be.
    pub(super) fn submit(self: &Arc<Self>, request: Arc<RequestObject>) -> Outcome<()> {
        let mut state = self.lock();
        if state.closed {
            return Err(closed());
        }
        if state.waiting.len() >= self.limit {
            return Err(Failure::new(
                diffbir_code::Busy,
                format!("{} requests are waiting, as many as may", self.limit),
            ));
        }
        if state.workers.len() < self.width {
            let queue = self.clone();
            let worker = thread::Builder::new().name("diffbir".to_owned());
            let worker = worker.spawn(move || queue.work()).map_err(|e| {
                Failure::new(
                    diffbir_code::Resources,
                    format!("no thread can be started: {e}"),
                )
            })?;
            state.workers.push(worker);
        }
        state.waiting.push_back(request);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Runs what comes until the queue is closed.
    fn work(&self) {
        loop {
            let mut state = self.lock();
            while state.waiting.is_empty() && !state.closed {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            let Some(request) = state.waiting.pop_front() else {
                return;
            };
            drop(state);
            request.execute();
        }
    }

    /// Takes nothing more and waits until what was taken has ended; the caller has stopped it.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let workers = std::mem::take(&mut state.workers);
        drop(state);
        self.changed.notify_all();
        // A callback may free the engine: its worker would wait for itself, or for the networks that its request
        // holds. Workers end by themselves.
        if !is_running_here() {
            for worker in workers {
                let _ = worker.join();
            }
        }
    }
}

pub(super) fn closed() -> Failure {
    Failure::new(diffbir_code::InvalidState, "the engine was freed")
}
