//! From the stage-1 picture to its latent.

use super::run::Run;
use super::vae::VaeEnd;
use super::{Event, Intermediate, Pipeline, Samples, Stage, Stage2};
use crate::canvas::Canvas;
use crate::error::Result;
use crate::nets::Network;
use crate::nets::vae::{self, DOWNSCALE};
use crate::options::DenoiserTiles;
use crate::tensor::{Latent, round_up};

/// The condition is padded to multiples of this many pixels; with the reference's denoiser tiles, to multiples of
/// [`DOWNSCALE`].
pub(super) const MULTIPLE: usize = 64;

impl Pipeline {
    /// Height and width of the latent of a stage-1 picture, which is padded with black.
    pub(super) fn latent_size(&self, (height, width): (usize, usize)) -> (usize, usize) {
        let multiple = match self.options.tiling.cldm {
            DenoiserTiles::Reference(_) => DOWNSCALE,
            _ => MULTIPLE,
        };
        let cells = |length| round_up(length, multiple) / DOWNSCALE;
        (cells(height), cells(width))
    }
}

impl Run<'_> {
    /// The latent of the stage-1 picture, `[1, 4, h, w]`.
    pub(super) fn encode(&self, stage2: &Stage2, cond_img: &Canvas) -> Result<Latent> {
        self.stage(Stage::VaeEncoder, Samples::one(0), |timer| {
            let (height, width) = self.pipeline.latent_size(cond_img.size());
            let padded = (height * DOWNSCALE, width * DOWNSCALE);
            let read = |rows| {
                let rows = cond_img.window(rows, 0..padded.1)?;
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
