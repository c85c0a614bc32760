//! The C ABI: what `include/diffbir.h` declares.
//!
//! The header is generated from these files by cbindgen and checked in; a test compares the two. Rules for every entry
//! point:
//!
//! - A handle is a number that was never an address: every call looks it up, so one that is NULL, freed or of another
//!   type is refused and nothing behind it is touched (`handles`).
//! - A panic ends at the boundary and becomes an error (`boundary`).
//! - Structures begin with their size and are only ever appended to; fields beyond the caller's size take defaults
//!   (`growing`).
//! - Enumerations are passed as integers and checked.

#![allow(non_camel_case_types)] // the names are those of the header

// First, for its macro.
#[macro_use]
mod handles;

mod boundary;
mod callbacks;
mod cancel;
mod engine;
mod error;
mod growing;
mod image;
mod info;
mod pixels;
mod queue;
mod request;
mod restore;
mod running;
mod strings;
mod structs;
mod work;

pub use callbacks::*;
pub use cancel::*;
pub use engine::*;
pub use error::*;
pub use image::*;
pub use info::*;
pub use request::*;
pub use restore::*;
pub use strings::*;
pub use structs::*;
pub use work::diffbir_request;
