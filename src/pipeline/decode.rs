//! From a sampled latent to a picture.

use ndarray::s;

use super::run::Run;
use super::vae::VaeEnd;
use super::{Event, Intermediate, Samples, Stage, Stage2};
use crate::canvas::Canvas;
use crate::error::Result;
use crate::nets::Network;
use crate::nets::vae;
use crate::tensor::{Latent, size};

impl Run<'_> {
    /// Decodes sample `k` to a picture in `[-1, 1]` of `cond_img`'s size.
    pub(super) fn decode(
        &self,
        stage2: &Stage2,
        k: usize,
        z: Latent,
        cond_img: &Canvas,
    ) -> Result<Canvas> {
        self.stage(Stage::VaeDecoder, Samples::one(k), |timer| {
            let end = VaeEnd {
                graph: &stage2.graphs.decoder,
                plan: self.plan.decoder,
                input: size(&z),
                read: &|rows| Ok(z.slice(s![.., .., rows, ..]).to_owned()),
                whole: &|net: &mut dyn Network| vae::decode(net, &z),
                next: &[],
            };
            let decoded = self.placed(self.run_vae(&end, timer)?, cond_img.size())?;
            let event = Event::Picture(Intermediate::Decoded, Samples::one(k), &decoded);
            self.events.notify(event)?;
            Ok(decoded)
        })
    }
}
