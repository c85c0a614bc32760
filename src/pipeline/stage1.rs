//! Stage 1: sizes, the picture the cleaner sees, and the picture that conditions stage 2.

use std::ops::Range;

use ndarray::Array4;

use super::Lq;
use super::plan::{CleanerPlan, Work};
use crate::canvas::Canvas;
use crate::error::{ErrorKind, Result};
use crate::imageio::Pixels;
use crate::nets::Network;
use crate::nets::cleaner::{self, CleanerSpec};
use crate::resize;
use crate::tensor::{Image, reflect};
use crate::tiling::OnTile;

/// The longest edge over the shortest of what the networks see. A longer strip is padded by reflection: without that,
/// bringing its short edge to 512 pixels would blow up the long one without bound.
pub const MAX_ASPECT: usize = 8;

/// What stands in for a cleaner where there is none.
pub(super) const NO_CLEANER: CleanerSpec = CleanerSpec {
    multiple: 1,
    scale: 1,
    enlarge_first: true,
};

/// The sizes (height, width) on a picture's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Of the picture that stage 1 starts from.
    pub input: (usize, usize),
    /// Of what the cleaner is given.
    pub network: (usize, usize),
    /// Of the cleaned picture, which conditions stage 2.
    pub cond: (usize, usize),
    /// Of the result.
    pub output: (usize, usize),
    /// Of the result with the padding that keeps its aspect ratio within [`MAX_ASPECT`].
    pub padded_output: (usize, usize),
}

impl Sizes {
    /// The sizes of a picture of `lq` pixels.
    ///
    /// A cleaner that keeps the size is given the picture enlarged; one that enlarges by itself (BSRNet) is given the
    /// picture as it is. What is smaller than `min_short_edge` is enlarged to it, before the cleaner or after it: SwinIR
    /// enlarges before, the others, and SwinIR in the reference's tiles, after.
    ///
    /// Source: `SwinIRPipeline`, `BSRNetPipeline` and `SCUNetPipeline`, diffbir/pipeline.py at 3f8b530.
    pub(super) fn of(
        lq: (usize, usize),
        upscale: f64,
        spec: CleanerSpec,
        min_short_edge: usize,
        tiles_fit: impl Fn((usize, usize)) -> bool,
    ) -> Self {
        let output = resize::upscaled_size(lq.0, lq.1, upscale);
        let input = within_aspect(if spec.scale == 1 { output } else { lq });
        let padded_output = match spec.scale {
            1 => input,
            _ => resize::upscaled_size(input.0, input.1, upscale),
        };
        let to_short_edge = |(h, w): (usize, usize)| match h.min(w) >= min_short_edge {
            true => (h, w),
            false => resize::short_edge_size(h, w, min_short_edge),
        };
        let network = match spec.enlarge_first && !tiles_fit(input) {
            true => to_short_edge(input),
            false => input,
        };
        let (height, width) = padded_output;
        let cond = match spec.scale > 1 && height.min(width) >= min_short_edge {
            true => padded_output,
            false => to_short_edge((network.0 * spec.scale, network.1 * spec.scale)),
        };
        Sizes {
            input,
            network,
            cond,
            output,
            padded_output,
        }
    }
}

/// What the cleaner is given, in `[0, 1]`: the picture, enlarged where the cleaner does not enlarge, padded by reflection,
/// and brought to the short edge where that comes first.
pub(super) fn prepare(lq: Lq<'_>, scale: usize, work: &Work<'_>) -> Result<Canvas> {
    let sizes = &work.sizes;
    let mut input = work.picture(sizes.input)?;
    match lq.pixels {
        Pixels::U8(rgb) => {
            let enlarged = match scale {
                1 => resize::pillow_bicubic(rgb.view(), sizes.output.0, sizes.output.1),
                _ => rgb.to_owned(),
            };
            let (h, w, _) = enlarged.dim();
            fill(&mut input, (h, w), work, |y, x, c| {
                f32::from(enlarged[[y, x, c]]) / 255.0
            })?;
        }
        Pixels::U16(rgb) => {
            let (h, w, _) = rgb.dim();
            let mut plain = work.picture((h, w))?;
            fill(&mut plain, (h, w), work, |y, x, c| {
                f32::from(rgb[[y, x, c]]) / 65535.0
            })?;
            let size = if scale == 1 { sizes.output } else { (h, w) };
            // The same kernel as Pillow's, which rounds to 8 bits; both clamp.
            let enlarged = resized(plain, size, work)?;
            for rows in work.bands(sizes.input) {
                let columns = 0..sizes.input.1;
                let part = reflected(&enlarged, rows.clone(), columns)?;
                input.put(rows.start, 0, part.mapv_into(|x| x.clamp(0.0, 1.0)).view())?;
            }
        }
    }
    resized(input, sizes.network, work)
}

