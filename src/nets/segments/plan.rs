//! A graph's segment plan: the contents of `NAME.segments.safetensors`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::error::{Error, Result};

/// The version of the plan that this engine reads.
const VERSION: u64 = 1;

/// Limits of a plan's numbers, above those of any known VAE, so that no count of values or bytes overflows 64 bits.
const MAX_STEPS: usize = 1024;
const MAX_CHANNELS: usize = 1 << 14;
const MAX_HALO: usize = 1 << 12;

/// A graph cut at its normalisations into segments. Each reads canvases strip by strip and makes new ones. Its
/// normalisation uses statistics of the whole canvas, so that strips equal the whole.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct SegmentPlan {
    version: u64,
    /// The canvas that is the graph's input.
    pub input: String,
    /// The canvas that is the graph's output.
    pub output: String,
    /// All canvases by name.
    pub canvases: BTreeMap<String, CanvasSpec>,
    /// The segments in order.
    pub steps: Vec<Step>,
}

/// A canvas: its channels, and its size relative to the graph's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct CanvasSpec {
    /// Channels.
    pub channels: usize,
    /// Scale relative to the input, in each direction: `[numerator, denominator]`.
    pub scale: (usize, usize),
}

impl CanvasSpec {
    /// Whether its numbers are within the limits.
    fn is_sound(&self) -> bool {
        let (up, down) = self.scale;
        [up, down].iter().all(|n| (1..=64).contains(n))
            && up <= 8 * down
            && (1..=MAX_CHANNELS).contains(&self.channels)
    }
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Step {
    /// The name of its graph in the file.
    pub graph: String,
    /// The normalisation of its first input.
    pub norm: Option<Norm>,
    /// Canvases that it reads strip by strip, as `band_0`, `band_1` …; all have one scale.
    pub bands: Vec<String>,
    /// Canvases that it reads whole, as `whole_0` …: keys and values of attention.
    #[serde(default)]
    pub whole: Vec<String>,
    /// Canvases that it writes, as `out_0` …; all have one scale.
    pub outputs: Vec<String>,
    /// Rows above and below a strip that its output depends on.
    pub halo: usize,
    /// Values per pixel of its strips of the widest tensor inside, if that is wider than inputs and outputs. Default: 0.
    #[serde(default)]
    pub inner: usize,
}

/// A group normalisation.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Norm {
    /// The canvas whose statistics it uses: the step's first input.
    pub canvas: String,
    /// Number of channel groups.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f64,
}

