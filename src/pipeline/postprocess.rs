//! Colour correction, resize and quantisation of a decoded picture.

use ndarray::{Axis, s};

use super::run::Run;
use super::sizes::rows_at_once;
use super::{Event, Intermediate, Samples, Stage};
use crate::canvas::Canvas;
use crate::color::Correction;
use crate::error::Result;
use crate::imageio::{BitDepth, Pixels};
use crate::options::ColorFix;
use crate::resize;
use crate::tensor::{expect_finite, to_hwc};

impl Run<'_> {
    /// Converts the decoded picture of sample `k` in `[-1, 1]` to integers of `depth` bits.
    pub(super) fn postprocess(
        &self,
        k: usize,
        decoded: Canvas,
        cond_img: &Canvas,
        depth: BitDepth,
    ) -> Result<Pixels> {
        self.stage(Stage::Finish, Samples::one(k), |_| {
            let fixed = self.fix_colors(&decoded, cond_img)?;
            drop(decoded);
            let event = Event::Picture(Intermediate::ColorFixed, Samples::one(k), &fixed);
            self.events.notify(event)?;
            let fixed = self.resized(fixed, self.sizes.padded_output)?;
            self.quantised(&fixed, depth)
        })
    }

    /// The stage-1 picture, already of the result's size, as integers of `depth` bits.
    pub(super) fn finish_stage1(&self, picture: &Canvas, depth: BitDepth) -> Result<Pixels> {
        self.stage(Stage::Finish, Samples::one(0), |_| {
            self.quantised(picture, depth)
        })
    }

    /// Crops `fixed` in `[0, 1]` to the result's size and quantises it.
    fn quantised(&self, fixed: &Canvas, depth: BitDepth) -> Result<Pixels> {
        let (height, width) = self.sizes.output;
        let mut sample = Pixels::zeros((height, width), depth);
        self.for_rows((height, width), |rows| {
            let part = fixed.window(rows.clone(), 0..width)?;
            expect_finite(|| "the picture", &part)?;
            match &mut sample {
                Pixels::U8(rgb) => rgb
                    .slice_mut(s![rows, .., ..])
                    .assign(&to_hwc(resize::quantise(&part)).index_axis(Axis(0), 0)),
                Pixels::U16(rgb) => rgb
                    .slice_mut(s![rows, .., ..])
                    .assign(&to_hwc(resize::quantise_16(&part)).index_axis(Axis(0), 0)),
            }
            Ok(())
        })?;
        Ok(sample)
    }

    /// Maps `decoded` from `[-1, 1]` to `[0, 1]` and corrects its colours by `cond_img`.
    fn fix_colors(&self, decoded: &Canvas, cond_img: &Canvas) -> Result<Canvas> {
        let size = decoded.size();
        let read = |rows| {
            self.events.checkpoint()?;
            Ok(decoded.rows(rows)?.mapv_into(|x| (x + 1.0) / 2.0))
        };
        let correction = match self.pipeline.options.restore.color_fix {
            ColorFix::Wavelet => Correction::Wavelet(cond_img),
            ColorFix::Adain => Correction::adain(&read, cond_img, rows_at_once(size))?,
            ColorFix::None => Correction::None,
        };
        self.picture(size, |rows| correction.rows(&read, size.0, rows))
    }
}
