//! Strip-streamed VAE: a graph runs over a whole picture in horizontal strips, losslessly.
//!
//! Group normalisation needs mean and variance of the whole picture, so a VAE that runs on plain tiles gives a
//! different result on each. Instead, the graph is cut at its normalisations into segments. Each segment runs over all
//! strips before the next one begins; the statistics of its output are accumulated meanwhile and are inputs of the
//! next segment. Strips overlap by a halo that covers the convolutions' receptive field. The result equals the whole
//! graph's up to rounding. The price is storage for the activations between two segments, in memory or on disk.

mod plan;
mod statistics;

use std::collections::BTreeMap;
use std::ops::Range;

use ndarray::{Array4, Ix4, s};
use serde::Serialize;

use crate::canvas::{Canvas, Place, ReadRows, Store, bands};
use crate::error::{Error, ErrorKind, Result};
use crate::memory::MAX_COUNTED;
use crate::nets::{Input, Networks};
use crate::tensor::expect_finite;
use crate::tiling::OnTile;

pub use plan::{CanvasSpec, Norm, SegmentPlan, Step};
use statistics::Sums;

/// Up to this many latent pixels, those of a picture of 2048x2048, attention in the middle block is complete. Its time
/// grows with the fourth power of the edge, so above the limit keys and values are subsampled evenly to a quarter of
/// this number; time then grows linearly with the number of pixels.
pub const MOST_KEYS: usize = 1 << 16;

/// Height of the strips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BandHeight {
    /// As high as this many bytes allow for a segment's working memory.
    Memory(u64),
    /// This many rows of the graph's input.
    Rows(usize),
}

/// A graph and how it runs in strips.
#[derive(Clone, Copy)]
pub struct Bands<'a> {
    /// The segments.
    pub plan: &'a SegmentPlan,
    /// The graph's name in the bundle.
    pub graph: &'a str,
    /// Height of the strips.
    pub height: BandHeight,
    /// Where activations are stored.
    pub place: Place,
    /// Creates the files of activations on disk.
    pub store: &'a Store,
    /// Maximum number of latent pixels with complete attention: [`MOST_KEYS`], except in tests.
    pub most_keys: usize,
}

/// Working memory of a strip in bytes per value of input and output: the strip itself, its values after the affine
/// map, the sigmoid, their product, and the convolution's copies. Measured with `diffbir bench`.
pub const BYTES_PER_VALUE: u64 = 32;

impl Bands<'_> {
    /// Runs the graph on an input of `size`; `read` returns rows of it. `on_tile` is called before each strip.
    ///
    /// A strip that runs out of memory is halved and retried; completed strips are kept.
    ///
    /// # Errors
    /// Errors of the networks and `on_tile`; [`Resources`](ErrorKind::Resources) if one row does not fit or a scratch
    /// file fails.
    pub fn run(
        &self,
        networks: &mut dyn Networks,
        size: (usize, usize),
        read: &ReadRows<'_>,
        on_tile: &OnTile<'_>,
    ) -> Result<Canvas> {
        let mut canvases = Canvases {
            bands: self,
            size,
            read,
            made: BTreeMap::new(),
            sums: BTreeMap::new(),
        };
        let count: usize = self
            .plan
            .steps
            .iter()
            .map(|step| self.count(step, size))
            .sum();
        let mut done = 0;
        for (k, step) in self.plan.steps.iter().enumerate() {
            let mut begins = |_| {
                done += 1;
                on_tile(done - 1, count.max(done))
            };
            canvases.step(step, networks, &mut begins)?;
            for name in self.plan.done_after(k) {
                canvases.made.remove(name);
                canvases.sums.remove(name);
            }
        }
        let output = canvases.made.remove(&self.plan.output);
        output.ok_or_else(|| Error::internal("the segments made no output"))
    }

    /// Height of a step's strips in rows, a multiple of the step's downscaling factor.
    fn rows(&self, step: &Step, size: (usize, usize)) -> usize {
        let (_, down) = self.plan.step_ratio(step);
        let rows = match self.height {
            BandHeight::Rows(rows) => {
                let (up, by) = self.plan.canvases[&step.bands[0]].scale;
                rows * up / by
            }
            BandHeight::Memory(bytes) => {
                let left = bytes.saturating_sub(whole_bytes(self.plan, step, size, self.most_keys));
                let rows =
                    (left / row_bytes(self.plan, step, size, self.most_keys).max(1)) as usize;
                rows.saturating_sub(2 * step.halo)
            }
        };
        (rows / down * down).max(down)
    }

    /// Working memory of the smallest strips, maximum over all steps; `most_keys` as in [`Bands`].
    pub fn least_bytes(plan: &SegmentPlan, size: (usize, usize), most_keys: usize) -> u64 {
        let bytes = |step: &Step| {
            let (_, down) = plan.step_ratio(step);
            let rows = (down + 2 * step.halo) as u64;
            let rows = row_bytes(plan, step, size, most_keys).saturating_mul(rows);
            (whole_bytes(plan, step, size, most_keys) + rows.min(MAX_COUNTED)).min(MAX_COUNTED)
        };
        plan.steps.iter().map(bytes).max().unwrap_or(0)
    }

    /// Number of strips of a step.
    fn count(&self, step: &Step, size: (usize, usize)) -> usize {
        let (height, _) = self.plan.size(&step.bands[0], size);
        height.div_ceil(self.rows(step, size))
    }
}

