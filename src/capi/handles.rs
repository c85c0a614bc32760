//! Handles: numbers that stand for objects of the library.

use std::any::Any;
use std::collections::BTreeMap;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::boundary::{Failure, Outcome};

/// A handle type and the object behind it.
pub(super) trait Handle {
    type Object: Any + Send + Sync;
    const NAME: &'static str;
}

/// `handle!(diffbir_x => XObject);`: the header's opaque type `diffbir_x` is a handle of an `XObject`.
macro_rules! handle {
    ($handle:ident => $object:ty) => {
        impl $crate::capi::handles::Handle for $handle {
            type Object = $object;
            const NAME: &'static str = stringify!($handle);
        }
    };
}

type Object = Arc<dyn Any + Send + Sync>;

/// Every object that has not been freed.
static LIVE: Mutex<BTreeMap<usize, Object>> = Mutex::new(BTreeMap::new());
/// The next handle; no value is used twice. Odd and far from 0, unlike any pointer to an object.
static NEXT: AtomicUsize = AtomicUsize::new(0xd1ff_0001);

fn with_live<T>(f: impl FnOnce(&mut BTreeMap<usize, Object>) -> T) -> T {
    f(&mut LIVE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A new handle for `object`.
pub(super) fn insert<H: Handle>(object: H::Object) -> *mut H {
    insert_shared(Arc::new(object))
}

/// A new handle for a shared object.
pub(super) fn insert_shared<H: Handle>(object: Arc<H::Object>) -> *mut H {
    let number = NEXT.fetch_add(2, Ordering::Relaxed);
    with_live(|live| live.insert(number, object));
    ptr::without_provenance_mut(number)
}

/// The object behind `handle`. The caller's reference keeps it alive even if the handle is freed meanwhile.
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

/// Frees `handle` and returns its object; `None` for NULL, a freed handle and one of another type.
pub(super) fn remove<H: Handle>(handle: *const H) -> Option<Arc<H::Object>> {
    with_live(|live| {
        live.get(&handle.addr())?.downcast_ref::<H::Object>()?;
        live.remove(&handle.addr())?.downcast().ok()
    })
}

/// Number of handles that have not been freed.
pub(super) fn count() -> usize {
    with_live(|live| live.len())
}
