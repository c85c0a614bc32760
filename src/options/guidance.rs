//! Restoration guidance as it is asked for.

use serde::{Deserialize, Serialize};

use super::expect;
use crate::error::{Error, Result};
use crate::guidance::{LossKind, Rule, Semantics, Space};

/// Restoration guidance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuidanceOptions {
    /// The loss. Default: mse.
    pub loss: LossKind,
    /// Where it is computed. Default: latent.
    pub space: Space,
    /// How strongly to guide; 0 does not. Default: 0.
    pub scale: f64,
    /// Only timesteps below this are guided, counted from 1 to 1000. Default: 1001.
    pub start: i64,
    /// Only timesteps above this are guided. Default: -1.
    pub stop: i64,
    /// How often in each step, at least 1. Default: the family's, 5 for v1 and 1 for the others.
    pub repeat: Option<usize>,
    /// What the scale means. Default: as in the bundle's family.
    pub semantics: SemanticsOption,
}

/// Which family's meaning the guidance options have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SemanticsOption {
    /// The bundle's.
    #[default]
    Family,
    /// v1's.
    V1,
    /// That of v2 and later.
    V2,
}

impl Default for GuidanceOptions {
    fn default() -> Self {
        GuidanceOptions {
            loss: LossKind::Mse,
            space: Space::Latent,
            scale: 0.0,
            start: 1001,
            stop: -1,
            repeat: None,
            semantics: SemanticsOption::Family,
        }
    }
}

impl GuidanceOptions {
    pub(super) fn validate(&self) -> Result<()> {
        expect("guidance.scale", self.scale, "a number from 0 up", |x| {
            x.is_finite() && x >= 0.0
        })?;
        if self.repeat == Some(0) {
            return Err(Error::option("guidance.repeat is 0, expected at least 1"));
        }
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

    /// The rule for a bundle of `family`; `None` where nothing is guided.
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
