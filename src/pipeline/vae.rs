//! A VAE graph on one picture, whole or in strips.

use super::event::Timer;
use super::graphs::Graph;
use super::plan::{Strips, VaePlan, after_failure};
use super::run::Run;
use crate::canvas::{Canvas, ReadRows};
use crate::error::{Error, ErrorKind, Result};
use crate::nets::Network;
use crate::nets::segments::{Bands, MOST_KEYS};
use crate::tensor::Image;

/// The VAE encoder or decoder and its input.
pub(super) struct VaeEnd<'a> {
    pub(super) graph: &'a Graph,
    pub(super) plan: VaePlan,
    /// Height and width of the input.
    pub(super) input: (usize, usize),
    /// Reads rows of the input.
    pub(super) read: &'a ReadRows<'a>,
    /// Runs the graph on the whole input.
    pub(super) whole: &'a dyn Fn(&mut dyn Network) -> Result<Image>,
    /// The networks needed next.
    pub(super) next: &'a [&'a str],
}

impl Run<'_> {
    /// Runs a VAE graph; in strips if the whole picture runs out of memory.
    pub(super) fn run_vae(&self, end: &VaeEnd<'_>, timer: &Timer<'_, '_>) -> Result<Canvas> {
        let name = &end.graph.name;
        self.networks.lock()?.stage(&[name], self.plan.keep);
        let strips = |strips| self.run_strips(end.graph, strips, (end.input, end.read), timer);
        if let VaePlan::Bands(planned) = end.plan {
            return strips(planned);
        }
        self.networks.with(name, |_| Ok(()))?;
        self.prepare(end.next)?;
        timer.loaded()?;
        match (self.networks.with(name, end.whole), &end.graph.segments) {
            (Err(e), Some(segments)) if e.kind() == ErrorKind::Resources => {
                strips(after_failure(&end.graph.memory, segments, end.input))
            }
            (made, _) => made.map(Canvas::from),
        }
    }

    /// Runs a graph in strips over an input of a size, whose rows a function reads.
    pub(super) fn run_strips(
        &self,
        graph: &Graph,
        strips: Strips,
        (input, read): ((usize, usize), &ReadRows<'_>),
        timer: &Timer<'_, '_>,
    ) -> Result<Canvas> {
        let plan = graph.segments.as_ref();
        let plan = plan.ok_or_else(|| Error::internal("strips without segments"))?;
        let strips = Bands {
            plan,
            graph: &graph.name,
            height: strips.height,
            place: strips.place,
            store: &self.store,
            most_keys: MOST_KEYS,
        };
        let mut networks = self.networks.lock()?;
        // The whole graph is not needed for strips.
        networks.stage(&[], self.plan.keep);
        let on_tile = |k, count| timer.tile(k, count);
        let made = strips.run(&mut **networks, input, read, &on_tile);
        networks.stage(&[], self.plan.keep);
        made
    }
}
