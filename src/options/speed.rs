//! What may be given up for speed. Nothing by default.

use serde::{Deserialize, Serialize};

/// A choice of approximations; what each loses is measured in `docs/speed.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Speed {
    /// No approximation
    #[default]
    Exact,
    /// Feature caching: UNet features up to a quarter of the timestep old, in 37 calls of 50, in 3 of 10
    Balanced,
    /// Feature caching up to 40 %: in 40 calls of 50, in 4 of 10
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
