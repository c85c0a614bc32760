//! The networks behind one trait: named tensors in, named tensors out.
//!
//! Code outside this folder and `runtime` knows graphs only by their contracts (see [`contract`]); it runs on the
//! tests' fakes as well as on ONNX Runtime.

pub mod cldm;
pub mod cleaner;
pub mod contract;
pub mod segments;
pub mod text;
pub mod vae;

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;

use ndarray::{Array4, ArrayD, ArrayViewD, Ix4};

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::tensor::expect_finite;

/// An input of a [`Network`], borrowed from the caller.
#[derive(Debug, Clone)]
pub enum Input<'a> {
    /// 32-bit floats; converted if the graph expects 16-bit ones.
    F32(ArrayViewD<'a, f32>),
    /// 64-bit integers (token ids).
    I64(ArrayViewD<'a, i64>),
}

impl Input<'_> {
    /// The same tensor, borrowed from this input.
    pub fn view(&self) -> Input<'_> {
        match self {
            Input::F32(x) => Input::F32(x.view()),
            Input::I64(x) => Input::I64(x.view()),
        }
    }

    /// The tensor's shape.
    pub fn shape(&self) -> &[usize] {
        match self {
            Input::F32(x) => x.shape(),
            Input::I64(x) => x.shape(),
        }
    }
}

impl<'a, D: ndarray::Dimension> From<&'a ndarray::Array<f32, D>> for Input<'a> {
    fn from(x: &'a ndarray::Array<f32, D>) -> Self {
        Input::F32(x.view().into_dyn())
    }
}

impl<'a, D: ndarray::Dimension> From<&'a ndarray::Array<i64, D>> for Input<'a> {
    fn from(x: &'a ndarray::Array<i64, D>) -> Self {
        Input::I64(x.view().into_dyn())
    }
}

/// One loaded graph.
pub trait Network {
    /// Runs the graph on `inputs` and returns the tensors called `outputs`, in that order, as 32-bit floats.
    ///
    /// Takes `&mut self` because ONNX Runtime sessions do: one run at a time.
    ///
    /// # Errors
    /// [`Runtime`](crate::error::ErrorKind::Runtime) if the run fails,
    /// [`Resources`](crate::error::ErrorKind::Resources) if it runs out of memory.
    fn run(&mut self, inputs: &[(&str, Input<'_>)], outputs: &[&str]) -> Result<Vec<ArrayD<f32>>>;
}

/// Properties of a set of networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkInfo {
    /// Whether networks may stay loaded after their stage. Default: true.
    pub keeps: bool,
    /// Number of sets of networks that share the machine's memory, including this one. Default: 1.
    pub sharing: usize,
    /// Whether networks run in host memory, which plans account for. Default: true.
    pub on_host: bool,
    /// Properties of single graphs, by their names in the bundle. Default: none.
    pub graphs: BTreeMap<String, GraphInfo>,
}

impl Default for NetworkInfo {
    fn default() -> Self {
        NetworkInfo {
            keeps: true,
            sharing: 1,
            on_host: true,
            graphs: BTreeMap::new(),
        }
    }
}

impl NetworkInfo {
    /// The properties of `graph`.
    pub fn graph(&self, graph: &str) -> GraphInfo {
        self.graphs.get(graph).cloned().unwrap_or_default()
    }
}

/// How a graph runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GraphInfo {
    /// The execution provider that runs most of its nodes, by ONNX Runtime's name; `None` before its first use.
    pub provider: Option<String>,
    /// The variant that runs instead of the graph itself, if any.
    pub variant: Option<String>,
    /// Denoiser only: whether layers that do not depend on the prompt run once for all branches. Then `x`, `timestep`
    /// and `hint` have `N` rows, `context` and all outputs `branches * N`, branch by branch.
    pub shares_prefix: bool,
    /// Denoiser only: feature caching, if its variants support it.
    pub features: Option<FeatureCache>,
    /// Denoiser only: ControlNet and UNet as separate networks, if its variants include them.
    pub split: Option<SplitDenoiser>,
}

/// Feature caching (DeepCache, Ma et al., arXiv 2312.00858). The hidden state in front of the denoiser's last layers
/// changes slowly from step to step, so a denoiser call may reuse that of an earlier call and run the last layers
/// alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureCache {
    /// Name of the hidden state among the denoiser's outputs and the shallow network's inputs.
    pub tensor: String,
    /// Number of its values for each batch row and latent pixel.
    pub values_per_pixel: usize,
    /// Name of the network that runs the last layers alone.
    pub shallow: String,
}

