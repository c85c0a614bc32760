//! Stage 1: the restoration module ("cleaner" in the reference), which removes the degradation and leaves an
//! over-smooth picture.

use ndarray::s;

use crate::canvas::{Canvas, bands};
use crate::error::{ErrorKind, Result};
use crate::nets::{Network, expect_shape, run_image};
use crate::tensor::{Image, Padding, crop, round_up, size};
use crate::tiling::{OnTile, Tiles};

/// Input constraints and scale of a restoration module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanerSpec {
    /// Height and width of the input are multiples of this (SwinIR: 64).
    pub multiple: usize,
    /// Upscaling factor: output height over input height (BSRNet: 4, the others 1).
    pub scale: usize,
    /// Whether a small picture is enlarged to the minimum short edge before the network (SwinIR) or after it.
    pub enlarge_first: bool,
}

/// Restores `lq` `[3, H, W]` in `[0, 1]` to `[1, 3, scale * H, scale * W]`, nominally in `[0, 1]` and not clamped. The
/// input is padded to the graph's multiple and the output cropped.
///
/// # Errors
/// Errors of the network, or a graph that violates its contract.
pub fn clean(
    net: &mut dyn Network,
    spec: CleanerSpec,
    lq: &Canvas,
    padding: Padding,
) -> Result<Image> {
    let (h, w) = lq.size();
    let (ph, pw) = (round_up(h, spec.multiple), round_up(w, spec.multiple));
    let output = run(net, spec, &lq.padded(0..ph, 0..pw, padding)?)?;
    Ok(cropped(output, h * spec.scale, w * spec.scale))
}

/// As [`clean`], in lossless tiles: squares of `tile` pixels, each with `halo` more pixels on every side. The halo
/// covers the graph's receptive field, so the result is that of the whole picture up to rounding. Tiles begin at
/// multiples of [`CleanerSpec::multiple`], which keeps attention windows in place. The result is written to `cleaned`.
///
/// A tile that runs out of memory is halved and retried; completed tiles are kept.
///
/// # Errors
/// As [`clean`].
pub fn clean_exact(
    net: &mut dyn Network,
    spec: CleanerSpec,
    (lq, padding): (&Canvas, Padding),
    (tile, halo): (usize, usize),
    cleaned: &mut Canvas,
    on_tile: &OnTile<'_>,
) -> Result<()> {
    let (h, w) = lq.size();
    let (halo, mut tile) = (round_up(halo, spec.multiple), round_up(tile, spec.multiple));
    let (mut y, mut done) = (0, 0);
    while y < h {
        let rows = y..(y + tile).min(h);
        let columns: Vec<_> = bands(w, tile).collect();
        let count = done + columns.len() * (h - y).div_ceil(tile);
        let row = columns.into_iter().try_for_each(|columns| {
            on_tile(done, count)?;
            done += 1;
            let seen = |range: &std::ops::Range<usize>, length: usize| {
                let end = (range.end + halo).min(round_up(length, spec.multiple));
                range.start.saturating_sub(halo)..end.next_multiple_of(spec.multiple)
            };
            let (seen_rows, seen_columns) = (seen(&rows, h), seen(&columns, w));
            let output = run(
                net,
                spec,
                &lq.padded(seen_rows.clone(), seen_columns.clone(), padding)?,
            )?;
            let inside = |range: &std::ops::Range<usize>, seen: &std::ops::Range<usize>| {
                (range.start - seen.start) * spec.scale..(range.end - seen.start) * spec.scale
            };
            let (inner_rows, inner_columns) =
                (inside(&rows, &seen_rows), inside(&columns, &seen_columns));
            let part = output.slice(s![.., .., inner_rows, inner_columns]);
            cleaned.put(rows.start * spec.scale, columns.start * spec.scale, part)
        });
        match row {
            Ok(()) => y = rows.end,
            Err(e) if e.kind() == ErrorKind::Resources && tile > spec.multiple => {
                tile = round_up(tile / 2, spec.multiple);
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// As [`clean`], in the reference's `tiles` (in input pixels; a multiple of [`CleanerSpec::multiple`]), which fit into `lq`
/// `[N, 3, H, W]`. Results are blended
/// and differ from those of the whole picture.
///
/// # Errors
/// As [`clean`], and [`Option`](ErrorKind::Option) if the tiles do not cover the picture.
pub fn clean_tiled(
    net: &mut dyn Network,
    spec: CleanerSpec,
    lq: &Image,
    tiles: Tiles,
    on_tile: &OnTile<'_>,
) -> Result<Image> {
    tiles.blend(lq, spec.scale, on_tile, |tile, _| run(net, spec, &tile))
}

fn run(net: &mut dyn Network, spec: CleanerSpec, padded: &Image) -> Result<Image> {
    let (n, c, h, w) = padded.dim();
    let output = run_image(net, &[("image", padded.into())], "clean")?;
    let expected = (n, c, h * spec.scale, w * spec.scale);
    expect_shape("the cleaner", &output, expected)?;
    Ok(output)
}

/// Crops without a copy if nothing is cut off.
fn cropped(image: Image, height: usize, width: usize) -> Image {
    match size(&image) == (height, width) {
        true => image,
        false => crop(&image, height, width),
    }
}
