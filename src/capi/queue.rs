//! The queue of submitted requests and the engine's worker threads, one per set of networks.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::boundary::{Failure, Outcome};
use super::error::diffbir_code;
use super::running::is_running_here;
use super::work::RequestObject;
use crate::service::queue::{self, Refused};

pub(super) struct Queue {
    width: usize,
    waiting: queue::Queue<Arc<RequestObject>>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

impl Queue {
    /// A queue in which at most `limit` requests wait for one of `width` workers.
    pub(super) fn new(limit: usize, width: usize) -> Arc<Self> {
        Arc::new(Queue {
            width,
            waiting: queue::Queue::new(limit),
            workers: Mutex::default(),
        })
    }

    /// Appends `request`, and starts a worker if fewer than `width` run.
    pub(super) fn submit(self: &Arc<Self>, request: Arc<RequestObject>) -> Outcome<()> {
        self.start_worker()?;
        self.waiting
            .submit(request)
            .map_err(|refused| match refused {
                Refused::Closed(_) => closed(),
                Refused::Full(_) => Failure::new(
                    diffbir_code::Busy,
                    format!(
                        "the queue is full: {} requests are waiting",
                        self.waiting.limit()
                    ),
                ),
            })
    }

    fn start_worker(self: &Arc<Self>) -> Outcome<()> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if workers.len() < self.width {
            let queue = self.clone();
            let worker = thread::Builder::new().name("diffbir".to_owned());
            let work = move || queue.waiting.work(|request| request.execute());
            workers.push(worker.spawn(work).map_err(|e| {
                Failure::new(
                    diffbir_code::Resources,
                    format!("no thread can be started: {e}"),
                )
            })?);
        }
        Ok(())
    }

    /// Closes the queue and waits until its requests, which the caller has stopped, have ended.
    pub(super) fn close(&self) {
        self.waiting.close();
        let workers =
            std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        // Called from a callback, waiting would be a deadlock: this thread's own request holds the networks. Workers
        // end by themselves.
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