/// Working memory of one row of a step's strips in bytes.
fn row_bytes(plan: &SegmentPlan, step: &Step, size: (usize, usize), most_keys: usize) -> u64 {
    let (height, width) = plan.size(&step.bands[0], size);
    let (up, down) = plan.step_ratio(step);
    let channels =
        |names: &[String]| -> usize { names.iter().map(|name| plan.canvases[name].channels).sum() };
    let inside = channels(&step.bands) + step.inner;
    let values = inside * width + channels(&step.outputs) * width * up * up / (down * down);
    let keys = match step.whole.is_empty() {
        true => 0,
        false => keys(height * width, most_keys),
    };
    // Attention logits, their softmax, and a copy.
    values as u64 * BYTES_PER_VALUE + (width * keys * 12) as u64
}

/// Number of keys for attention over `cells` latent pixels.
fn keys(cells: usize, most: usize) -> usize {
    if cells <= most { cells } else { most / 4 }
}

/// Bytes of a step's whole inputs and of the graph's own copy of them.
fn whole_bytes(plan: &SegmentPlan, step: &Step, size: (usize, usize), most_keys: usize) -> u64 {
    let bytes = |name: &String| {
        let (height, width) = plan.size(name, size);
        8 * (plan.canvases[name].channels * keys(height * width, most_keys)) as u64
    };
    step.whole.iter().map(bytes).sum()
}

/// The canvases of a run, by name.
struct Canvases<'a> {
    bands: &'a Bands<'a>,
    size: (usize, usize),
    read: &'a ReadRows<'a>,
    made: BTreeMap<String, Canvas>,
    sums: BTreeMap<String, Sums>,
}

