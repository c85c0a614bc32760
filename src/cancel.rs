//! Cancellation across threads.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// A cancellation flag shared by all its clones. Work that holds one stops soon after it is set.
#[derive(Clone, Default)]
pub struct Cancel(Arc<State>);

#[derive(Default)]
struct State {
    is_set: AtomicBool,
    hooks: Mutex<Hooks>,
}

#[derive(Default)]
struct Hooks {
    next: u64,
    active: Vec<(u64, Box<dyn Fn() + Send>)>,
}

/// Called regularly by long work, which stops with the error that this returns.
pub type Checkpoint<'a> = dyn Fn() -> Result<()> + 'a;

impl Cancel {
    /// Requests cancellation: sets the flag, and calls the [hooks](Self::on_cancel) on this thread.
    pub fn cancel(&self) {
        let hooks = self.hooks();
        self.0.is_set.store(true, Ordering::SeqCst);
        hooks.active.iter().for_each(|(_, hook)| hook());
    }

    /// Whether cancellation was requested.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_set.load(Ordering::SeqCst)
    }

    /// # Errors
    /// [`Cancelled`](crate::error::ErrorKind::Cancelled) once cancellation was requested.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            Err(Error::cancelled())
        } else {
            Ok(())
        }
    }

    /// Calls `hook` when cancellation is requested, or now if it was already; never again once the returned value is
    /// dropped. A hook returns soon, and does not use this flag.
    pub fn on_cancel(&self, hook: impl Fn() + Send + 'static) -> Hook {
        let mut hooks = self.hooks();
        if self.is_cancelled() {
            hook();
        }
        let number = hooks.next;
        hooks.next += 1;
        hooks.active.push((number, Box::new(hook)));
        Hook(self.clone(), number)
    }

    fn hooks(&self) -> MutexGuard<'_, Hooks> {
        self.0.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

/// A function that cancellation calls, until this is dropped.
#[must_use]
pub struct Hook(Cancel, u64);

impl Drop for Hook {
    fn drop(&mut self) {
        self.0
            .hooks()
            .active
            .retain(|(number, _)| *number != self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn hooks_are_called_once_while_they_are_held() {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = || {
            let calls = calls.clone();
            move || {
                calls.fetch_add(1, Ordering::SeqCst);
            }
        };
        let cancel = Cancel::default();
        drop(cancel.on_cancel(count()));
        let held = cancel.on_cancel(count());
        cancel.clone().cancel();
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        drop(held);
        let late = cancel.on_cancel(count());
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        drop(late);
        assert!(
            cancel
                .0
                .hooks
                .lock()
                .is_ok_and(|hooks| hooks.active.is_empty())
        );
    }
}
