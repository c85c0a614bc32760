//! Options of the CPU provider.

use serde::{Deserialize, Serialize};

/// Options of the CPU provider.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuOptions {
    /// Number of threads. Default: 0, as many as this process may use.
    pub threads: usize,
}
