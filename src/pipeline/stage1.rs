//! Stage 1: sizes, the picture the cleaner sees, and the picture that conditions stage 2.

use ndarray::Array4;

use crate::error::Result;
use crate::nets::Network;
use crate::nets::cleaner::{CleanerSpec, clean as run_whole, clean_tiled};
use crate::resize;
use crate::tensor::{Image, pad_reflect, size};
use crate::tiling::{OnTile, Tiles};

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
    /// Of the result.
    pub output: (usize, usize),
    /// Of the result with the padding that keeps its aspect ratio within [`MAX_ASPECT`].
    pub padded_output: (usize, usize),
}

/// The picture the cleaner starts from, in `[0, 1]`, and the sizes that follow from it.
///
/// A cleaner that keeps the size is given the picture enlarged by Pillow's bicubic filter; one that enlarges by
/// itself (BSRNet) is given the picture as it is.
pub(super) fn prepare(lq: &Array4<u8>, upscale: f64, spec: CleanerSpec) -> (Image, Sizes) {
    let (_, h, w, _) = lq.dim();
    let output = resize::upscaled_size(h, w, upscale);
    let image = if spec.scale == 1 {
        to_unit(&enlarge(lq, output))
    } else {
        to_unit(lq)
    };
    let (height, width) = within_aspect(size(&image));
    let padded = if (height, width) == size(&image) {
        image
    } else {
        pad_reflect(&image, height, width)
    };
    let padded_output = if spec.scale == 1 {
        (height, width)
    } else {
        resize::upscaled_size(height, width, upscale)
    };
    (
        padded,
        Sizes {
            output,
            padded_output,
        },
    )
}

/// Runs the cleaner, if any, and brings its result to at least `min_short_edge`.
///
/// Source: `SwinIRPipeline`, `BSRNetPipeline` and `SCUNetPipeline`, diffbir/pipeline.py at 3f8b530: SwinIR enlarges
/// before the network, the others, and SwinIR in tiles, after it.
pub(super) fn clean(
    net: Option<&mut dyn Network>,
    spec: CleanerSpec,
    lq: Image,
    sizes: &Sizes,
    min_short_edge: usize,
    (tiles, on_tile): (Option<Tiles>, &OnTile<'_>),
) -> Result<Image> {
    let to_short_edge = |image: Image| {
        let (h, w) = size(&image);
        if h.min(w) >= min_short_edge {
            image
        } else {
            resize::resize_short_edge_to(&image, min_short_edge)
        }
    };
    let Some(net) = net else {
        return Ok(to_short_edge(lq));
    };
    let cleaned = match tiles.filter(|tiles| tiles.fit(size(&lq))) {
        Some(tiles) => clean_tiled(net, spec, &lq, tiles, on_tile)?,
        None if spec.enlarge_first => return run_whole(net, spec, &to_short_edge(lq)),
        None => run_whole(net, spec, &lq)?,
    };
    let (height, width) = sizes.padded_output;
    if spec.scale > 1 && height.min(width) >= min_short_edge {
        return Ok(resize::torch_bicubic(&cleaned, height, width));
    }
    Ok(to_short_edge(cleaned))
}

fn enlarge(lq: &Array4<u8>, (height, width): (usize, usize)) -> Array4<u8> {
    let mut enlarged = Array4::zeros((lq.dim().0, height, width, 3));
    for (picture, mut target) in lq.outer_iter().zip(enlarged.outer_iter_mut()) {
        target.assign(&resize::pillow_bicubic(picture, height, width));
    }
    enlarged
}

/// `[N, H, W, 3]` in `0..=255` to `[N, 3, H, W]` in `[0, 1]`.
fn to_unit(pictures: &Array4<u8>) -> Image {
    let planar = pictures.view().permuted_axes([0, 3, 1, 2]);
    Image::from_shape_fn(planar.dim(), |at| f32::from(planar[at]) / 255.0)
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
