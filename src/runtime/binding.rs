//! Inputs and outputs that stay on a device from run to run.
//!
//! Most of the denoiser's inputs (condition, prompt embeddings, ControlNet strengths) are the same in every step. An
//! input is therefore copied to the device only when it differs from the tensor already there. CUDA graphs, which read
//! and write fixed addresses, need the tensors to stay in place as well.

use std::sync::Arc;

use half::f16;
use ndarray::ArrayD;
use ort::memory::{AllocationDevice, Allocator};
use ort::session::{IoBinding, RunOptions};
use ort::value::{DynTensor, Tensor, TensorElementType};

use super::stopping::stoppable;
use super::values::{to_f32, type_of};
use crate::cancel::Cancel;
use crate::nets::Input;

/// How many sets of shapes keep tensors on the device, and how many CUDA graphs are captured: each of them keeps
/// memory.
const MOST: usize = 8;
/// Run option that names the CUDA graph to capture or replay; -1: none.
const RECORDING_KEY: &str = "gpu_graph_id";

/// Options of a run that neither captures nor replays a CUDA graph.
///
/// # Errors
/// Errors of ONNX Runtime.
pub(super) fn unrecorded() -> ort::Result<RunOptions> {
    recording(-1)
}

fn recording(id: i64) -> ort::Result<RunOptions> {
    let mut options = RunOptions::new()?;
    options.set(RECORDING_KEY, id.to_string())?;
    Ok(options)
}

/// Memory that holds a session's inputs and outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Host memory, where binding saves nothing: for tests.
    Host,
    /// On this CUDA device.
    Cuda(u32),
}

impl Place {
    fn device(self) -> (AllocationDevice<'static>, i32) {
        match self {
            Place::Host => (AllocationDevice::CPU, 0),
            Place::Cuda(id) => (AllocationDevice::CUDA, id as i32),
        }
    }
}

/// Identifies a binding: names and shapes of the inputs, and the requested outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    inputs: Vec<(String, Vec<usize>)>,
    outputs: Vec<String>,
}

