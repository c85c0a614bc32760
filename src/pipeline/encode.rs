//! From the stage-1 picture to its latent.

use super::run::Run;
use super::vae::VaeEnd;
use super::{Event, Intermediate, Samples, Stage, Stage2};
use crate::canvas::Canvas;
use crate::error::Result;
use crate::nets::Network;
use crate::nets::vae::{self, DOWNSCALE};
use crate::tensor::Latent;

impl Run<'_> {
    /// The latent of the stage-1 picture, `[1, 4, h, w]`.
    pub(super) fn encode(&self, stage2: &Stage2, cond_img: &Canvas) -> Result<Latent> {
        self.stage(Stage::VaeEncoder, Samples::one(0), |timer| {
            let (height, width) = self.sizes.latent;
            let padded = (height * DOWNSCALE, width * DOWNSCALE);
            let padding = self.pipeline.padding();
            let read = |rows| {
                let rows = cond_img.padded(rows, 0..padded.1, padding)?;
                Ok(rows.mapv_into(|x| x * 2.0 - 1.0))
            };
            let next = self.denoisers(stage2)?;
            let next: Vec<&str> = next.iter().map(String::as_str).collect();
            let end = VaeEnd {
                graph: &stage2.graphs.encoder,
                plan: self.plan.encoder,
                input: padded,
                read: &read,
                whole: &|net: &mut dyn Network| vae::encode(net, &read(0..padded.0)?),
                next: &next,
            };
            let c_img = self.run_vae(&end, timer)?.into_array()?;
            let event = Event::Tensor(Intermediate::CImg, Samples::one(0), &c_img);
            self.events.notify(event)?;
            Ok(c_img)
        })
    }
}
