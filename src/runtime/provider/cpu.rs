//! Options of the CPU provider.

use serde::{Deserialize, Serialize};

/// Options of the CPU provider.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuOptions {
    /// Threads. Default: 0, as many as this process may use at once.
    pub threads: usize,
}
