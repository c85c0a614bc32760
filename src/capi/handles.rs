//! Handles: numbers that stand for objects of the library.

use std::any::Any;
use std::collections::BTreeMap;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::boundary::{Failure, Outcome};
use super::cancel::CancelObject;
use super::engine::EngineObject;
use super::error::ErrorObject;
use super::image::ImageObject;
use super::work::RequestObject;

/// An engine: a bundle, ready to restore pictures. Thread-safe: threads may share one. Networks run one request at a
/// time; others wait for their turn.
pub struct diffbir_engine {
    _private: [u8; 0],
}

/// One piece of work for an engine: an input, options, and in the end a result. For one thread at a time, except that
/// any thread may stop and free it and that `diffbir_request_poll` and `diffbir_request_wait` may be called from any
/// thread.
pub struct diffbir_request {
    _private: [u8; 0],
}

/// A result, owned by the library. Thread-safe: it never changes.
pub struct diffbir_image {
    _private: [u8; 0],
}

/// What went wrong; NULL stands for success. Thread-safe: it never changes.
pub struct diffbir_error {
    _private: [u8; 0],
}

/// A way to stop requests from any thread. Thread-safe.
pub struct diffbir_cancel {
    _private: [u8; 0],
}

/// A type of handle and what it stands for.
pub(super) trait Handle {
    type Object: Any + Send + Sync;
    const NAME: &'static str;
}

macro_rules! handle {
    ($($handle:ident => $object:ty),+) => {
        $(impl Handle for $handle {
            type Object = $object;
            const NAME: &'static str = stringify!($handle);
        })+
    };
}

handle!(
    diffbir_engine => EngineObject,
    diffbir_request => RequestObject,
    diffbir_image => ImageObject,
    diffbir_error => ErrorObject,
    diffbir_cancel => CancelObject
);

type Object = Arc<dyn Any + Send + Sync>;

/// Every object that has not been freed.
static LIVE: Mutex<BTreeMap<usize, Object>> = Mutex::new(BTreeMap::new());
/// Counts on, so that no handle comes twice. Far from 0 and odd, as no pointer to an object is.
static NEXT: AtomicUsize = AtomicUsize::new(0xd1ff_0001);

fn with_live<T>(f: impl FnOnce(&mut BTreeMap<usize, Object>) -> T) -> T {
    f(&mut LIVE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A new handle for `object`.
pub(super) fn insert<H: Handle>(object: H::Object) -> *mut H {
    insert_shared(Arc::new(object))
}

/// A new handle for an object that is in use elsewhere too.
pub(super) fn insert_shared<H: Handle>(object: Arc<H::Object>) -> *mut H {
    let number = NEXT.fetch_add(2, Ordering::Relaxed);
    with_live(|live| live.insert(number, object));
    ptr::without_provenance_mut(number)
}

/// The object behind `handle`. It stays alive as long as the caller of this function keeps it, whoever frees the
/// handle.
pub(super) fn get<H: Handle>(handle: *const H) -> Outcome<Arc<H::Object>> {
    if handle.is_null() {
        return Err(Failure::argument(format!("{} is NULL", H::NAME)));
    }
    let found = with_live(|live| live.get(&handle.addr()).cloned());
    let object = found.and_then(|object| object.downcast().ok());
    object.ok_or_else(|| {
        Failure::argument(format!(
            "no {}: the handle was freed, or is of another type",
            H::NAME
        ))
    })
}

/// Ends `handle` and returns its object; `None` for NULL, a freed handle and one of another type.
pub(super) fn remove<H: Handle>(handle: *const H) -> Option<Arc<H::Object>> {
    with_live(|live| {
        live.get(&handle.addr())?.downcast_ref::<H::Object>()?;
        live.remove(&handle.addr())?.downcast().ok()
    })
}

/// How many handles have not been freed.
pub(super) fn count() -> usize {
    with_live(|live| live.len())
}