/// Split denoiser: ControlNet and UNet as two networks. The ControlNet's residuals change slowly from step to step, so
/// a denoiser call may reuse those of an earlier call and run the UNet alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitDenoiser {
    /// Number of values of all residuals for each batch row and latent pixel.
    pub values_per_pixel: usize,
    /// Name of the network of kind [`Control`](contract::GraphKind::Control).
    pub control: String,
    /// Name of the network of kind [`Unet`](contract::GraphKind::Unet).
    pub unet: String,
}

/// Provides a bundle's networks by name, and loads each on first use.
pub trait Networks: Send {
    /// Declares the networks needed from here on. Others are released; with `keep`, the memory policy decides whether
    /// they are.
    fn stage(&mut self, graphs: &[&str], keep: bool);

    /// Passes the flag that ends a graph while it runs: runs from now on end with
    /// [`Cancelled`](crate::error::ErrorKind::Cancelled) soon after it is set. Networks may ignore it; their callers
    /// check it between runs.
    fn cancelled_by(&mut self, _cancel: &Cancel) {}

    /// Declares that `graph` is needed next: it may be loaded in the background from now on. A failure is reported by
    /// [`get`](Self::get).
    fn prepare(&mut self, _graph: &str) {}

    /// The network called `graph` in the bundle, or by its [`GraphInfo`].
    ///
    /// # Errors
    /// [`Bundle`](crate::error::ErrorKind::Bundle) if there is none or its file is damaged,
    /// [`Runtime`](crate::error::ErrorKind::Runtime) if no provider can run it.
    fn get(&mut self, graph: &str) -> Result<&mut dyn Network>;

    /// Segment `segment` of `graph` (see [`segments`]). It may be released when another one is requested.
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`Bundle`](crate::error::ErrorKind::Bundle) if the graph has no segments.
    fn segment(&mut self, graph: &str, segment: &str) -> Result<&mut dyn Network> {
        Err(Error::bundle(format!(
            "the graph `{graph}` has no segment `{segment}`"
        )))
    }

    /// The properties of the networks.
    fn info(&self) -> NetworkInfo {
        NetworkInfo::default()
    }
}

/// Networks that several users in one stage share, one at a time.
pub struct Shared<'a>(RefCell<&'a mut dyn Networks>);

impl<'a> Shared<'a> {
    /// Shares `networks`.
    pub fn new(networks: &'a mut dyn Networks) -> Self {
        Shared(RefCell::new(networks))
    }

    /// Runs `f` on the network called `graph`.
    ///
    /// # Errors
    /// As [`Networks::get`], and those of `f`.
    pub fn with<T>(&self, graph: &str, f: impl FnOnce(&mut dyn Network) -> Result<T>) -> Result<T> {
        f(self.lock()?.get(graph)?)
    }

    /// The networks, borrowed until the guard is dropped.
    ///
    /// # Errors
    /// [`Internal`](crate::error::ErrorKind::Internal) while a network is running.
    pub fn lock(&self) -> Result<RefMut<'_, &'a mut dyn Networks>> {
        self.0.try_borrow_mut().map_err(|e| {
            Error::internal("a network was asked for while another ran").with_source(e)
        })
    }
}

/// Runs `net` and returns its output `output` as an NCHW array.
pub(crate) fn run_image(
    net: &mut dyn Network,
    inputs: &[(&str, Input<'_>)],
    output: &str,
) -> Result<Array4<f32>> {
    run_images(net, inputs, [output]).map(|[image]| image)
}

/// Runs `net` and returns its outputs `outputs` as NCHW arrays.
pub(crate) fn run_images<const N: usize>(
    net: &mut dyn Network,
    inputs: &[(&str, Input<'_>)],
    outputs: [&str; N],
) -> Result<[Array4<f32>; N]> {
    let found = net.run(inputs, &outputs)?;
    let images = found.into_iter().zip(outputs).map(|(array, output)| {
        let shape = array.shape().to_vec();
        array.into_dimensionality::<Ix4>().map_err(|e| {
            Error::bundle(format!(
                "output `{output}` has shape {shape:?}, expected four axes"
            ))
            .with_source(e)
        })
    });
    let images = images.collect::<Result<Vec<_>>>()?;
    for (image, output) in images.iter().zip(outputs) {
        expect_finite(|| format!("the network's output `{output}`"), image)?;
    }
    images
        .try_into()
        .map_err(|_| Error::internal(format!("the network did not return {outputs:?}")))
}

/// Checks that `output` has the shape that the graph's contract requires.
pub(crate) fn expect_shape(
    what: &str,
    output: &Array4<f32>,
    expected: (usize, usize, usize, usize),
) -> Result<()> {
    if output.dim() == expected {
        return Ok(());
    }
    Err(Error::bundle(format!(
        "{what} returned shape {:?}, expected {expected:?}: the graph does not keep its contract",
        output.dim()
    )))
}
