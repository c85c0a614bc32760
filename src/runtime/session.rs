//! ONNX Runtime sessions as [`Network`]s.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use ndarray::ArrayD;
use ort::session::builder::SessionBuilder;
use ort::session::{RunOptions, SessionInputValue};
use ort::value::TensorElementType;

use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::nets::{Input, Network};
use crate::runtime::binding::{self, Bindings, Place};
use crate::runtime::builder::{builder, while_building};
use crate::runtime::copies::Copies;
use crate::runtime::engine_cache::EngineCache;
use crate::runtime::failures::{expect_names, is_out_of_memory, load_error};
use crate::runtime::provider::{Provider, ProviderKind};
use crate::runtime::stopping::stoppable;
use crate::runtime::values::{collect, to_value, type_of};
use crate::runtime::{GraphFile, IoBinding, Role, RuntimeOptions, assignment};

/// Session option: the folder of external data of a model loaded from memory.
const WEIGHTS_FOLDER: &str = "session.model_external_initializers_file_folder_path";

static FIRST_RUN: OnceLock<Instant> = OnceLock::new();

/// When the first graph run of this process began; the time before it is start-up.
pub fn first_run() -> Option<Instant> {
    FIRST_RUN.get().copied()
}

/// Run option that names the arenas to shrink after the run.
const SHRINK_KEY: &str = "memory.enable_memory_arena_shrinkage";

/// One graph loaded into ONNX Runtime.
pub struct Session {
    /// Inputs and outputs that stay on the device, if any.
    bindings: Option<Bindings>,
    session: ort::session::Session,
    name: String,
    nodes: BTreeMap<String, usize>,
    /// Options of every run without a CUDA graph.
    plain: Arc<RunOptions>,
    /// Whether a run's memory is released after the run.
    shrinks: bool,
    /// Ends runs.
    cancel: Cancel,
    /// TensorRT's engine cache; the first run may build an engine.
    engines: Option<EngineCache>,
}

impl Session {
    /// Loads the variant of `graph` for its providers in `options`, and checks its inputs and outputs against its
    /// contract.
    ///
    /// # Errors
    /// [`Runtime`](ErrorKind::Runtime): no library, or a required provider does not load.
    /// [`Bundle`](ErrorKind::Bundle): the file is not a graph, or lacks an input or output of its contract.
    pub fn load(graph: &GraphFile, options: &RuntimeOptions) -> Result<Self> {
        Session::load_with(graph, options, Role::Whole, Ok)
    }

    /// Loads the variant of `graph` with this `role`.
    ///
    /// # Errors
    /// As [`load`](Self::load), and [`Bundle`](ErrorKind::Bundle) if there is no such variant.
    pub(super) fn load_form(
        graph: &GraphFile,
        options: &RuntimeOptions,
        role: Role,
    ) -> Result<Self> {
        Session::load_with(graph, options, role, Ok)
    }