impl SegmentPlan {
    /// Parses a plan and checks that every canvas in it is declared, and written before it is read.
    ///
    /// # Errors
    /// [`Bundle`](crate::error::ErrorKind::Bundle), naming the inconsistency.
    pub fn parse(text: &str) -> Result<Self> {
        let plan: SegmentPlan = serde_json::from_str(text)
            .map_err(|e| Error::bundle("not a valid plan of segments").with_source(e))?;
        if plan.version != VERSION {
            return Err(Error::bundle(format!(
                "segments of version {}, but this engine reads version {VERSION}: update diffbir, or export the bundle anew",
                plan.version
            )));
        }
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<()> {
        if self.steps.len() > MAX_STEPS {
            return Err(Error::bundle(format!("more than {MAX_STEPS} segments")));
        }
        let mut made = BTreeSet::from([self.input.as_str()]);
        for step in &self.steps {
            let wrong = |what: &str| Error::bundle(format!("segment {}: {what}", step.graph));
            let used = step.bands.iter().chain(&step.whole);
            if !used.clone().all(|name| made.contains(name.as_str())) {
                return Err(wrong("a canvas is used before it is made"));
            }
            let specs: Option<Vec<&CanvasSpec>> = used
                .chain(&step.outputs)
                .map(|name| self.canvases.get(name))
                .collect();
            let specs = specs.ok_or_else(|| wrong("a canvas is not listed"))?;
            let sound = specs.iter().all(|spec| spec.is_sound());
            if !sound || step.halo > MAX_HALO || step.inner > 4 * MAX_CHANNELS {
                return Err(wrong(
                    "a scale, a number of channels or a halo out of bounds",
                ));
            }
            let (Some(first), Some(output)) = (step.bands.first(), step.outputs.first()) else {
                return Err(wrong("it needs a strip and an output"));
            };
            let one_scale = |names: &[String]| {
                let scale = self.canvases[&names[0]].scale;
                names.iter().all(|name| self.canvases[name].scale == scale)
            };
            if !one_scale(&step.bands) || !one_scale(&step.outputs) {
                return Err(wrong("its canvases differ in scale"));
            }
            if let Some(norm) = &step.norm {
                let channels = self.canvases[first].channels;
                if norm.canvas != *first
                    || norm.groups == 0
                    || !channels.is_multiple_of(norm.groups)
                {
                    return Err(wrong("its normalisation does not fit its first strip"));
                }
            }
            if !matches!(self.ratio(first, output), (1, 1) | (2, 1) | (1, 2)) {
                return Err(wrong(
                    "its output is neither half, nor as large, nor twice as large",
                ));
            }
            made.extend(step.outputs.iter().map(String::as_str));
        }
        if !made.contains(self.output.as_str()) {
            return Err(Error::bundle("the segments do not make the graph's output"));
        }
        Ok(())
    }

    /// Rows of `to` per row of `from`, as a fraction in lowest terms.
    fn ratio(&self, from: &str, to: &str) -> (usize, usize) {
        let (from, to) = (self.canvases[from].scale, self.canvases[to].scale);
        let (up, down) = (to.0 * from.1, to.1 * from.0);
        let common = gcd(up, down);
        (up / common, down / common)
    }

    /// Rows of a step's outputs per row of its inputs: `(1, 1)`, `(2, 1)` or `(1, 2)`.
    pub fn step_ratio(&self, step: &Step) -> (usize, usize) {
        self.ratio(&step.bands[0], &step.outputs[0])
    }

    /// Height and width of a canvas for an input of `size`.
    pub fn size(&self, canvas: &str, size: (usize, usize)) -> (usize, usize) {
        let (up, down) = self.canvases[canvas].scale;
        (size.0 * up / down, size.1 * up / down)
    }

    /// Number of values of a canvas for an input of `size`.
    pub fn values(&self, canvas: &str, size: (usize, usize)) -> usize {
        let (height, width) = self.size(canvas, size);
        self.canvases[canvas].channels * height * width
    }

    /// The canvases that exist after step `k` and that no later step reads, except the output.
    pub fn done_after(&self, k: usize) -> BTreeSet<&str> {
        let later: BTreeSet<&str> = self.steps[k + 1..].iter().flat_map(Step::inputs).collect();
        let so_far = self.steps[..=k].iter().flat_map(|step| {
            let outputs = step.outputs.iter().map(String::as_str);
            step.inputs().chain(outputs)
        });
        so_far
            .filter(|name| !later.contains(name) && *name != self.output)
            .collect()
    }

    /// The normalisation that a later step applies to `canvas`; its statistics are gathered while it is written.
    pub fn norm_of(&self, canvas: &str) -> Option<&Norm> {
        let mut norms = self.steps.iter().filter_map(|step| step.norm.as_ref());
        norms.find(|norm| norm.canvas == canvas)
    }

    /// Maximum number of values in all canvases at a time, without the graph's input, which belongs to the caller.
    pub fn most_values(&self, size: (usize, usize)) -> usize {
        let mut there: BTreeSet<&str> = BTreeSet::new();
        let mut most = 0;
        for (k, step) in self.steps.iter().enumerate() {
            there.extend(step.outputs.iter().map(String::as_str));
            let values = there.iter().map(|canvas| self.values(canvas, size)).sum();
            most = most.max(values);
            let done = self.done_after(k);
            there.retain(|canvas| !done.contains(canvas));
        }
        most
    }
}

impl Step {
    /// The canvases that it reads.
    pub fn inputs(&self) -> impl Iterator<Item = &str> {
        self.bands.iter().chain(&self.whole).map(String::as_str)
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
