//! Stage 1: sizes, the picture the cleaner sees, and the picture that conditions stage 2.

use ndarray::{Array3, Array4, ArrayView3};

use super::plan::{CleanerPlan, Work};
use crate::canvas::Canvas;
use crate::error::{ErrorKind, Result};
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

/// What the cleaner is given, in `[0, 1]`: `lq` `[H, W, 3]`, enlarged by Pillow's bicubic filter where the cleaner does
/// not enlarge, padded, and brought to the short edge where that comes first.
pub(super) fn prepare(
    lq: ArrayView3<'_, u8>,
    sizes: &Sizes,
    scale: usize,
    work: &Work<'_>,
) -> Result<Canvas> {
    let (height, width) = sizes.output;
    let enlarged: Array3<u8> = match scale {
        1 => resize::pillow_bicubic(lq, height, width),
        _ => lq.to_owned(),
    };
    let mut input = work.picture(sizes.input)?;
    for rows in work.bands(sizes.input) {
        let size = (1, 3, rows.len(), sizes.input.1);
        let (h, w, _) = enlarged.dim();
        let part = Image::from_shape_fn(size, |(_, c, y, x)| {
            f32::from(enlarged[[reflect(rows.start + y, h), reflect(x, w), c]]) / 255.0
        });
        input.put(rows.start, 0, part.view())?;
    }
    drop(enlarged);
    resized(input, sizes.network, work)
}

/// The cleaned picture, nominally in `[0, 1]` and not clamped, of [`Sizes::cond`].
pub(super) fn clean(
    net: Option<&mut dyn Network>,
    spec: CleanerSpec,
    lq: Canvas,
    sizes: &Sizes,
    work: &Work<'_>,
    on_tile: &OnTile<'_>,
) -> Result<Canvas> {
    let cleaned = match net {
        Some(net) => run(net, spec, lq, work, on_tile)?,
        None => lq,
    };
    let cleaned = resized(cleaned, sizes.cond, work)?;
    work.placed(cleaned, sizes.cond)
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