/// Fills `picture` with `value` of (row, column, channel) within a picture of size (h, w), reflected beyond it.
fn fill(
    picture: &mut Canvas,
    (h, w): (usize, usize),
    work: &Work<'_>,
    value: impl Fn(usize, usize, usize) -> f32,
) -> Result<()> {
    let (_, width) = picture.size();
    for rows in work.bands(picture.size()) {
        let part = Image::from_shape_fn((1, 3, rows.len(), width), |(_, c, y, x)| {
            value(reflect(rows.start + y, h), reflect(x, w), c)
        });
        picture.put(rows.start, 0, part.view())?;
    }
    Ok(())
}

/// A window of `picture`, reflected beyond it.
fn reflected(picture: &Canvas, rows: Range<usize>, columns: Range<usize>) -> Result<Image> {
    let (h, w) = picture.size();
    if rows.end <= h && columns.end <= w {
        return picture.window(rows, columns);
    }
    // Only strips are padded, and those are small in one direction.
    let whole = picture.to_array()?;
    Ok(Image::from_shape_fn(
        (1, 3, rows.len(), columns.len()),
        |(_, c, y, x)| {
            whole[[
                0,
                c,
                reflect(rows.start + y, h),
                reflect(columns.start + x, w),
            ]]
        },
    ))
}

/// The cleaned picture, nominally in `[0, 1]` and not clamped, of [`Sizes::cond`].
pub(super) fn clean(
    net: Option<&mut dyn Network>,
    spec: CleanerSpec,
    lq: Canvas,
    work: &Work<'_>,
    on_tile: &OnTile<'_>,
) -> Result<Canvas> {
    let cleaned = match net {
        Some(net) => run(net, spec, lq, work, on_tile)?,
        None => lq,
    };
    let cleaned = resized(cleaned, work.sizes.cond, work)?;
    work.placed(cleaned, work.sizes.cond)
}

fn run(
    net: &mut dyn Network,
    spec: CleanerSpec,
    lq: Canvas,
    work: &Work<'_>,
    on_tile: &OnTile<'_>,
) -> Result<Canvas> {
    let (height, width) = lq.size();
    let exact = |net: &mut dyn Network, tile, halo| {
        let mut cleaned = work.picture((height * spec.scale, width * spec.scale))?;
        cleaner::clean_exact(net, spec, &lq, (tile, halo), &mut cleaned, on_tile)?;
        Ok(cleaned)
    };
    match work.plan.cleaner {
        CleanerPlan::Tiles(tiles) => {
            let lq = lq.into_array()?;
            cleaner::clean_tiled(net, spec, &lq, tiles, on_tile).map(Canvas::from)
        }
        CleanerPlan::Exact { tile, halo } => exact(net, tile, halo),
        CleanerPlan::Whole { halo } => match cleaner::clean(net, spec, &lq) {
            Err(e) if e.kind() == ErrorKind::Resources => match halo {
                Some(halo) => exact(net, height.max(width).div_ceil(2), halo),
                None => Err(e),
            },
            cleaned => cleaned.map(Canvas::from),
        },
    }
}

/// `picture` in another size by torch's bicubic filter; itself where it has that size.
pub(super) fn resized(picture: Canvas, size: (usize, usize), work: &Work<'_>) -> Result<Canvas> {
    if picture.size() == size {
        return Ok(picture);
    }
    let mut out = work.picture(size)?;
    for rows in work.bands(size) {
        let part: Array4<f32> = resize::torch_bicubic_rows(&picture, size, rows.clone())?;
        out.put(rows.start, 0, part.view())?;
    }
    Ok(out)
}

/// The smallest size that holds `(height, width)` with an aspect ratio of at most [`MAX_ASPECT`].
fn within_aspect((height, width): (usize, usize)) -> (usize, usize) {
    (
        height.max(width.div_ceil(MAX_ASPECT)),
        width.max(height.div_ceil(MAX_ASPECT)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_are_padded_to_the_aspect_bound() {
        assert_eq!(within_aspect((1, 4000)), (500, 4000));
        assert_eq!(within_aspect((17, 2)), (17, 3));
        assert_eq!(within_aspect((100, 800)), (100, 800));
    }
}
