//! Transparency: taken off before the networks see the picture, and put back on the result.

use ndarray::{Array2, Array3, Axis, s};

use super::pixels::Sample;
use crate::resize;

/// How opaque each pixel is, `[H, W]`.
pub type Alpha = Array2<u8>;

/// Gives pixels that nobody sees the colours of the nearest ones that are seen: files hold anything there, mostly
/// black, which the networks would draw into the edges.
pub(super) fn fill_unseen<T: Copy>(rgb: &mut Array3<T>, alpha: &Alpha) {
    let (height, width) = alpha.dim();
    let mut seen = alpha.mapv(|alpha| alpha > 0);
    if !seen.iter().any(|&seen| seen) {
        return;
    }
    let mut edge: Vec<(usize, usize)> = seen
        .indexed_iter()
        .filter_map(|(at, &seen)| seen.then_some(at))
        .collect();
    // Outwards from what is seen, one ring of pixels after another.
    while !edge.is_empty() {
        let mut next = Vec::new();
        for (y, x) in edge {
            let rows = y.saturating_sub(1)..(y + 2).min(height);
            for ny in rows {
                for nx in x.saturating_sub(1)..(x + 2).min(width) {
                    if !std::mem::replace(&mut seen[[ny, nx]], true) {
                        for c in 0..3 {
                            rgb[[ny, nx, c]] = rgb[[y, x, c]];
                        }
                        next.push((ny, nx));
                    }
                }
            }
        }
        edge = next;
    }
}

/// Colours as they were before a file multiplied them with `alpha`, where anything of them is seen.
pub(super) fn divide<T: Sample>(rgb: &mut Array3<T>, alpha: &Alpha) {
    for ((y, x), &alpha) in alpha.indexed_iter() {
        if (1..255).contains(&alpha) {
            let mut color = rgb.slice_mut(s![y, x, ..]);
            color.mapv_inplace(|value| {
                T::try_from((value.into() * 255 + u32::from(alpha) / 2) / u32::from(alpha))
                    .unwrap_or(T::MOST)
            });
        }
    }
}

/// Columns that are resized together: of a whole picture, the floats would take four times what its alpha does.
const COLUMNS: usize = 256;

/// `alpha` in another size, by torch's antialiased bicubic filter.
pub(super) fn resized(alpha: &Alpha, height: usize, width: usize) -> Alpha {
    if alpha.dim() == (height, width) {
        return alpha.clone();
    }
    let image = alpha.mapv(f32::from);
    let image = image.insert_axis(Axis(0)).insert_axis(Axis(0));
    let wide = resize::torch_bicubic(&image, alpha.nrows(), width);
    let mut resized = Alpha::zeros((height, width));
    // Rows first, then columns, is the filter's own order.
    for (mut part, wide) in resized
        .axis_chunks_iter_mut(Axis(1), COLUMNS)
        .zip(wide.axis_chunks_iter(Axis(3), COLUMNS))
    {
        let tall = resize::torch_bicubic(&wide.to_owned(), height, wide.dim().3);
        let values = tall.slice(s![0, 0, .., ..]);
        part.zip_mut_with(&values, |to, x| *to = x.round().clamp(0.0, 255.0) as u8);
    }
    resized
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unseen_pixels_take_the_nearest_colours() {
        let mut rgb = Array3::zeros((5, 9, 3));
        rgb[[2, 1, 0]] = 200;
        rgb[[2, 7, 1]] = 100;
        let mut alpha = Alpha::zeros((5, 9));
        alpha[[2, 1]] = 255;
        alpha[[2, 7]] = 1;
        fill_unseen(&mut rgb, &alpha);
        assert_eq!(rgb[[0, 0, 0]], 200);
        assert_eq!(rgb[[4, 8, 1]], 100);
        assert_eq!(rgb[[2, 3, 1]], 0);
        assert_eq!(rgb[[2, 5, 1]], 100);
    }

    #[test]
    fn a_size_is_reached_and_flat_stays_flat() {
        let flat = resized(&Alpha::from_elem((3, 4), 77), 12, 16);
        assert_eq!(flat.dim(), (12, 16));
        assert!(flat.iter().all(|&x| x == 77));
    }

    #[test]
    fn multiplied_colours_come_back() {
        let alpha = Alpha::from_shape_fn((1, 4), |(_, x)| [0, 100, 200, 255][x]);
        let mut rgb = Array3::from_elem((1, 4, 3), 90_u8);
        divide(&mut rgb, &alpha);
        assert_eq!(rgb.slice(s![0, .., 1]).to_vec(), [90, 230, 115, 90]);
        let mut bright = Array3::from_elem((1, 4, 3), 60_000_u16);
        divide(&mut bright, &alpha);
        assert_eq!(bright[[0, 1, 0]], u16::MAX);
    }

    #[test]
    fn in_parts_is_as_at_once() {
        let alpha = Alpha::from_shape_fn((9, 150), |(y, x)| (x * 97 + y * 31) as u8);
        let image = alpha.mapv(f32::from);
        let image = image.insert_axis(Axis(0)).insert_axis(Axis(0));
        let at_once = resize::torch_bicubic(&image, 31, 600);
        let at_once = at_once.mapv(|x| x.round().clamp(0.0, 255.0) as u8);
        assert_eq!(resized(&alpha, 31, 600), at_once.slice(s![0, 0, .., ..]));
    }
}
