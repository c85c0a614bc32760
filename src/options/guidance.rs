//! The options of restoration guidance.

use serde::{Deserialize, Serialize};

use crate::declare::{Section, options};
use crate::error::{Error, Result};
use crate::guidance::{LossKind, Rule, Semantics, Space};

options! {
    /// Restoration guidance.
    struct GuidanceOptions, layer GuidanceLayer, section "guidance";
    /// Restoration guidance: pulls the result toward the stage-1 image; 0 is off. The scale has the meaning of the
    /// bundle's family.
    scale: f64 = 0.0, [0.0, 1e9], (long = "guidance-scale", alias = "g_scale", allow_negative_numbers = true);
    /// The loss of guidance.
    loss: LossKind = LossKind::Mse, (long = "guidance-loss", alias = "g_loss");
    /// Space in which the loss is computed.
    space: Space = Space::Latent, (long = "guidance-space", alias = "g_space");
    /// Guide model timesteps below this, counted from 1 to 1000.
    start: i64 = 1001, [-1.0, 1e6],
        (long = "guidance-start", alias = "g_start", value_name = "TIMESTEP", allow_negative_numbers = true);
    /// Guide model timesteps above this.
    stop: i64 = -1, [-1.0, 1e6],
        (long = "guidance-stop", alias = "g_stop", value_name = "TIMESTEP", allow_negative_numbers = true);
    /// Meaning of the scale: that of the bundle's family (family), v1 or v2.
    semantics: SemanticsOption = SemanticsOption::Family, (skip);
    optional:
    /// Gradient steps of guidance per sampling step. Unset: 5 for v1, 1 for the other families.
    repeat: usize, [1.0, 1000.0], (long = "guidance-repeat", alias = "g_repeat", value_name = "N", num_args = 1);
}

/// The family that defines the meaning of the guidance options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SemanticsOption {
    /// The bundle's family.
    #[default]
    Family,
    /// v1.
    V1,
    /// v2 and later.
    V2,
}

impl GuidanceOptions {
    pub(super) fn validate(&self) -> Result<()> {
        self.check_ranges()?;
        if self.stop >= self.start {
            return Err(Error::option(format!(
                "guidance.start is {} and guidance.stop {}: timesteps fall, so start has to be above stop",
                self.start, self.stop
            )));
        }
        if self.loss == LossKind::WMse && self.space == Space::Latent {
            return Err(Error::option(
                "guidance.loss is w-mse, which weighs the pixels of a picture: set guidance.space to rgb",
            ));
        }
        Ok(())
    }

    /// The guidance rule for a bundle of `family`; `None` if guidance is off.
    pub fn rule(&self, family: &str) -> Option<Rule> {
        let semantics = match (self.semantics, family) {
            (SemanticsOption::V1, _) | (SemanticsOption::Family, "v1") => Semantics::V1,
            _ => Semantics::V2,
        };
        let default_repeat = match semantics {
            Semantics::V1 => 5,
            Semantics::V2 => 1,
        };
        (self.scale > 0.0).then_some(Rule {
            semantics,
            scale: self.scale,
            start: self.start,
            stop: self.stop,
            repeat: self.repeat.unwrap_or(default_repeat),
        })
    }
}
