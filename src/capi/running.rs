//! Tracks which threads run a request.

use std::cell::Cell;

use super::boundary::{Failure, Outcome};
use super::error::diffbir_code;
use crate::cancel::Cancel;
use crate::runtime::exit;

thread_local! {
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// Set while the process exits: no request starts any more.
pub(super) fn exiting() -> Failure {
    Failure::new(
        diffbir_code::InvalidState,
        "the process is exiting: end your work before exit",
    )
}

/// Whether a request runs on this thread, i.e. the call comes from a callback.
pub(super) fn is_running_here() -> bool {
    RUNNING.get()
}

/// Marks this thread as running a request, until dropped.
pub(super) struct Running {
    _entered: exit::Entered,
}

impl Running {
    /// In a callback the current request holds the networks: another one on this thread would wait for ever.
    pub(super) fn begin(stop: &Cancel) -> Outcome<Self> {
        if is_running_here() {
            return Err(Failure::new(
                diffbir_code::InvalidState,
                "a callback cannot run a request: submit it",
            ));
        }
        let _entered = exit::enter(Some(stop)).ok_or_else(exiting)?;
        RUNNING.set(true);
        Ok(Running { _entered })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(false);
    }
}
