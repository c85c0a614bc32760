//! Stage 1: from the low-quality picture to the picture that conditions stage 2.

use std::ops::Range;

use ndarray::s;

use super::event::Timer;
use super::run::Run;
use super::{CleanerPlan, Event, Intermediate, Lq, Samples, Stage};
use crate::canvas::Canvas;
use crate::error::{Error, ErrorKind, Result};
use crate::imageio::Pixels;
use crate::nets::Network;
use crate::nets::cleaner::{self, CleanerSpec};
use crate::resize;
use crate::tensor::{Image, reflect};

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
                if !matches!(self.plan.cleaner, CleanerPlan::Bands(_)) {
                    self.networks.with(graph, |_| Ok(()))?;
                }
                if let Some(stage2) = &self.pipeline.stage2 {
                    self.prepare(&[&stage2.graphs.encoder.name])?;
                }
            }
            timer.loaded()?;
            let input = self.cleaner_input(lq)?;
            let cleaned = match (graph, self.plan.cleaner, &self.pipeline.module) {
                (_, CleanerPlan::Bands(strips), Some(module)) => {
                    let read = |rows| input.rows(rows);
                    self.run_strips(module, strips, (input.size(), &read), timer)?
                }
                (Some(graph), ..) => self
                    .networks
                    .with(graph, |net| self.run_cleaner(net, input, timer))?,
                (None, ..) => input,
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
        let input = match lq.pixels {
            Pixels::U8(rgb) => {
                let rgb = rgb.slice(part);
                let enlarged = match enlarges_first {
                    true => {
                        let checkpoint = || self.events.checkpoint();
                        resize::stoppable_pillow_bicubic(rgb, sizes.output, &checkpoint)?
                    }
                    false => rgb.to_owned(),
                };
                let (h, w, _) = enlarged.dim();
                self.filled(sizes.input, (h, w), |y, x, c| {
                    f32::from(enlarged[[y, x, c]]) / 255.0
                })?
            }
            Pixels::U16(rgb) => {
                let rgb = rgb.slice(part);
                let (h, w, _) = rgb.dim();
                let plain = self.filled((h, w), (h, w), |y, x, c| {
                    f32::from(rgb[[y, x, c]]) / 65535.0
                })?;
                let size = if enlarges_first { sizes.output } else { (h, w) };
                // The same kernel as Pillow's, which rounds to 8 bits; both clamp.
                let enlarged = self.resized(plain, size)?;
                self.picture(sizes.input, |rows| {
                    let part = reflected(&enlarged, rows, 0..sizes.input.1)?;
                    Ok(part.mapv_into(|x| x.clamp(0.0, 1.0)))
                })?
            }
        };
        self.resized(input, sizes.network)
    }

    /// A picture of `size`: `value(row, column, channel)` inside of (h, w), its reflection outside.
    fn filled(
        &self,
        size: (usize, usize),
        (h, w): (usize, usize),
        value: impl Fn(usize, usize, usize) -> f32,
    ) -> Result<Canvas> {
        self.picture(size, |rows| {
            let shape = (1, 3, rows.len(), size.1);
            Ok(Image::from_shape_fn(shape, |(_, c, y, x)| {
                value(reflect(rows.start + y, h), reflect(x, w), c)
            }))
        })
    }

    fn run_cleaner(
        &self,
        net: &mut dyn Network,
        lq: Canvas,
        timer: &Timer<'_, '_>,
    ) -> Result<Canvas> {
        let spec = self.pipeline.cleaner;
        let on_tile = |k, count| timer.tile(k, count);
        let (height, width) = lq.size();
        let exact = |net: &mut dyn Network, tile, halo| {
            let mut cleaned = self.empty_picture((height * spec.scale, width * spec.scale))?;
            cleaner::clean_exact(net, spec, &lq, (tile, halo), &mut cleaned, &on_tile)?;
            Ok(cleaned)
        };
        match self.plan.cleaner {
            CleanerPlan::Tiles(tiles) => {
                let lq = lq.into_array()?;
                cleaner::clean_tiled(net, spec, &lq, tiles, &on_tile).map(Canvas::from)
            }
            CleanerPlan::Exact { tile, halo } => exact(net, tile, halo),
            CleanerPlan::Bands(_) => Err(Error::internal("strips run without the whole graph")),
            CleanerPlan::Whole { halo } => match cleaner::clean(net, spec, &lq) {
                Err(e) if e.kind() == ErrorKind::Resources => match halo {
                    Some(halo) => exact(net, height.max(width).div_ceil(2), halo),
                    None => Err(e),
                },
                cleaned => cleaned.map(Canvas::from),
            },
        }
    }
}

/// A window of `picture`, with reflection padding.
fn reflected(picture: &Canvas, rows: Range<usize>, columns: Range<usize>) -> Result<Image> {
    let (h, w) = picture.size();
    if rows.end <= h && columns.end <= w {
        return picture.window(rows, columns);
    }
    // Only pictures of extreme aspect ratio are padded, and their short edge is small.
    let whole = picture.to_array()?;
    let shape = (1, 3, rows.len(), columns.len());
    Ok(Image::from_shape_fn(shape, |(_, c, y, x)| {
        let (y, x) = (reflect(rows.start + y, h), reflect(columns.start + x, w));
        whole[[0, c, y, x]]
    }))
}
