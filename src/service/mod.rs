//! The service shared by all front ends: start-up, one job, a bounded queue, the ledger of a batch.

pub mod bundles;
#[cfg(feature = "onnx")]
pub mod job;
pub mod ledger;
pub mod queue;
pub mod settings;
#[cfg(feature = "onnx")]
pub mod startup;
#[cfg(feature = "cli")]
pub mod video;

#[cfg(feature = "onnx")]
pub use job::{Done, Job, Source, caption};
#[cfg(feature = "onnx")]
pub use startup::{Opened, Service};

use crate::error::Result;

/// Level of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Progress of start-up.
    Info,
    /// A result or a run differs from what may be expected.
    Warning,
}

/// The front end of a service.
pub trait Host: Sync {
    /// Receives a message.
    fn note(&self, level: Level, message: &str);

    /// Called if no ONNX Runtime is found: may install it; returns whether it did. Default: never.
    ///
    /// # Errors
    /// [`Runtime`](crate::error::ErrorKind::Runtime): the installation failed.
    fn install_runtime(&self) -> Result<bool> {
        Ok(false)
    }
}

/// A host that ignores messages.
pub struct Silent;

impl Host for Silent {
    fn note(&self, _: Level, _: &str) {}
}
