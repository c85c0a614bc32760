//! The networks behind one trait: named tensors in, named tensors out.
//!
//! Everything above this line knows graphs by their contracts (see [`contract`]) and runs as well on the fakes of
//! the tests as on ONNX Runtime.

pub mod cldm;
pub mod cleaner;
pub mod contract;
pub mod segments;
pub mod text;
pub mod vae;

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;

use ndarray::{Array4, ArrayD, ArrayViewD, Ix4};

use crate::error::{Error, Result};
use crate::tensor::expect_finite;

/// An input of a [`Network`], borrowed from the caller.
#[derive(Debug, Clone)]
pub enum Input<'a> {
    /// 32-bit floats; converted where the graph wants 16-bit ones.
    F32(ArrayViewD<'a, f32>),
    /// 64-bit integers (token ids).
    I64(ArrayViewD<'a, i64>),
}

impl Input<'_> {
    /// The same tensor, borrowed from this one.
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
    /// Takes `&mut self` because a session of ONNX Runtime does: one run at a time.
    ///
    /// # Errors
    /// [`Runtime`](crate::error::ErrorKind::Runtime) where the run fails, and
    /// [`Resources`](crate::error::ErrorKind::Resources) where it ran out of memory.
    fn run(&mut self, inputs: &[(&str, Input<'_>)], outputs: &[&str]) -> Result<Vec<ArrayD<f32>>>;
}

/// What is known of a set of networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkInfo {
    /// Whether networks may stay loaded when their stage is over. Default: true.
    pub keeps: bool,
    /// How many sets of networks share the machine's memory, this one among them. Default: 1.
    pub sharing: usize,
    /// Whether networks run in the machine's own memory, which plans are made for. Default: true.
    pub on_host: bool,
    /// What is known of single graphs, by their names in the bundle. Default: nothing.
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
    /// What is known of `graph`.
    pub fn graph(&self, graph: &str) -> GraphInfo {
        self.graphs.get(graph).cloned().unwrap_or_default()
    }
}

/// How a graph runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GraphInfo {
    /// The execution provider that runs most of its nodes, by ONNX Runtime's name. `None` while it has not been used.
    pub provider: Option<String>,
    /// The variant that runs instead of the graph itself, if any.
    pub variant: Option<String>,
    /// Of a denoiser: whether the layers that do not depend on the prompts run once for all branches. `x`, `timestep` and
    /// `hint` then have `N` rows, `context` and all outputs `branches * N`, branch by branch.
    pub shares_prefix: bool,
    /// Of a denoiser: how its features can be cached, where its variants allow it.
    pub features: Option<FeatureCache>,
    /// Of a denoiser: its ControlNet and UNet as networks of their own, where its variants have them.
    pub split: Option<SplitDenoiser>,
}

/// Feature caching (DeepCache, Ma et al., arXiv 2312.00858). The hidden state in front of the denoiser's last layers changes
/// slowly from step to step, so that a denoiser call may reuse an earlier one's and run the last layers alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureCache {
    /// The hidden state's name among the denoiser's outputs and the shallow network's inputs.
    pub tensor: String,
    /// How many values it has for each row and latent pixel.
    pub values_per_pixel: usize,
    /// The name of the network that runs the last layers alone.
    pub shallow: String,
}

/// The denoiser as two networks. The ControlNet's residuals change slowly from step to step, so that a denoiser call may
/// reuse an earlier one's and run the UNet alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitDenoiser {
    /// How many values the residuals have together for each row and latent pixel.
    pub values_per_pixel: usize,
    /// The name of the network of kind [`Control`](contract::GraphKind::Control).
    pub control: String,
    /// The name of the network of kind [`Unet`](contract::GraphKind::Unet).
    pub unet: String,
}

/// Hands out a bundle's networks by their names, loading each when it is first asked for.
pub trait Networks: Send {
    /// Declares which networks are needed from here on. Others are released, or where `keep` is set may be: then the
    /// implementation decides, by its memory policy.
    fn stage(&mut self, graphs: &[&str], keep: bool);

    /// Declares that `graph` is needed next: it may be loaded from now on, while others run. A failure is reported when
    /// the network is asked for.
    fn prepare(&mut self, _graph: &str) {}

    /// The network called `graph` in the bundle, or by its [`GraphInfo`].
    ///
    /// # Errors
    /// [`Bundle`](crate::error::ErrorKind::Bundle) where there is none or its file is damaged,
    /// [`Runtime`](crate::error::ErrorKind::Runtime) where no provider can run it.
    fn get(&mut self, graph: &str) -> Result<&mut dyn Network>;

    /// Segment `segment` of `graph` (see [`segments`]). It may be released when another one is asked for.
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`Bundle`](crate::error::ErrorKind::Bundle) where the graph has no segments.
    fn segment(&mut self, graph: &str, segment: &str) -> Result<&mut dyn Network> {
        Err(Error::bundle(format!(
            "the graph `{graph}` has no segment `{segment}`"
        )))
    }

    /// What is known of the networks.
    fn info(&self) -> NetworkInfo {
        NetworkInfo::default()
    }
}

/// Networks that several models of one stage use in turn.
pub struct Shared<'a>(RefCell<&'a mut dyn Networks>);

impl<'a> Shared<'a> {
    /// Shares `networks`.
    pub fn new(networks: &'a mut dyn Networks) -> Self {
        Shared(RefCell::new(networks))
    }

    /// Runs `f` on the network called `graph`.
    ///
    /// # Errors
    /// As [`Networks::get`], and what `f` reports.
    pub fn with<T>(&self, graph: &str, f: impl FnOnce(&mut dyn Network) -> Result<T>) -> Result<T> {
        f(self.lock()?.get(graph)?)
    }

    /// The networks, borrowed until the guard is dropped.
    ///
    /// # Errors
    /// [`Internal`](crate::error::ErrorKind::Internal) while a network runs.
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

/// Checks that `output` has the shape a graph's contract promises.
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
