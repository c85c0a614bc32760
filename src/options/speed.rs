//! What may be given up for speed. Nothing by default.

use serde::{Deserialize, Serialize};

/// A choice of approximations; what each loses is measured in `docs/speed.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speed {
    /// None.
    #[default]
    Exact,
    /// Deep features of every second evaluation of the denoiser.
    Balanced,
    /// Deep features of every third evaluation of the denoiser.
    Fast,
}

impl Speed {
    /// Every so manieth evaluation of the denoiser is of the whole network.
    pub(super) fn deep_reuse(self) -> usize {
        match self {
            Speed::Exact => 1,
            Speed::Balanced => 2,
            Speed::Fast => 3,
        }
    }
}
