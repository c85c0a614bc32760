//! Records intermediate results, for comparison with other programs.

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::Array4;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::error::{Error, Result};
use crate::imageio::{self, Pixels};
use crate::pipeline::{Event, Intermediate};

/// Intermediate results by their names.
#[derive(Default)]
pub(super) struct Tensors(BTreeMap<&'static str, Array4<f32>>);

impl Tensors {
    /// Keeps the tensor or picture in `event`, for the first sample.
    pub(super) fn see(&mut self, event: &Event<'_>) -> Result<()> {
        let (what, array) = match event {
            Event::Tensor(what, samples, tensor) if samples.first == 0 => {
                (what, (*tensor).to_owned())
            }
            Event::Picture(what, samples, picture) if samples.first == 0 => {
                (what, picture.to_array()?)
            }
            _ => return Ok(()),
        };
        let name = match what {
            Intermediate::Stage1 => "stage1",
            Intermediate::CImg => "c_img",
            Intermediate::XT => "x_t",
            Intermediate::Z => "z",
            Intermediate::Decoded => "decoded",
            Intermediate::ColorFixed => "color_fixed",
        };
        self.0.insert(name, array);
        Ok(())
    }

    /// Writes them and the picture `lq`, `[H, W, 3]` in 8 bits, to `path`.
    pub(super) fn write(&self, lq: &Pixels, path: &Path) -> Result<()> {
        let failed = |e: &dyn std::fmt::Display| {
            Error::input(format!("{}: cannot be written: {e}", path.display()))
        };
        let lq = lq.to_u8();
        let (height, width, channels) = lq.dim();
        let lq = lq.as_standard_layout();
        let arrays: Vec<(&str, Array4<f32>)> = self
            .0
            .iter()
            .map(|(name, array)| (*name, array.as_standard_layout().into_owned()))
            .collect();
        let pixels = lq.as_slice().unwrap_or_default();
        let shape = vec![height, width, channels];
        let mut views = vec![(
            "lq",
            TensorView::new(Dtype::U8, shape, pixels).map_err(|e| failed(&e))?,
        )];
        for (name, array) in &arrays {
            let bytes = bytemuck::cast_slice(array.as_slice().unwrap_or_default());
            let view = TensorView::new(Dtype::F32, array.shape().to_vec(), bytes);
            views.push((name, view.map_err(|e| failed(&e))?));
        }
        let bytes = safetensors::serialize(views, None).map_err(|e| failed(&e))?;
        imageio::write_atomic(path, &bytes, true)
    }
}
