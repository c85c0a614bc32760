//! From prompts to prompt embeddings.

use super::run::Run;
use super::{Samples, Stage, Stage2};
use crate::error::Result;
use crate::nets::cldm::Context;
use crate::prompts::{Prompt, Prompts};

/// The prompt embeddings of a run, `[77, C]` each.
pub(super) struct Contexts {
    /// Of the positive prompt.
    pub(super) cond: Context,
    /// Of the negative prompt; of the positive one if no uncond branch runs.
    pub(super) uncond: Context,
}

impl Run<'_> {
    /// The embeddings of the prompts. If the text encoder has to run, it is a stage of its own.
    pub(super) fn encode_prompts(&self, stage2: &Stage2, prompts: &Prompts) -> Result<Contexts> {
        if !self.pipeline.prompts().any(Prompt::needs_encoder) {
            return self.contexts(stage2, prompts);
        }
        self.stage(Stage::TextEncoder, Samples::one(0), |_| {
            self.networks
                .lock()?
                .stage(&[text_encoder(stage2)], self.plan.keep);
            self.contexts(stage2, prompts)
        })
    }

    fn contexts(&self, stage2: &Stage2, prompts: &Prompts) -> Result<Contexts> {
        let encode = |prompt| {
            let mut networks = self.networks.lock()?;
            prompts.context(prompt, &mut **networks, text_encoder(stage2))
        };
        let cond = encode(&stage2.prompt)?;
        let uncond = match &stage2.negative_prompt {
            Some(prompt) => encode(prompt)?,
            None => cond.clone(),
        };
        Ok(Contexts { cond, uncond })
    }
}

fn text_encoder(stage2: &Stage2) -> &str {
    stage2.graphs.text_encoder.as_deref().unwrap_or_default()
}
