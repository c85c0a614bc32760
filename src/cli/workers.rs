//! Pictures that are worked on at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::error::Result;

/// Does `work` for each of `jobs` in their order, on `workers` threads (at least one). After an error no further job is
/// begun; those that are under way are ended.
///
/// # Errors
/// The first that `work` reports.
pub(super) fn each<T: Sync>(
    jobs: &[T],
    workers: usize,
    work: impl Fn(&T) -> Result<()> + Sync,
) -> Result<()> {
    if workers.min(jobs.len()) < 2 {
        return jobs.iter().try_for_each(work);
    }
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let worker = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(job) {
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert(error);
                next.store(jobs.len(), Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
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
    use crate::error::Error;
    use std::sync::Barrier;

    #[test]
    fn jobs_are_worked_on_at_once() {
        // Each waits for the other: one after the other would never end.
        let both = Barrier::new(2);
        let meet = |_: &u8| {
            both.wait();
            Ok(())
        };
        each(&[1, 2], 2, meet).unwrap();
    }

    #[test]
    fn nothing_begins_after_an_error() {
        let begun = AtomicUsize::new(0);
        let fail = |job: &usize| {
            begun.fetch_add(1, Ordering::Relaxed);
            Err(Error::option(format!("{job}")))
        };
        let jobs: Vec<usize> = (0..100).collect();
        assert_eq!(each(&jobs, 1, fail).unwrap_err().to_string(), "0");
        assert!(each(&jobs, 3, fail).is_err());
        assert!(begun.load(Ordering::Relaxed) <= 1 + 3);
    }
}
