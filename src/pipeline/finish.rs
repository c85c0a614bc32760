//! From a sampled latent to a picture.

use ndarray::{Axis, s};

use super::plan::Work;
use super::stage2::one;
use super::vae::Vae;
use super::{Event, Intermediate, Observer, Pipeline, Stage, Timer, stage1};
use crate::canvas::Canvas;
use crate::color::Correction;
use crate::error::Result;
use crate::imageio::{BitDepth, Pixels};
use crate::nets::vae;
use crate::nets::{Network, Networks};
use crate::options::ColorFix;
use crate::resize;
use crate::tensor::{Latent, size, to_hwc};

impl Pipeline {
    /// The picture of sample `k` in `[-1, 1]`, as large as `cond_img`.
    pub(super) fn decode(
        &self,
        k: usize,
        z: Latent,
        cond_img: &Canvas,
        work: &Work<'_>,
        networks: &mut dyn Networks,
        observe: &mut Observer<'_>,
    ) -> Result<Canvas> {
        let timer = Timer::start(Stage::VaeDecoder, observe)?;
        let vae = Vae {
            stage: Stage::VaeDecoder,
            graph: &self.graphs.decoder,
            how: work.plan.decoder,
            work,
            next: &[],
        };
        let read = |rows| Ok(z.slice(s![.., .., rows, ..]).to_owned());
        let whole = |net: &mut dyn Network| vae::decode(net, &z);
        let decoded = vae.run(size(&z), &read, &whole, &timer, networks, observe)?;
        let decoded = work.placed(decoded, cond_img.size())?;
        observe(Event::Picture(Intermediate::Decoded, one(k), &decoded))?;
        timer.finish(observe)?;
        Ok(decoded)
    }

    /// Colours, size and bits.
    pub(super) fn finish(
        &self,
        k: usize,
        decoded: Canvas,
        cond_img: &Canvas,
        depth: BitDepth,
        work: &Work<'_>,
        observe: &mut Observer<'_>,
    ) -> Result<Pixels> {
        let timer = Timer::start(Stage::Finish, observe)?;
        let fixed = self.fix_colors(&decoded, cond_img, work)?;
        drop(decoded);
        observe(Event::Picture(Intermediate::ColorFixed, one(k), &fixed))?;
        let fixed = stage1::resized(fixed, work.sizes.padded_output, work)?;
        let (height, width) = work.sizes.output;
        let mut sample = Pixels::zeros((height, width), depth);
        for rows in work.bands((height, width)) {
            let part = fixed.window(rows.clone(), 0..width)?;
            match &mut sample {
                Pixels::U8(rgb) => {
                    let part = to_hwc(resize::quantise(&part));
                    rgb.slice_mut(s![rows, .., ..])
                        .assign(&part.index_axis(Axis(0), 0));
                }
                Pixels::U16(rgb) => {
                    let part = to_hwc(resize::quantise_16(&part));
                    rgb.slice_mut(s![rows, .., ..])
                        .assign(&part.index_axis(Axis(0), 0));
                }
            }
        }
        timer.finish(observe)?;
        Ok(sample)
    }

    /// `decoded` in `[-1, 1]` to `[0, 1]`, with its colours from `cond_img`.
    fn fix_colors(&self, decoded: &Canvas, cond_img: &Canvas, work: &Work<'_>) -> Result<Canvas> {
        let size = decoded.size();
        let read = |rows| Ok(decoded.rows(rows)?.mapv_into(|x| (x + 1.0) / 2.0));
        let correction = match self.options.restore.color_fix {
            ColorFix::Wavelet => Correction::Wavelet(cond_img),
            ColorFix::Adain => Correction::adain(&read, cond_img, work.rows_at_once(size))?,
            ColorFix::None => Correction::None,
        };
        let mut fixed = work.picture(size)?;
        for rows in work.bands(size) {
            let part = correction.rows(&read, size.0, rows.clone())?;
            fixed.put(rows.start, 0, part.view())?;
        }
        Ok(fixed)
    }
}