impl Key {
    fn new(inputs: &[(&str, Input<'_>)], outputs: &[&str]) -> Self {
        let of = |(name, input): &(&str, Input<'_>)| (name.to_string(), input.shape().to_vec());
        Key {
            inputs: inputs.iter().map(of).collect(),
            outputs: outputs.iter().map(ToString::to_string).collect(),
        }
    }
}

/// The bindings of one session: one for each set of shapes that ran at least twice, since a single run gains nothing.
pub(super) struct Bindings {
    place: Place,
    /// Whether the session captures CUDA graphs.
    records: bool,
    recorded: usize,
    /// Runs that happened once, with the shapes of their outputs.
    seen: Vec<(Key, Vec<Vec<usize>>)>,
    bound: Vec<Bound>,
    copied: u64,
}

/// A binding with the tensors that it refers to.
struct Bound {
    key: Key,
    io: IoBinding,
    inputs: Vec<Held>,
    outputs: Vec<DynTensor>,
    /// Options of its runs, if the session captures CUDA graphs.
    options: Option<Arc<RunOptions>>,
}

impl Bindings {
    pub(super) fn new(place: Place, records: bool) -> Self {
        Bindings {
            place,
            records,
            recorded: 0,
            seen: Vec::new(),
            bound: Vec::new(),
            copied: 0,
        }
    }

    /// Number of inputs copied to the device so far.
    pub(super) fn copied(&self) -> u64 {
        self.copied
    }

    /// Remembers a run and the shapes of its outputs.
    pub(super) fn remember(
        &mut self,
        inputs: &[(&str, Input<'_>)],
        outputs: &[&str],
        found: &[ArrayD<f32>],
    ) {
        if self.seen.len() == MOST {
            self.seen.remove(0);
        }
        let shapes = found.iter().map(|array| array.shape().to_vec());
        self.seen
            .push((Key::new(inputs, outputs), shapes.collect()));
    }

    /// Runs a set of shapes that has run before; else returns `None`. `how`: options of runs without a CUDA graph, and
    /// what ends a run.
    pub(super) fn run(
        &mut self,
        session: &mut ort::session::Session,
        inputs: &[(&str, Input<'_>)],
        outputs: &[&str],
        how: (&Arc<RunOptions>, &Cancel),
    ) -> Option<ort::Result<Vec<ArrayD<f32>>>> {
        let key = Key::new(inputs, outputs);
        let index = match self.bound.iter().position(|bound| bound.key == key) {
            Some(index) => Ok(index),
            None => {
                let seen = self.seen.iter().position(|(seen, _)| *seen == key)?;
                let (key, shapes) = self.seen.swap_remove(seen);
                self.bind(session, (key, shapes), inputs)
            }
        };
        Some(index.and_then(|index| self.run_bound(index, session, inputs, how)))
    }

    fn run_bound(
        &mut self,
        index: usize,
        session: &mut ort::session::Session,
        inputs: &[(&str, Input<'_>)],
        (plain, cancel): (&Arc<RunOptions>, &Cancel),
    ) -> ort::Result<Vec<ArrayD<f32>>> {
        let bound = &mut self.bound[index];
        for ((name, input), held) in inputs.iter().zip(&mut bound.inputs) {
            if held.put(input)? {
                // An input that the graph wants on the host was copied there when it was bound.
                bound.io.bind_input(*name, &held.there)?;
                self.copied += 1;
            }
        }
        bound.io.synchronize_inputs()?;
        let options = bound.options.as_ref().unwrap_or(plain);
        stoppable((options, cancel), |options| {
            session
                .run_binding_with_options(&bound.io, options)
                .map(drop)
        })?;
        bound.io.synchronize_outputs()?;
        let to_host = |there: &DynTensor| {
            let here = there.to(AllocationDevice::CPU, 0)?;
            to_f32(&here.into_dyn().view())
        };
        bound.outputs.iter().map(to_host).collect()
    }

    /// Allocates device tensors for a remembered run and binds them; returns the binding's index.
    fn bind(
        &mut self,
        session: &ort::session::Session,
        (key, shapes): (Key, Vec<Vec<usize>>),
        inputs: &[(&str, Input<'_>)],
    ) -> ort::Result<usize> {
        let (device, id) = self.place.device();
        let mut io = session.create_binding()?;
        let mut held = Vec::new();
        for (name, input) in inputs {
            let is_f16 = type_of(session.inputs(), name) == TensorElementType::Float16;
            let input = Held::new(input, is_f16, (device.clone(), id))?;
            io.bind_input(*name, &input.there)?;
            held.push(input);
        }
        let mut outputs = Vec::new();
        for (name, shape) in key.outputs.iter().zip(shapes) {
            let kind = type_of(session.outputs(), name);
            // Not allocated from the session's arena: a CUDA graph would use it as its scratch memory.
            let mut there =
                DynTensor::new(&Allocator::default(), kind, shape)?.to(device.clone(), id)?;
            io.bind_output(name, &mut there)?;
            outputs.push(there);
        }
        let options = match self.records {
            false => None,
            true if self.recorded < MOST => Some(Arc::new(recording(self.recorded as i64)?)),
            true => Some(Arc::new(unrecorded()?)),
        };
        self.recorded += 1;
        if self.bound.len() == MOST {
            self.bound.remove(0);
        }
        self.bound.push(Bound {
            key,
            io,
            inputs: held,
            outputs,
            options,
        });
        Ok(self.bound.len() - 1)
    }
}

/// An input's tensor on the device, and the values it holds.
struct Held {
    there: DynTensor,
    given: Given,
    is_f16: bool,
}

/// An input's values in index order.
#[derive(PartialEq)]
enum Given {
    /// Bit patterns: a NaN equals itself, and 0 differs from -0.
    F32(Vec<u32>),
    I64(Vec<i64>),
}

impl Given {
    fn of(input: &Input<'_>) -> Self {
        match input {
            Input::F32(x) => Given::F32(x.iter().map(|x| x.to_bits()).collect()),
            Input::I64(x) => Given::I64(x.iter().copied().collect()),
        }
    }
}

impl Held {
    fn new(
        input: &Input<'_>,
        is_f16: bool,
        (device, id): (AllocationDevice<'static>, i32),
    ) -> ort::Result<Self> {
        Ok(Held {
            there: on_host(input, is_f16)?.to(device, id)?,
            given: Given::of(input),
            is_f16,
        })
    }

    /// Updates the tensor on the device; returns false if it was up to date.
    fn put(&mut self, input: &Input<'_>) -> ort::Result<bool> {
        let given = Given::of(input);
        if given == self.given {
            return Ok(false);
        }
        on_host(input, self.is_f16)?.copy_into(&mut self.there)?;
        self.given = given;
        Ok(true)
    }
}

/// A tensor that owns its values: ort does not copy borrowed ones.
fn on_host(input: &Input<'_>, as_f16: bool) -> ort::Result<DynTensor> {
    Ok(match input {
        Input::F32(x) if as_f16 => Tensor::from_array(x.mapv(f16::from_f32))?.upcast(),
        Input::F32(x) => Tensor::from_array(x.as_standard_layout().into_owned())?.upcast(),
        Input::I64(x) => Tensor::from_array(x.as_standard_layout().into_owned())?.upcast(),
    })
}
