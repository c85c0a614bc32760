//! The sessions of a bundle as [`Networks`].

use std::collections::BTreeMap;
use std::thread::{self, JoinHandle};

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::nets::contract::GraphKind;
use crate::nets::{GraphInfo, Network, NetworkInfo, Networks};
use crate::runtime::loaded::LoadedGraph;
use crate::runtime::{
    GraphFile, MemoryPolicy, Provider, RuntimeOptions, Session, check, exit, heap, variants,
};

/// Above this many bytes of graphs, the arena of graphs that run once per picture is shrunk after each run, so that
/// the peaks of denoiser and decoder do not add up. The time it takes is negligible next to theirs.
const LARGE: u64 = 1 << 30;

/// The sessions of one bundle, loaded on first use and released by a [`MemoryPolicy`].
pub struct Sessions {
    graphs: Vec<GraphFile>,
    options: RuntimeOptions,
    keep: bool,
    is_large: bool,
    loaded: BTreeMap<String, LoadedGraph>,
    /// Sessions being loaded on other threads.
    pending: BTreeMap<String, JoinHandle<Result<LoadedGraph>>>,
    /// The last segment used, with the names of its graph and itself.
    segment: Option<(String, String, Session)>,
    providers: BTreeMap<String, String>,
    /// Whether runs release their memory, since memory is short.
    shrink: bool,
    /// Ends runs.
    cancel: Cancel,
}

impl Sessions {
    /// The sessions of `graphs`; none is loaded yet.
    pub fn new(graphs: Vec<GraphFile>, options: RuntimeOptions) -> Self {
        let keep = match options.memory {
            MemoryPolicy::Keep | MemoryPolicy::Auto => true,
            MemoryPolicy::Sequential | MemoryPolicy::Least => false,
        };
        let bytes = graphs.iter().map(|graph| graph.bytes).sum::<u64>();
        Sessions {
            is_large: bytes > LARGE,
            graphs,
            options,
            keep,
            loaded: BTreeMap::new(),
            pending: BTreeMap::new(),
            segment: None,
            providers: BTreeMap::new(),
            shrink: false,
            cancel: Cancel::default(),
        }
    }
}

impl Sessions {
    fn file(&self, graph: &str) -> Result<&GraphFile> {
        let file = self.graphs.iter().find(|file| file.name == graph);
        file.ok_or_else(|| Error::bundle(format!("the bundle has no graph `{graph}`")))
    }

    /// Whether `network` runs once per picture, rather than in every step.
    fn runs_once(&self, network: &str) -> bool {
        let file = self.file(variants::graph_of(network).0);
        let kind = file.map(|file| file.kind);
        let in_steps = [GraphKind::Denoiser, GraphKind::VaeDecoderVjp];
        kind.is_ok_and(|kind| !in_steps.contains(&kind))
    }

    /// A function that loads `network`, on any thread.
    fn loader(&self, network: &str) -> Result<impl FnOnce() -> Result<LoadedGraph> + Send + use<>> {
        check::check_int8(&self.graphs, &self.options)?;
        let (graph, role) = variants::graph_of(network);
        let (file, options) = (self.file(graph)?.clone(), self.options.clone());
        Ok(move || LoadedGraph::load(&file, role, &options))
    }
}

impl Networks for Sessions {
    fn stage(&mut self, graphs: &[&str], keep: bool) {
        self.shrink = !keep;
        if !keep && heap::is_ours() {
            heap::return_large_blocks();
        }
        if self
            .segment
            .as_ref()
            .is_some_and(|held| !graphs.contains(&held.0.as_str()))
        {
            self.segment = None;
        }
        if !(keep && self.keep) {
            self.loaded
                .retain(|name, _| graphs.contains(&name.as_str()));
            self.pending
                .retain(|name, _| graphs.contains(&name.as_str()));
        }
    }

    fn cancelled_by(&mut self, cancel: &Cancel) {
        self.cancel = cancel.clone();
    }

    fn prepare(&mut self, network: &str) {
        let there = self.loaded.contains_key(network) || self.pending.contains_key(network);
        let (false, Ok(load)) = (there, self.loader(network)) else {
            return;
        };
        // Exit waits for this thread even if the request ends first.
        let load = || match exit::enter(None) {
            Some(_entered) => load(),
            None => Err(Error::cancelled()),
        };
        // If no thread can be started, the network is loaded on first use.
        if let Ok(thread) = thread::Builder::new().spawn(load) {
            self.pending.insert(network.to_owned(), thread);
        }
    }

    fn get(&mut self, graph: &str) -> Result<&mut dyn Network> {
        if !self.loaded.contains_key(graph) {
            let session = match self.pending.remove(graph) {
                Some(thread) => thread
                    .join()
                    .unwrap_or_else(|_| Err(Error::internal(format!("loading `{graph}` failed")))),
                None => self.loader(graph)?(),
            }?;
            let (whole, _) = variants::graph_of(graph);
            self.providers
                .insert(whole.to_owned(), session.provider().to_owned());
            self.loaded.insert(graph.to_owned(), session);
        }
        let rarely = self.is_large && self.runs_once(graph);
        match self.loaded.get_mut(graph) {
            Some(session) => session.network(self.shrink || rarely, &self.cancel),
            None => Err(Error::internal(format!("the session of `{graph}` is gone"))),
        }
    }

    fn segment(&mut self, graph: &str, segment: &str) -> Result<&mut dyn Network> {
        let there = |held: &(String, String, Session)| {
            (held.0.as_str(), held.1.as_str()) == (graph, segment)
        };
        if !self.segment.as_ref().is_some_and(there) {
            // Release the last segment's memory before loading.
            self.segment = None;
            let file = self.file(graph)?;
            let none = || Error::bundle(format!("the graph `{graph}` has no segments"));
            let path = file.segments.as_ref().ok_or_else(none)?;
            let mut session = Session::load_embedded(file, path, segment, &self.options)?;
            session.shrink(self.shrink)?;
            self.providers
                .insert(graph.to_owned(), session.provider().to_owned());
            self.segment = Some((graph.to_owned(), segment.to_owned(), session));
        }
        match &mut self.segment {
            Some((_, _, session)) => {
                session.cancelled_by(&self.cancel);
                Ok(session)
            }
            None => Err(Error::internal(format!(
                "segment {segment} of `{graph}` is gone"
            ))),
        }
    }

    fn info(&self) -> NetworkInfo {
        let of_graph = |file: &GraphFile| {
            let info = GraphInfo {
                provider: self.providers.get(&file.name).cloned(),
                ..file.info(&self.options)
            };
            (file.name.clone(), info)
        };
        NetworkInfo {
            keeps: self.keep,
            sharing: self.options.sharing(),
            on_host: self.options.all_providers().all(Provider::on_host),
            graphs: self.graphs.iter().map(of_graph).collect(),
        }
    }
}

impl Drop for Sessions {
    /// The process must not end while ONNX Runtime runs in it.
    fn drop(&mut self) {
        for (_, thread) in std::mem::take(&mut self.pending) {
            // The network is not needed any more, so a failure does not matter.
            drop(thread.join());
        }
    }
}
