//! Arrays in NCHW layout: types, padding, cropping, checks.

use std::fmt::Display;
use std::ops::Range;

use ndarray::{Array, Array4, ArrayView4, Axis, Dimension, s};

use crate::error::{Error, Result};

/// Pictures, `[N, 3, H, W]`, RGB. Each use states the range: `[0, 1]` or, at the VAE, `[-1, 1]`.
pub type Image = Array4<f32>;

/// Latents, `[N, 4, H/8, W/8]`, already multiplied by the latent scale factor (0.18215).
pub type Latent = Array4<f32>;

/// Height and width of an NCHW array.
pub fn size(x: &Array4<f32>) -> (usize, usize) {
    let (_, _, h, w) = x.dim();
    (h, w)
}

/// All four sizes of an NCHW array.
pub fn shape(x: &Array4<f32>) -> [usize; 4] {
    let (n, c, h, w) = x.dim();
    [n, c, h, w]
}

/// `length` rounded up to a multiple of `multiple` (at least 1).
pub fn round_up(length: usize, multiple: usize) -> usize {
    length.div_ceil(multiple) * multiple
}

/// What an array is continued with beyond its right and bottom edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// Zeros.
    Zeros,
    /// The array mirrored at its last row and column, which are not repeated; mirrored again further out.
    Reflect,
}

impl Padding {
    /// The index in `0..length` of the value at each position of `range`; `None`: zero.
    pub fn sources(self, range: Range<usize>, length: usize) -> Vec<Option<usize>> {
        let source = |i: usize| match self {
            _ if i < length => Some(i),
            Padding::Zeros => None,
            Padding::Reflect => Some(reflect(i, length)),
        };
        range.map(source).collect()
    }
}

/// Rows and columns of `x` by their [sources](Padding::sources).
pub fn gather(x: &Array4<f32>, rows: &[Option<usize>], columns: &[Option<usize>]) -> Array4<f32> {
    let (n, c, _, _) = x.dim();
    let shape = (n, c, rows.len(), columns.len());
    Array4::from_shape_fn(shape, |(n, c, y, k)| match (rows[y], columns[k]) {
        (Some(y), Some(k)) => x[[n, c, y, k]],
        _ => 0.0,
    })
}

/// Pads right and bottom to `height` x `width`.
///
/// Source for zeros: `pad_to_multiples_of`, diffbir/pipeline.py at 3f8b530.
pub fn pad_to(x: &Array4<f32>, (height, width): (usize, usize), padding: Padding) -> Array4<f32> {
    let (h, w) = size(x);
    let (rows, columns) = (padding.sources(0..height, h), padding.sources(0..width, w));
    gather(x, &rows, &columns)
}

/// The index in `0..length` of position `i` under reflection at both ends, without repeating the end values; repeated
/// reflection for positions further out.
fn reflect(i: usize, length: usize) -> usize {
    if length == 1 {
        return 0;
    }
    let period = 2 * (length - 1);
    let i = i % period;
    if i < length { i } else { period - i }
}

/// The top left `height` x `width` of `x`.
pub fn crop(x: &Array4<f32>, height: usize, width: usize) -> Array4<f32> {
    x.slice(s![.., .., ..height, ..width]).to_owned()
}

/// `[N, 3, H, W]` to `[N, H, W, 3]`, in row-major order.
pub fn to_hwc<T: Copy>(planar: Array4<T>) -> Array4<T> {
    planar
        .permuted_axes([0, 2, 3, 1])
        .as_standard_layout()
        .into_owned()
}

/// Checks that all values of `x`, which errors call `what`, are finite.
///
/// # Errors
/// [`NotFinite`](crate::error::ErrorKind::NotFinite) if one is NaN or infinite.
pub fn expect_finite<W: Display, D: Dimension>(
    what: impl Fn() -> W,
    x: &Array<f32, D>,
) -> Result<()> {
    let is_finite = match x.as_slice_memory_order() {
        Some(values) => values.iter().all(|value| value.is_finite()),
        None => x.iter().all(|value| value.is_finite()),
    };
    if is_finite {
        return Ok(());
    }
    Err(Error::not_finite(what()))
}

/// Concatenates arrays along the batch axis.
///
/// # Errors
/// [`Internal`](crate::error::ErrorKind::Internal) if there are none or their shapes differ.
pub fn stack_batch(parts: &[ArrayView4<'_, f32>]) -> Result<Array4<f32>> {
    ndarray::concatenate(Axis(0), parts)
        .map_err(|e| Error::internal("arrays of one batch differ in shape").with_source(e))
}

/// The values of a safetensors tensor of 32- or 16-bit floats, in row-major order.
///
/// # Errors
/// [`Bundle`](crate::error::ErrorKind::Bundle) if it has another type.
pub fn f32_from_safetensor(view: &safetensors::tensor::TensorView<'_>) -> Result<Vec<f32>> {
    let data = view.data();
    match view.dtype() {
        safetensors::Dtype::F32 => Ok(data
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect()),
        safetensors::Dtype::F16 => Ok(data
            .chunks_exact(2)
            .map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect()),
        other => Err(Error::bundle(format!(
            "a tensor of type {other:?}, expected F32 or F16"
        ))),
    }
}

/// The text under `key` in the metadata of a safetensors file.
///
/// # Errors
/// Why the text cannot be read.
pub fn safetensors_text(bytes: &[u8], key: &str) -> std::result::Result<String, String> {
    let (_, header) = safetensors::SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
    let text = header.metadata().as_ref().and_then(|data| data.get(key));
    text.cloned().ok_or_else(|| format!("no {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cropping_undoes_padding(h in 1..30_usize, w in 1..30_usize, more in 0..70_usize) {
            let x = Array4::from_shape_fn((2, 3, h, w), |(n, c, y, x)| (n * 7 + c * 5 + y * w + x) as f32);
            for padding in [Padding::Zeros, Padding::Reflect] {
                let padded = pad_to(&x, (h + more, w + more), padding);
                prop_assert_eq!(size(&padded), (h + more, w + more));
                prop_assert_eq!(crop(&padded, h, w), &x);
                let beyond = padded[[1, 2, h + more - 1, w + more - 1]];
                prop_assert!(more == 0 || (beyond == 0.0) == (padding == Padding::Zeros));
            }
        }
    }

    #[test]
    fn each_padding_continues_a_row() {
        let x = Array4::from_shape_fn((1, 1, 1, 3), |(_, _, _, x)| x as f32 + 1.0);
        for (padding, row) in [
            (Padding::Zeros, [1.0, 2.0, 3.0, 0.0, 0.0]),
            (Padding::Reflect, [1.0, 2.0, 3.0, 2.0, 1.0]),
        ] {
            assert_eq!(pad_to(&x, (1, 5), padding).into_raw_vec_and_offset().0, row);
        }
    }

    #[test]
    fn reflection_goes_back_and_forth() {
        let shown: Vec<usize> = (0..8).map(|i| reflect(i, 3)).collect();
        assert_eq!(shown, [0, 1, 2, 1, 0, 1, 2, 1]);
        assert_eq!(reflect(5, 1), 0);
    }
}
