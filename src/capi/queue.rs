//! Submitted requests wait here for the engine's worker threads, one for each request that it serves at once.

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

    /// Appends `request`, and starts a worker as long as there are fewer than may be.
    pub(super) fn submit(self: &Arc<Self>, request: Arc<RequestObject>) -> Outcome<()> {
        self.start_worker()?;
        self.waiting
            .submit(request)
            .map_err(|refused| match refused {
                Refused::Closed(_) => closed(),
                Refused::Full(_) => Failure::new(
                    diffbir_code::Busy,
                    format!(
                        "{} requests are waiting, as many as may",
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

    /// Takes nothing more and waits until the requests that were taken have ended; the caller has stopped them.
    pub(super) fn close(&self) {
        self.waiting.close();
        let workers =
            std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
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
