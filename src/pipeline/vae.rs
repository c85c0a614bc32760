//! A VAE graph on one picture, whole or in strips.

use super::event::Timer;
use super::graphs::Graph;
use super::plan::{VaePlan, after_failure};
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
        if end.plan != VaePlan::Whole {
            return self.run_strips(end, end.plan, timer);
        }
        self.networks.with(name, |_| Ok(()))?;
        self.prepare(end.next)?;
        timer.loaded()?;
        match (self.networks.with(name, end.whole), &end.graph.segments) {
            (Err(e), Some(segments)) if e.kind() == ErrorKind::Resources => {
                let plan = after_failure(&end.graph.memory, segments, end.input);
                self.run_strips(end, plan, timer)
            }
            (made, _) => made.map(Canvas::from),
        }
    }

    fn run_strips(&self, end: &VaeEnd<'_>, plan: VaePlan, timer: &Timer<'_, '_>) -> Result<Canvas> {
        let (VaePlan::Bands { height, place }, Some(plan)) = (plan, &end.graph.segments) else {
            return Err(Error::internal("strips without segments"));
        };
        let strips = Bands {
            plan,
            graph: &end.graph.name,
            height,
            place,
            store: &self.store,
            most_keys: MOST_KEYS,
        };
        let mut networks = self.networks.lock()?;
        // The whole graph is not needed for strips.
        networks.stage(&[], self.plan.keep);
        let on_tile = |k, count| timer.tile(k, count);
        let made = strips.run(&mut **networks, end.input, end.read, &on_tile);
        networks.stage(&[], self.plan.keep);
        made
    }
}
