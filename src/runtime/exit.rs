//! Threads that may be inside ONNX Runtime, and the end of the process.
//!
//! At exit the destructors of ONNX Runtime's static objects run on one thread while others still use them, which ends in
//! a segmentation fault. So a handler of ours comes first: it stops the requests and waits until no thread is inside.

use std::cell::Cell;
use std::os::raw::c_int;
use std::process;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cancel::Cancel;

/// How long exit waits for callbacks of the host: they may wait for the very thread that ends the process.
const CALLBACKS_AT_EXIT: Duration = Duration::from_secs(1);

struct Inside {
    visits: Vec<Visit>,
    next: u64,
    /// The process ends: nobody enters any more.
    ending: bool,
    /// Destructors run: whoever comes back from a callback stays where it is.
    over: bool,
}

struct Visit {
    number: u64,
    thread: u64,
    stop: Option<Cancel>,
    in_callback: bool,
}

static INSIDE: Mutex<Inside> = Mutex::new(Inside {
    visits: Vec::new(),
    next: 0,
    ending: false,
    over: false,
});
static LEFT: Condvar = Condvar::new();
/// The process that registered the handler: a child by `fork` has none of the threads.
static PROCESS: AtomicU32 = AtomicU32::new(0);

thread_local! {
    static THREAD: Cell<u64> = const { Cell::new(0) };
}

/// A number for the calling thread, from 1. `thread::current()` is gone when exit handlers run.
pub fn thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    if THREAD.get() == 0 {
        THREAD.set(NEXT.fetch_add(1, Ordering::Relaxed));
    }
    THREAD.get()
}

fn lock() -> MutexGuard<'static, Inside> {
    INSIDE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This thread may be inside ONNX Runtime as long as this lives.
#[must_use]
pub struct Entered(u64);

/// Enters; exit asks `stop` to end the work and waits for this thread. `None`: the process is exiting already.
pub fn enter(stop: Option<&Cancel>) -> Option<Entered> {
    let mut inside = lock();
    if inside.ending {
        return None;
    }
    let number = inside.next;
    inside.next += 1;
    inside.visits.push(Visit {
        number,
        thread: thread(),
        stop: stop.cloned(),
        in_callback: false,
    });
    Some(Entered(number))
}

impl Drop for Entered {
    fn drop(&mut self) {
        lock().visits.retain(|visit| visit.number != self.0);
        LEFT.notify_all();
    }
}

/// Calls a function of the host's, which is not inside ONNX Runtime although its caller is.
pub fn outside<T>(call: impl FnOnce() -> T) -> T {
    drop(mark(true));
    let result = call();
    let mut inside = mark(false);
    // Its caller would go back into what is destroyed.
    while inside.over {
        inside = LEFT.wait(inside).unwrap_or_else(PoisonError::into_inner);
    }
    result
}

fn mark(in_callback: bool) -> MutexGuard<'static, Inside> {
    let (mut inside, here) = (lock(), thread());
    let mut visits = inside.visits.iter_mut().rev();
    if let Some(visit) = visits.find(|visit| visit.thread == here) {
        visit.in_callback = in_callback;
    }
    LEFT.notify_all();
    inside
}

/// Makes exit wait. Handlers run in the reverse order of their registration, and ONNX Runtime makes many static objects
/// when it first loads a graph: so once for each engine, after its providers were tried. For libraries; a program decides
/// itself when it ends.
pub fn watch() {
    PROCESS.store(process::id(), Ordering::SeqCst);
    // On Windows no thread but the exiting one is left when a library's handlers run.
    #[cfg(unix)]
    {
        unsafe extern "C" {
            fn atexit(handler: extern "C" fn()) -> c_int;
        }
        // SAFETY: the C library's function, given one that does not unwind: it panics nowhere.
        let _ = unsafe { atexit(end) };
    }
}

/// Stops what runs and waits until no other thread is inside ONNX Runtime.
extern "C" fn end() {
    if PROCESS.load(Ordering::SeqCst) != process::id() {
        return;
    }
    let (here, patience) = (thread(), Instant::now() + CALLBACKS_AT_EXIT);
    let mut inside = lock();
    if inside.over {
        return;
    }
    inside.ending = true;
    for stop in inside.visits.iter().filter_map(|visit| visit.stop.as_ref()) {
        stop.cancel();
    }
    // A callback that ends the process holds the networks that others wait for.
    let held = inside.visits.iter().any(|visit| visit.thread == here);
    loop {
        let mut others = inside.visits.iter().filter(|visit| visit.thread != here);
        let left = match others.clone().any(|visit| !visit.in_callback) && !held {
            true => Duration::MAX,
            false => patience.saturating_duration_since(Instant::now()),
        };
        if others.next().is_none() || left.is_zero() {
            break;
        }
        let waited = LEFT.wait_timeout(inside, left);
        inside = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
    inside.over = true;
}