impl Canvases<'_> {
    /// Runs one segment over all strips.
    fn step(
        &mut self,
        step: &Step,
        networks: &mut dyn Networks,
        begins: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let plan = self.bands.plan;
        for name in &step.outputs {
            let channels = plan.canvases[name].channels;
            let store = self.bands.store;
            let canvas = store.canvas(self.bands.place, channels, plan.size(name, self.size))?;
            self.made.insert(name.clone(), canvas);
            if plan.norm_of(name).is_some() {
                self.sums.insert(name.clone(), Sums::new(channels));
            }
        }
        let constant = self.constant_inputs(step)?;
        let (height, _) = plan.size(&step.bands[0], self.size);
        let (_, down) = plan.step_ratio(step);
        let (mut start, mut rows) = (0, self.bands.rows(step, self.size));
        while start < height {
            begins(start)?;
            let core = start..(start + rows).min(height);
            match self.band(step, core.clone(), &constant, networks) {
                Ok(()) => start = core.end,
                Err(e) if e.kind() == ErrorKind::Resources && core.len() > down => {
                    rows = (core.len() / 2 / down * down).max(down);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Inputs that are the same for all strips: statistics, keys and values.
    fn constant_inputs(&self, step: &Step) -> Result<Vec<(String, Array4<f32>)>> {
        let mut inputs = Vec::new();
        if let Some(norm) = &step.norm {
            let sums = self.sums.get(&norm.canvas);
            let sums =
                sums.ok_or_else(|| Error::bundle("a segment normalises the graph's input"))?;
            let (mean, rstd) = sums.normalisation(norm);
            inputs.push(("mean".to_owned(), mean));
            inputs.push(("rstd".to_owned(), rstd));
        }
        for (i, name) in step.whole.iter().enumerate() {
            let canvas = self.canvas(name)?;
            inputs.push((format!("whole_{i}"), thinned(canvas, self.bands.most_keys)?));
        }
        Ok(inputs)
    }

    /// Runs a segment on rows `core` of its inputs and writes the outputs to their canvases.
    fn band(
        &mut self,
        step: &Step,
        core: Range<usize>,
        constant: &[(String, Array4<f32>)],
        networks: &mut dyn Networks,
    ) -> Result<()> {
        let plan = self.bands.plan;
        let (height, width) = plan.size(&step.bands[0], self.size);
        let seen = core.start.saturating_sub(step.halo)..(core.end + step.halo).min(height);
        let bands = step.bands.iter().enumerate();
        let bands =
            bands.map(|(i, name)| Ok((format!("band_{i}"), self.rows(name, seen.clone())?)));
        let bands: Vec<(String, Array4<f32>)> = bands.collect::<Result<_>>()?;
        let inputs: Vec<(&str, Input<'_>)> = bands
            .iter()
            .chain(constant)
            .map(|(name, array)| (name.as_str(), array.into()))
            .collect();
        let names: Vec<String> = (0..step.outputs.len())
            .map(|i| format!("out_{i}"))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let outputs = networks
            .segment(self.bands.graph, &step.graph)?
            .run(&inputs, &names)?;
        drop(inputs);
        drop(bands);
        let (up, down) = plan.step_ratio(step);
        let skip = (core.start - seen.start) * up / down;
        let (start, rows) = (core.start * up / down, core.len() * up / down);
        for (name, output) in step.outputs.iter().zip(outputs) {
            let expected = [
                1,
                plan.canvases[name].channels,
                seen.len() * up / down,
                width * up / down,
            ];
            if output.shape() != expected {
                return Err(Error::bundle(format!(
                    "segment {} of `{}` returned shape {:?}, expected {expected:?}",
                    step.graph,
                    self.bands.graph,
                    output.shape()
                )));
            }
            let output = output.into_dimensionality::<Ix4>().map_err(|e| {
                Error::internal("a segment's output has another rank than 4").with_source(e)
            })?;
            expect_finite(|| format!("the output of segment {}", step.graph), &output)?;
            let part = output.slice(s![.., .., skip..skip + rows, ..]);
            if let Some(sums) = self.sums.get_mut(name) {
                sums.add(part);
            }
            let canvas = self.made.get_mut(name);
            let canvas = canvas.ok_or_else(|| Error::internal("a canvas is gone"))?;
            canvas.put(start, 0, part)?;
        }
        Ok(())
    }

    fn rows(&self, name: &str, rows: Range<usize>) -> Result<Array4<f32>> {
        if name == self.bands.plan.input {
            return (self.read)(rows);
        }
        self.canvas(name)?.rows(rows)
    }

    fn canvas(&self, name: &str) -> Result<&Canvas> {
        let canvas = self.made.get(name);
        canvas.ok_or_else(|| Error::internal(format!("the canvas `{name}` is gone")))
    }
}

/// The whole canvas, or every k-th row and column of it with the smallest k that leaves at most [`keys`] pixels.
fn thinned(canvas: &Canvas, most: usize) -> Result<Array4<f32>> {
    let (height, width) = canvas.size();
    let most = keys(height * width, most).max(1);
    let mut k = 1;
    while height.div_ceil(k) * width.div_ceil(k) > most {
        k += 1;
    }
    if k == 1 {
        return canvas.to_array();
    }
    let mut thin = Array4::zeros((1, canvas.channels(), height.div_ceil(k), width.div_ceil(k)));
    // The middle of each block, so that the sample has no bias towards a corner.
    let place = |i: usize, length: usize| (i * k + k / 2).min(length - 1);
    for band in bands(height.div_ceil(k), 64) {
        let rows = place(band.start, height)..place(band.end - 1, height) + 1;
        let values = canvas.rows(rows.clone())?;
        for i in band {
            for j in 0..width.div_ceil(k) {
                let cell = values.slice(s![0, .., place(i, height) - rows.start, place(j, width)]);
                thin.slice_mut(s![0, .., i, j]).assign(&cell);
            }
        }
    }
    Ok(thin)
}
