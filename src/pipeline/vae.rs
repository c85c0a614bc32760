//! The VAE's ends on one picture, whole or in bands.

use std::cell::RefCell;

use super::plan::{VaePlan, Work, after_failure};
use super::{Event, Graph, Observer, Stage, Timer};
use crate::canvas::{Canvas, ReadRows};
use crate::error::{Error, ErrorKind, Result};
use crate::nets::segments::{Bands, MOST_KEYS};
use crate::nets::{Network, Networks};
use crate::tensor::Image;

/// An end of the VAE on one picture, whole or in bands.
pub(super) struct Vae<'a> {
    pub(super) stage: Stage,
    pub(super) graph: &'a Graph,
    pub(super) how: VaePlan,
    pub(super) work: &'a Work<'a>,
    /// The networks that are needed next.
    pub(super) next: &'a [&'a str],
}

impl Vae<'_> {
    /// Runs on an input of `input` cells, which `read` gives by rows and `whole` runs the whole graph on.
    pub(super) fn run(
        &self,
        input: (usize, usize),
        read: &ReadRows<'_>,
        whole: &dyn Fn(&mut dyn Network) -> Result<Image>,
        timer: &Timer,
        networks: &mut dyn Networks,
        observe: &mut Observer<'_>,
    ) -> Result<Canvas> {
        let name = &self.graph.name;
        networks.stage(&[name], self.work.plan.keep);
        let segments = self.graph.segments.as_ref();
        let how = match (self.how, segments) {
            (VaePlan::Whole, segments) => {
                networks.get(name)?;
                self.work.prepare(self.next, networks);
                timer.loaded(observe)?;
                let net = networks.get(name)?;
                match (whole(net), segments) {
                    (Err(e), Some(plan)) if e.kind() == ErrorKind::Resources => {
                        after_failure(&self.graph.memory, plan, input)
                    }
                    (made, _) => return made.map(Canvas::from),
                }
            }
            (bands, _) => bands,
        };
        let (VaePlan::Bands { height, place }, Some(plan)) = (how, segments) else {
            return Err(Error::internal("bands without segments"));
        };
        // The whole graph is not needed now.
        networks.stage(&[], self.work.plan.keep);
        let bands = Bands {
            plan,
            graph: name,
            height,
            place,
            store: self.work.store,
            most_keys: MOST_KEYS,
        };
        let observer = RefCell::new(observe);
        let on_tile = |k, count| observer.borrow_mut()(Event::Tile(self.stage, k, count));
        let made = bands.run(networks, input, read, &on_tile);
        networks.stage(&[], self.work.plan.keep);
        made
    }
}
