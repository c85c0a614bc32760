//! A bounded queue of jobs and the loop of its workers. The owner starts the threads: scoped ones for a run of the
//! program, long-lived ones for an engine behind the C ABI.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A refused job and the reason.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused<T> {
    /// The queue is full.
    Full(T),
    /// The queue is closed.
    Closed(T),
}

/// A queue of jobs.
pub struct Queue<T> {
    limit: usize,
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

impl<T> Queue<T> {
    /// A queue in which at most `limit` jobs wait.
    pub fn new(limit: usize) -> Self {
        Queue {
            limit,
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Most jobs that may wait.
    pub fn limit(&self) -> usize {
        self.limit
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends `job`.
    ///
    /// # Errors
    /// [`Refused`] with the job, at once.
    pub fn submit(&self, job: T) -> Result<(), Refused<T>> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed(job));
        }
        if state.waiting.len() >= self.limit {
            return Err(Refused::Full(job));
        }
        state.waiting.push_back(job);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Runs jobs in order until the queue is closed and empty.
    pub fn work(&self, mut work: impl FnMut(T)) {
        while let Some(job) = self.next() {
            work(job);
        }
    }

    fn next(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.waiting.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Closes the queue. Workers finish the waiting jobs and end.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Closes the queue and returns the waiting jobs.
    pub fn cancel(&self) -> Vec<T> {
        let mut state = self.lock();
        state.closed = true;
        let waiting = state.waiting.drain(..).collect();
        drop(state);
        self.changed.notify_all();
        waiting
    }
}

/// Does `work` for each of `jobs` in their order on `workers` threads, at least one. After an error no further job
/// starts; running ones are finished.
///
/// # Errors
/// The first error of `work`.
pub fn each<T: Sync, E: Send>(
    jobs: &[T],
    workers: usize,
    work: impl Fn(&T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let queue = Queue::new(jobs.len());
    for job in jobs {
        // The queue has room for all of them.
        let _ = queue.submit(job);
    }
    queue.close();
    let failed = Mutex::new(None);
    let worker = || {
        queue.work(|job| {
            if let Err(error) = work(job) {
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert(error);
                queue.cancel();
            }
        });
    };
    std::thread::scope(|scope| {
        for _ in 1..workers.min(jobs.len()) {
            scope.spawn(worker);
        }
        worker();
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn jobs_are_worked_on_at_once() {
        // Each job waits for the other: run in sequence they would never end.
        let both = Barrier::new(2);
        let meet = |_: &u8| {
            both.wait();
            Ok::<(), ()>(())
        };
        each(&[1, 2], 2, meet).unwrap();
    }

    #[test]
    fn nothing_begins_after_an_error() {
        let begun = AtomicUsize::new(0);
        let fail = |job: &usize| {
            begun.fetch_add(1, Ordering::Relaxed);
            Err(*job)
        };
        let jobs: Vec<usize> = (0..100).collect();
        assert_eq!(each(&jobs, 1, fail), Err(0));
        assert!(each(&jobs, 3, fail).is_err());
        assert!(begun.load(Ordering::Relaxed) <= 1 + 3);
    }

    #[test]
    fn a_full_or_closed_queue_gives_the_job_back() {
        let queue = Queue::new(1);
        queue.submit(1).unwrap();
        assert_eq!(queue.submit(2), Err(Refused::Full(2)));
        queue.close();
        assert_eq!(queue.submit(3), Err(Refused::Closed(3)));
        let mut done = Vec::new();
        queue.work(|job| done.push(job));
        assert_eq!(done, [1], "what waits when the queue is closed is done");
        let queue = Queue::new(2);
        queue.submit(1).unwrap();
        assert_eq!(queue.cancel(), [1]);
        queue.work(|_| unreachable!("no job is left"));
    }
}
