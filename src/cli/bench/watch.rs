//! Timing of a restoration.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use crate::pipeline::{Event, Stage};

/// Seconds of one restoration and of its parts.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Run {
    /// Total, loading included.
    pub whole: f64,
    /// Each stage, without loading.
    pub stages: BTreeMap<Stage, f64>,
    /// Loading of each stage's graph.
    pub loads: BTreeMap<Stage, f64>,
    /// Each step of the sampler.
    pub steps: Vec<f64>,
}

/// Records the times of events.
pub(super) struct Watch {
    start: Instant,
    step: Instant,
    run: Run,
}

impl Watch {
    /// Starts the timing.
    pub(super) fn start() -> Self {
        let now = Instant::now();
        Watch {
            start: now,
            step: now,
            run: Run::default(),
        }
    }

    /// Records an event.
    pub(super) fn see(&mut self, event: &Event<'_>) {
        match event {
            Event::Loaded(stage, seconds) => {
                *self.run.loads.entry(*stage).or_default() += seconds;
                self.step = Instant::now();
            }
            Event::Step(..) => {
                self.run.steps.push(self.step.elapsed().as_secs_f64());
                self.step = Instant::now();
            }
            Event::Finished(stage, seconds) => {
                *self.run.stages.entry(*stage).or_default() += seconds;
            }
            _ => {}
        }
    }

    /// Ends the timing.
    pub(super) fn stop(mut self) -> Run {
        self.run.whole = self.start.elapsed().as_secs_f64();
        for (stage, loading) in &self.run.loads {
            if let Some(seconds) = self.run.stages.get_mut(stage) {
                *seconds = (*seconds - loading).max(0.0);
            }
        }
        self.run
    }
}

/// Median and minimum of several figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    pub median: f64,
    pub min: f64,
}

impl Spread {
    /// `None` without figures.
    pub(super) fn of(figures: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.collect();
        sorted.sort_by(f64::total_cmp);
        let min = *sorted.first()?;
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Spread {
            median: (low + high) / 2.0,
            min,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middles() {
        let of = |figures: &[f64]| Spread::of(figures.iter().copied());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3.0, 1.0, 2.0]).unwrap().median, 2.0);
        let even = of(&[4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!((even.median, even.min), (2.5, 1.0));
    }

    #[test]
    fn loading_is_no_part_of_a_stage() {
        let mut watch = Watch::start();
        for _ in 0..2 {
            watch.see(&Event::Started(Stage::VaeDecoder));
            watch.see(&Event::Loaded(Stage::VaeDecoder, 0.25));
            watch.see(&Event::Finished(Stage::VaeDecoder, 1.0));
        }
        let run = watch.stop();
        assert_eq!(run.loads[&Stage::VaeDecoder], 0.5);
        assert_eq!(run.stages[&Stage::VaeDecoder], 1.5);
    }
}
