//! A loaded network of a bundle.

use crate::cancel::Cancel;
use crate::error::Result;
use crate::nets::Network;
use crate::runtime::parts::Parts;
use crate::runtime::{GraphFile, Role, RuntimeOptions, Session};

/// A network that is ready to run.
pub(super) enum LoadedGraph {
    /// One session.
    Whole(Box<Session>),
    /// A weight-streamed denoiser: none of its parts stays loaded between runs.
    Parts(Box<Parts>),
}

impl LoadedGraph {
    /// Loads the variant of `graph` with this `role`.
    pub(super) fn load(graph: &GraphFile, role: Role, options: &RuntimeOptions) -> Result<Self> {
        match graph.parts(options) {
            Some(variant) => {
                let parts = Parts::open(graph, variant.path.clone(), options)?;
                Ok(LoadedGraph::Parts(Box::new(parts)))
            }
            None => {
                let session = Session::load_form(graph, options, role)?;
                Ok(LoadedGraph::Whole(Box::new(session)))
            }
        }
    }

    /// The provider with the most nodes, by ONNX Runtime's name.
    pub(super) fn provider(&self) -> &str {
        match self {
            LoadedGraph::Whole(session) => session.provider(),
            LoadedGraph::Parts(parts) => parts.provider(),
        }
    }

    /// The network, whose runs `cancel` ends; `shrink` as in [`Session::shrink`].
    pub(super) fn network(&mut self, shrink: bool, cancel: &Cancel) -> Result<&mut dyn Network> {
        match self {
            LoadedGraph::Whole(session) => {
                session.shrink(shrink)?;
                session.cancelled_by(cancel);
                Ok(session.as_mut())
            }
            LoadedGraph::Parts(parts) => {
                parts.cancelled_by(cancel);
                Ok(parts.as_mut())
            }
        }
    }
}
