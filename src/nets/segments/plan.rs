//! How a graph is cut at its normalisations: the contents of `NAME.segments.safetensors`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::error::{Error, Result};

/// The version of the plan that this engine reads.
const VERSION: u64 = 1;

/// Bounds of a plan's figures, above those of any known VAE: with them no count of values or bytes overflows 64 bits.
const MAX_STEPS: usize = 1024;
const MAX_CHANNELS: usize = 1 << 14;
const MAX_HALO: usize = 1 << 12;

/// A graph in segments. Each reads canvases band by band and makes new ones; where it normalises, it is given
/// statistics of the whole canvas, so that bands do not differ from the whole.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct SegmentPlan {
    version: u64,
    /// The canvas that is the graph's input.
    pub input: String,
    /// The canvas that is its output.
    pub output: String,
    /// All canvases by name.
    pub canvases: BTreeMap<String, CanvasSpec>,
    /// The segments in order.
    pub steps: Vec<Step>,
}

/// A canvas: its channels, and its cells per cell of the graph's input, numerator and denominator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct CanvasSpec {
    /// Channels.
    pub channels: usize,
    /// Cells per cell of the input in each direction: `[numerator, denominator]`.
    pub scale: (usize, usize),
}

impl CanvasSpec {
    /// Whether its figures are within the bounds of what may be computed with them.
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
    /// What its first band is normalised with.
    pub norm: Option<Norm>,
    /// Canvases that are given in bands, as `band_0`, `band_1` …; all have one scale.
    pub bands: Vec<String>,
    /// Canvases that are given whole, as `whole_0` …: the keys and values of attention.
    #[serde(default)]
    pub whole: Vec<String>,
    /// Canvases that it makes, as `out_0` …; all have one scale.
    pub outputs: Vec<String>,
    /// Rows beyond a band, above and below, that its output depends on.
    pub halo: usize,
}

/// A group normalisation.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Norm {
    /// The canvas whose statistics it takes: the step's first band.
    pub canvas: String,
    /// Groups of channels.
    pub groups: usize,
    /// What is added to the variance.
    pub eps: f64,
}

impl SegmentPlan {
    /// Parses a plan and checks that every canvas it names is there and made before it is used.
    ///
    /// # Errors
    /// [`Bundle`](crate::error::ErrorKind::Bundle), naming what does not fit.
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
            if !specs.iter().all(|spec| spec.is_sound()) || step.halo > MAX_HALO {
                return Err(wrong(
                    "a scale, a number of channels or a halo out of bounds",
                ));
            }
            let (Some(first), Some(output)) = (step.bands.first(), step.outputs.first()) else {
                return Err(wrong("it needs a band and an output"));
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
                    return Err(wrong("its normalisation does not fit its first band"));
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

    /// Rows of a step's outputs per row of its bands: `(1, 1)`, `(2, 1)` or `(1, 2)`.
    pub fn step_ratio(&self, step: &Step) -> (usize, usize) {
        self.ratio(&step.bands[0], &step.outputs[0])
    }

    /// Height and width of a canvas where the graph's input has `size`.
    pub fn size(&self, canvas: &str, size: (usize, usize)) -> (usize, usize) {
        let (up, down) = self.canvases[canvas].scale;
        (size.0 * up / down, size.1 * up / down)
    }

    /// The number of values of a canvas where the graph's input has `size`.
    pub fn values(&self, canvas: &str, size: (usize, usize)) -> usize {
        let (height, width) = self.size(canvas, size);
        self.canvases[canvas].channels * height * width
    }

    /// The canvases that no step after number `k` reads, among those that are there by then; never the output.
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

    /// The normalisation that a later step applies to `canvas`, so that its statistics are wanted while it is made.
    pub fn norm_of(&self, canvas: &str) -> Option<&Norm> {
        let mut norms = self.steps.iter().filter_map(|step| step.norm.as_ref());
        norms.find(|norm| norm.canvas == canvas)
    }

    /// The most values that canvases hold at any time, without the graph's input (which the caller holds).
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
    /// The canvases it reads.
    pub fn inputs(&self) -> impl Iterator<Item = &str> {
        self.bands.iter().chain(&self.whole).map(String::as_str)
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