    /// As [`load`](Self::load); also returns the number of copies between devices that ONNX Runtime inserted into the
    /// graph.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_counting_copies(
        graph: &GraphFile,
        options: &RuntimeOptions,
    ) -> Result<(Self, usize)> {
        let copies = Copies::default();
        let session = Self::load_with(graph, options, Role::Whole, |builder| {
            copies
                .count_in(builder)
                .map_err(|e| Error::runtime("ONNX Runtime takes no log function").with_source(e))
        })?;
        Ok((session, copies.count()))
    }

    fn load_with(
        graph: &GraphFile,
        options: &RuntimeOptions,
        role: Role,
        prepare: impl FnOnce(SessionBuilder) -> Result<SessionBuilder>,
    ) -> Result<Self> {
        let path = graph.file(options, role)?;
        let (builder, engines) = builder(graph, options)?;
        let mut builder = prepare(builder)?;
        let session = while_building(engines.as_ref(), || {
            let loaded = builder.commit_from_file(path);
            loaded.map_err(|e| load_error(&e).at(path.display()))
        })?;
        let (inputs, outputs) = graph.contract(options, role);
        expect_names("input", &inputs, session.inputs(), path)?;
        expect_names("output", &outputs, session.outputs(), path)?;
        Session::checked(session, graph.name.clone(), engines, (graph, options))
    }

    /// Loads the graph `segment` from the safetensors file `path`; its weights are in the external data of `graph`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(super) fn load_embedded(
        graph: &GraphFile,
        path: &Path,
        segment: &str,
        options: &RuntimeOptions,
    ) -> Result<Self> {
        let read = || -> Result<(ort::session::Session, Option<EngineCache>)> {
            let damaged =
                |e: &dyn std::fmt::Display| Error::bundle(format!("damaged segments: {e}"));
            let bytes = std::fs::read(path).map_err(|e| damaged(&e))?;
            let file = safetensors::SafeTensors::deserialize(&bytes).map_err(|e| damaged(&e))?;
            let model = file.tensor(segment).map_err(|e| damaged(&e))?;
            let folder = graph.path.parent().unwrap_or(Path::new(".")).display();
            let (builder, engines) = builder(graph, options)?;
            let mut builder = builder
                .with_config_entry(WEIGHTS_FOLDER, folder.to_string())
                .map_err(|e| {
                    Error::runtime(format!("ONNX Runtime refuses the folder of weights: {e}"))
                })?;
            let session = while_building(engines.as_ref(), || {
                let loaded = builder.commit_from_memory(model.data());
                loaded.map_err(|e| load_error(&e))
            })?;
            Ok((session, engines))
        };
        let (session, engines) =
            read().map_err(|e| e.at(format!("{}: segment {segment}", path.display())))?;
        let name = format!("{}, segment {segment}", graph.name);
        Session::checked(session, name, engines, (graph, options))
    }

    /// A session whose nodes run on the requested providers.
    fn checked(
        session: ort::session::Session,
        name: String,
        engines: Option<EngineCache>,
        (graph, options): (&GraphFile, &RuntimeOptions),
    ) -> Result<Self> {
        let providers = options.providers_of(&graph.name);
        let nodes = assignment::nodes_per_provider(&session)?;
        let mut this = Session {
            bindings: None,
            session,
            name,
            nodes,
            plain: Arc::new(RunOptions::new().map_err(refused_options)?),
            shrinks: false,
            cancel: Cancel::default(),
            engines,
        };
        this.refuse_silent_fallback(providers)?;
        this.bind(providers, options.io_binding)?;
        Ok(this)
    }

    /// Decides whether inputs and outputs stay on a device, and on which.
    fn bind(&mut self, providers: &[Provider], wanted: IoBinding) -> Result<()> {
        let runs_on = |provider: &&Provider| self.nodes.contains_key(provider.kind().ort_name());
        let on_cuda = providers
            .iter()
            .filter(runs_on)
            .find_map(|provider| Some((provider.settings.cuda_device()?, provider.records())));
        self.bindings = match (wanted, on_cuda) {
            (IoBinding::Never, _) | (IoBinding::Auto, None) => None,
            (IoBinding::Always, None) => Some(Bindings::new(Place::Host, false)),
            (_, Some((device, records))) => Some(Bindings::new(Place::Cuda(device), records)),
        };
        if on_cuda.is_some_and(|(_, records)| records) {
            self.plain = Arc::new(binding::unrecorded().map_err(refused_options)?);
        }
        Ok(())
    }

    /// Number of inputs copied to bound tensors; 0 without binding.
    pub fn inputs_copied(&self) -> u64 {
        self.bindings.as_ref().map_or(0, Bindings::copied)
    }

    /// Whether a run's memory is released after the run. Otherwise it is kept for the next run, which is faster; after
    /// runs on many shapes it is larger than any of them needs.
    pub(super) fn shrink(&mut self, shrink: bool) -> Result<()> {
        // Devices have arenas of their own, with other options.
        let on_host = self
            .nodes
            .keys()
            .all(|name| name == ProviderKind::Cpu.ort_name());
        if !on_host || shrink == self.shrinks {
            return Ok(());
        }
        let mut options = RunOptions::new().map_err(refused_options)?;
        if shrink {
            options.set(SHRINK_KEY, "cpu:0").map_err(refused_options)?;
        }
        self.plain = Arc::new(options);
        self.shrinks = shrink;
        Ok(())
    }

    /// Passes the flag that ends a run while it is in ONNX Runtime.
    pub(super) fn cancelled_by(&mut self, cancel: &Cancel) {
        self.cancel = cancel.clone();
    }

    /// How many nodes each provider runs, by ONNX Runtime's names of the providers.
    pub fn nodes(&self) -> &BTreeMap<String, usize> {
        &self.nodes
    }

    /// The provider with the most nodes, by ONNX Runtime's name.
    pub fn provider(&self) -> &str {
        let most = self.nodes.iter().max_by_key(|(_, count)| **count);
        most.map_or(ProviderKind::Cpu.ort_name(), |(name, _)| name)
    }

    /// Refuses a silent fallback to a slow provider: some node must run on the first required provider, or on one
    /// before it.
    fn refuse_silent_fallback(&self, providers: &[Provider]) -> Result<()> {
        let Some(required) = providers.iter().position(|provider| !provider.optional) else {
            return Ok(());
        };
        let kinds: Vec<ProviderKind> = providers[..=required].iter().map(Provider::kind).collect();
        if kinds
            .iter()
            .any(|kind| self.nodes.contains_key(kind.ort_name()))
        {
            return Ok(());
        }
        Err(Error::runtime(format!(
            "graph `{}`: no node runs on {}; ONNX Runtime put them on {:?}. Mark the provider `optional: true` to allow this",
            self.name,
            providers[required].kind(),
            self.nodes
        )))
    }
}

