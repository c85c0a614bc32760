//! What may be given up for speed. Nothing by default.

use serde::{Deserialize, Serialize};

/// A choice of approximations; what each loses is measured in `docs/speed.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speed {
    /// None.
    #[default]
    Exact,
    /// Deep features of the denoiser are up to 65 timesteps old: three evaluations of four in 50 even steps.
    Balanced,
    /// Up to 112 timesteps: five evaluations of six in 50 even steps, every second in 10.
    Fast,
}

impl Speed {
    /// How many timesteps old deep features may be.
    pub(super) fn deep_reuse(self) -> f64 {
        match self {
            Speed::Exact => 0.0,
            Speed::Balanced => 65.0,
            Speed::Fast => 112.0,
        }
    }
}
