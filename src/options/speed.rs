//! Approximations for speed; none by default.

use serde::{Deserialize, Serialize};

/// A choice of approximations; `docs/speed.md` has the measured loss of each.
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
    /// Maximum age of reused deep features, as a share of the timestep.
    pub(super) fn deep_reuse(self) -> f64 {
        match self {
            Speed::Exact => 0.0,
            Speed::Balanced => 0.25,
            Speed::Fast => 0.4,
        }
    }
}
