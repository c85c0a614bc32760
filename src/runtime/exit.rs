//! Process exit while threads may be inside ONNX Runtime.
//!
//! At exit the destructors of ONNX Runtime's static objects run on one thread. Another thread that still uses them
//! would crash with a segmentation fault. An exit handler that runs earlier stops all requests and waits until no
//! thread is inside.

use std::cell::Cell;
use std::os::raw::c_int;
use std::process;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cancel::Cancel;

/// How long exit waits for callbacks of the host; a callback may itself wait for the thread that ends the process.
const CALLBACKS_AT_EXIT: Duration = Duration::from_secs(1);

struct Inside {
    visits: Vec<Visit>,
    next: u64,
    /// The process is exiting: no thread may enter any more.
    ending: bool,
    /// Destructors are running: a thread that returns from a callback waits for ever.
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
/// The process that registered the handler: a `fork`ed child has none of its threads.
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

/// Marks this thread as possibly inside ONNX Runtime until it is dropped.
#[must_use]
pub struct Entered(u64);

/// Marks this thread as inside ONNX Runtime. At exit `stop` is set and the thread is waited for. `None`: the process
/// is exiting.
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

/// Calls a function of the host, during which this thread counts as outside ONNX Runtime.
pub fn outside<T>(call: impl FnOnce() -> T) -> T {
    drop(mark(true));
    let result = call();
    let mut inside = mark(false);
    // The caller would return into destroyed objects.
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

/// Registers the exit handler, for libraries; a program decides itself when it ends. Handlers run in reverse order of
/// registration, and ONNX Runtime creates many static objects when it first loads a graph: call this once for each
/// engine, after its providers were tried.
pub fn watch() {
    PROCESS.store(process::id(), Ordering::SeqCst);
    // On Windows only the exiting thread is left when a library's handlers run.
    #[cfg(unix)]
    {
        unsafe extern "C" {
            fn atexit(handler: extern "C" fn()) -> c_int;
        }
        // SAFETY: the C library's function, with a handler that does not unwind: it never panics.
        let _ = unsafe { atexit(end) };
    }
}

/// Stops all requests and waits until no other thread is inside ONNX Runtime.
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
    // If a callback ends the process, its caller holds the networks that other threads wait for.
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