fn refused_options(error: ort::Error) -> Error {
    Error::runtime("ONNX Runtime refuses a run's options").with_source(error)
}

impl Session {
    fn run_error(&self, error: &ort::Error, inputs: &[(&str, Input<'_>)]) -> Error {
        let shapes: Vec<_> = inputs
            .iter()
            .map(|(name, input)| format!("{name} {:?}", input.shape()))
            .collect();
        let kind = if is_out_of_memory(error.message()) {
            ErrorKind::Resources
        } else {
            ErrorKind::Runtime
        };
        Error::new(
            kind,
            format!(
                "graph `{}` failed on {}: {}",
                self.name,
                shapes.join(", "),
                error.message()
            ),
        )
    }
}

impl Network for Session {
    fn run(&mut self, inputs: &[(&str, Input<'_>)], outputs: &[&str]) -> Result<Vec<ArrayD<f32>>> {
        FIRST_RUN.get_or_init(Instant::now);
        let engines = self.engines.take();
        let found = while_building(engines.as_ref(), || Ok(self.run_once(inputs, outputs)))?;
        if found.is_err() {
            // Engines may still have to be built.
            self.engines = engines;
        }
        found.map_err(|e| match self.cancel.check() {
            Err(cancelled) => cancelled,
            Ok(()) => self.run_error(&e, inputs),
        })
    }
}

impl Session {
    fn run_once(
        &mut self,
        inputs: &[(&str, Input<'_>)],
        outputs: &[&str],
    ) -> ort::Result<Vec<ArrayD<f32>>> {
        let how = (&self.plain, &self.cancel);
        if let Some(bindings) = &mut self.bindings
            && let Some(found) = bindings.run(&mut self.session, inputs, outputs, how)
        {
            return found;
        }
        let mut values: Vec<(String, SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
        for (name, input) in inputs {
            let as_f16 = type_of(self.session.inputs(), name) == TensorElementType::Float16;
            values.push((name.to_string(), to_value(input, as_f16)?));
        }
        let session = &mut self.session;
        let found = stoppable(how, |options| {
            let found = session.run_with_options(values, options);
            collect(&found.map_err(detached)?, outputs)
        })?;
        if let Some(bindings) = &mut self.bindings {
            bindings.remember(inputs, outputs, &found);
        }
        Ok(found)
    }
}

/// An error that does not borrow from the session.
fn detached<R>(error: ort::Error<R>) -> ort::Error {
    ort::Error::new_with_code(error.code(), error.message().to_owned())
}
