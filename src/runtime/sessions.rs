//! The sessions of a bundle as [`Networks`].

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::nets::{Network, Networks};
use crate::runtime::{GraphFile, MemoryPolicy, Provider, RuntimeOptions, Session, heap};

/// Above this many bytes of graphs, [`MemoryPolicy::Auto`] keeps one session at a time.
const KEEP_LIMIT: u64 = 1 << 30;

/// The sessions of one bundle, loaded when first asked for and released by a [`MemoryPolicy`].
pub struct Sessions {
    graphs: Vec<GraphFile>,
    options: RuntimeOptions,
    keep: bool,
    loaded: BTreeMap<String, Session>,
    /// The segment used last, and its graph's and its own name.
    segment: Option<(String, String, Session)>,
    providers: BTreeMap<String, String>,
}

impl Sessions {
    /// The sessions of `graphs`; none is loaded yet.
    pub fn new(graphs: Vec<GraphFile>, options: RuntimeOptions) -> Self {
        let keep = match options.memory {
            MemoryPolicy::Keep => true,
            MemoryPolicy::Sequential => false,
            MemoryPolicy::Auto => graphs.iter().map(|graph| graph.bytes).sum::<u64>() <= KEEP_LIMIT,
        };
        Sessions {
            graphs,
            options,
            keep,
            loaded: BTreeMap::new(),
            segment: None,
            providers: BTreeMap::new(),
        }
    }
}

impl Sessions {
    fn file(&self, graph: &str) -> Result<&GraphFile> {
        let file = self.graphs.iter().find(|file| file.name == graph);
        file.ok_or_else(|| Error::bundle(format!("the bundle has no graph `{graph}`")))
    }
}

impl Networks for Sessions {
    fn stage(&mut self, graphs: &[&str], keep: bool) {
        if !keep && self.options.return_memory {
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
        }
    }

    fn keeps(&self) -> bool {
        self.keep
    }

    fn on_host(&self) -> bool {
        self.options.all_providers().all(Provider::on_host)
    }

    fn get(&mut self, graph: &str) -> Result<&mut dyn Network> {
        if !self.loaded.contains_key(graph) {
            let session = Session::load(self.file(graph)?, &self.options)?;
            self.providers
                .insert(graph.to_owned(), session.provider().to_owned());
            self.loaded.insert(graph.to_owned(), session);
        }
        match self.loaded.get_mut(graph) {
            Some(session) => Ok(session),
            None => Err(Error::internal(format!("the session of `{graph}` is gone"))),
        }
    }

    fn segment(&mut self, graph: &str, segment: &str) -> Result<&mut dyn Network> {
        let there = |held: &(String, String, Session)| {
            (held.0.as_str(), held.1.as_str()) == (graph, segment)
        };
        if !self.segment.as_ref().is_some_and(there) {
            // The last one's memory first.
            self.segment = None;
            let session = Session::load_segment(self.file(graph)?, segment, &self.options)?;
            self.providers
                .insert(graph.to_owned(), session.provider().to_owned());
            self.segment = Some((graph.to_owned(), segment.to_owned(), session));
        }
        match &mut self.segment {
            Some((_, _, session)) => Ok(session),
            None => Err(Error::internal(format!(
                "segment {segment} of `{graph}` is gone"
            ))),
        }
    }

    fn providers(&self) -> Vec<(String, String)> {
        self.providers
            .iter()
            .map(|(graph, provider)| (graph.clone(), provider.clone()))
            .collect()
    }
}
