//! Stage 1: from the low-quality picture to the picture that conditions stage 2.

use ndarray::{ArrayView3, s};

use super::event::Timer;
use super::run::Run;
use super::{CleanerPlan, Event, Intermediate, Lq, Samples, Stage};
use crate::canvas::Canvas;
use crate::error::{ErrorKind, Result};
use crate::imageio::Pixels;
use crate::nets::Network;
use crate::nets::cleaner::{self, CleanerSpec};
use crate::resize;
use crate::tensor::Image;

/// The specification used without a restoration module.
pub(super) const NO_CLEANER: CleanerSpec = CleanerSpec {
    multiple: 1,
    scale: 1,
    enlarge_first: true,
};

impl Run<'_> {
    /// The stage-1 picture, nominally in `[0, 1]` and not clamped, of [`Sizes::cond`](super::Sizes::cond).
    pub(super) fn clean(&self, lq: Lq<'_>) -> Result<Canvas> {
        self.stage(Stage::Cleaner, Samples::one(0), |timer| {
            let graph = self.pipeline.module.as_ref();
            let graph = graph.map(|graph| graph.name.as_str());
            if let Some(graph) = graph {
                self.networks.lock()?.stage(&[graph], self.plan.keep);
                self.networks.with(graph, |_| Ok(()))?;
                if let Some(stage2) = &self.pipeline.stage2 {
                    self.prepare(&[&stage2.graphs.encoder.name])?;
                }
            }
            timer.loaded()?;
            let input = self.cleaner_input(lq)?;
            let cleaned = match graph {
                Some(graph) => self
                    .networks
                    .with(graph, |net| self.run_cleaner(net, input, timer))?,
                None => input,
            };
            let cleaned = self.resized(cleaned, self.sizes.cond)?;
            let cond_img = self.placed(cleaned, self.sizes.cond)?;
            let event = Event::Picture(Intermediate::Stage1, Samples::one(0), &cond_img);
            self.events.notify(event)?;
            Ok(cond_img)
        })
    }

    /// The restoration module's input, in `[0, 1]`: the picture, enlarged unless the module upscales, padded by
    /// reflection, and resized to the minimum short edge if that comes first.
    fn cleaner_input(&self, lq: Lq<'_>) -> Result<Canvas> {
        let enlarges_first = self.pipeline.cleaner.scale == 1;
        let sizes = &self.sizes;
        let ((top, left), (height, width)) = (sizes.origin, sizes.part);
        let part = s![top..top + height, left..left + width, ..];
        let enlarged = match lq.pixels {
            Pixels::U8(rgb) if enlarges_first => {
                let (rgb, checkpoint) = (rgb.slice(part), || self.events.checkpoint());
                let enlarged = resize::stoppable_pillow_bicubic(rgb, sizes.output, &checkpoint)?;
                self.unit(enlarged.view(), 255.0)?
            }
            Pixels::U8(rgb) => self.unit(rgb.slice(part), 255.0)?,
            Pixels::U16(rgb) if enlarges_first => {
                // The same kernel as Pillow's, which rounds to 8 bits; both clamp.
                let enlarged = self.resized(self.unit(rgb.slice(part), 65535.0)?, sizes.output)?;
                self.picture(sizes.output, |rows| {
                    Ok(enlarged.rows(rows)?.mapv_into(|x| x.clamp(0.0, 1.0)))
                })?
            }
            Pixels::U16(rgb) => self.unit(rgb.slice(part), 65535.0)?,
        };
        let input = self.placed(enlarged, sizes.input)?;
        self.resized(input, sizes.network)
    }

    /// The picture of integers of at most `largest`, in `[0, 1]`.
    fn unit<T: Copy + Into<f32>>(&self, rgb: ArrayView3<'_, T>, largest: f32) -> Result<Canvas> {
        let (height, width, _) = rgb.dim();
        self.picture((height, width), |rows| {
            let shape = (1, 3, rows.len(), width);
            Ok(Image::from_shape_fn(shape, |(_, c, y, x)| {
                rgb[[rows.start + y, x, c]].into() / largest
            }))
        })
    }

    fn run_cleaner(
        &self,
        net: &mut dyn Network,
        lq: Canvas,
        timer: &Timer<'_, '_>,
    ) -> Result<Canvas> {
        let (spec, padding) = (self.pipeline.cleaner, self.pipeline.padding());
        let on_tile = |k, count| timer.tile(k, count);
        let (height, width) = lq.size();
        let exact = |net: &mut dyn Network, tile, halo| {
            let mut cleaned = self.empty_picture((height * spec.scale, width * spec.scale))?;
            cleaner::clean_exact(
                net,
                spec,
                (&lq, padding),
                (tile, halo),
                &mut cleaned,
                &on_tile,
            )?;
            Ok(cleaned)
        };
        match self.plan.cleaner {
            CleanerPlan::Tiles(tiles) => {
                let lq = lq.into_array()?;
                cleaner::clean_tiled(net, spec, &lq, tiles, &on_tile).map(Canvas::from)
            }
            CleanerPlan::Exact { tile, halo } => exact(net, tile, halo),
            CleanerPlan::Whole { halo } => match cleaner::clean(net, spec, &lq, padding) {
                Err(e) if e.kind() == ErrorKind::Resources => match halo {
                    Some(halo) => exact(net, height.max(width).div_ceil(2), halo),
                    None => Err(e),
                },
                cleaned => cleaned.map(Canvas::from),
            },
        }
    }
}
