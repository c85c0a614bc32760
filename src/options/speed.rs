//! What may be given up for speed. Nothing by default.

use serde::{Deserialize, Serialize};

/// A choice of approximations; what each loses is measured in `docs/speed.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speed {
    /// None.
    #[default]
    Exact,
    /// Deep features of the denoiser are older than the timestep by up to a quarter: in 37 evaluations of 50, in 3 of 10.
    Balanced,
    /// By up to 40 %: in 40 evaluations of 50, in 4 of 10.
    Fast,
}

impl Speed {
    /// By what share of the timestep deep features may be older.
    pub(super) fn deep_reuse(self) -> f64 {
        match self {
            Speed::Exact => 0.0,
            Speed::Balanced => 0.25,
            Speed::Fast => 0.4,
        }
    }
}
