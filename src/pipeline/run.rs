//! One restoration run: the state that its stages share.

use std::ops::Range;

use super::event::{Events, Timer};
use super::sizes::rows_at_once;
use super::{Pipeline, Plan, Samples, Sizes, Stage};
use crate::canvas::{Canvas, Store, bands};
use crate::error::{Error, ErrorKind, Result};
use crate::nets::Shared;
use crate::resize;
use crate::tensor::{Image, Padding};

/// The state that a run's stages share.
pub(super) struct Run<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) plan: &'a Plan,
    pub(super) sizes: Sizes,
    pub(super) store: Store,
    pub(super) networks: Shared<'a>,
    pub(super) events: Events<'a>,
}

impl Run<'_> {
    /// Runs a stage between its first and last event.
    pub(super) fn stage<T>(
        &self,
        stage: Stage,
        samples: Samples,
        work: impl FnOnce(&Timer<'_, '_>) -> Result<T>,
    ) -> Result<T> {
        let timer = self.events.start(stage)?;
        let made = work(&timer).map_err(|e| placed(e, stage, samples))?;
        timer.finish()?;
        Ok(made)
    }

    /// Starts loading `graphs` in the background, if the plan allows it.
    pub(super) fn prepare(&self, graphs: &[&str]) -> Result<()> {
        if self.plan.ahead {
            let mut networks = self.networks.lock()?;
            graphs.iter().for_each(|graph| networks.prepare(graph));
        }
        Ok(())
    }

    /// A picture of `size` in the plan's storage (memory or disk), made in blocks of rows; `make` returns a block,
    /// `[1, 3, rows, width]`. The observer may stop the work before each block.
    pub(super) fn picture(
        &self,
        size: (usize, usize),
        mut make: impl FnMut(Range<usize>) -> Result<Image>,
    ) -> Result<Canvas> {
        let mut picture = self.empty_picture(size)?;
        self.for_rows(size, |rows| {
            let start = rows.start;
            picture.put(start, 0, make(rows)?.view())
        })?;
        Ok(picture)
    }

    /// A picture of zeros in the plan's storage.
    pub(super) fn empty_picture(&self, size: (usize, usize)) -> Result<Canvas> {
        self.store.canvas(self.plan.pictures, 3, size)
    }

    /// Runs `work` on all rows of a picture of `size`, block by block. The observer may stop the work before each
    /// block.
    pub(super) fn for_rows(
        &self,
        size: (usize, usize),
        mut work: impl FnMut(Range<usize>) -> Result<()>,
    ) -> Result<()> {
        bands(size.0, rows_at_once(size)).try_for_each(|rows| {
            self.events.checkpoint()?;
            work(rows)
        })
    }

    /// Resizes `picture` by torch's bicubic filter; no copy if it has that size already.
    pub(super) fn resized(&self, picture: Canvas, size: (usize, usize)) -> Result<Canvas> {
        if picture.size() == size {
            return Ok(picture);
        }
        self.picture(size, |rows| {
            resize::torch_bicubic_rows(&picture, size, rows)
        })
    }

    /// Crops `picture` to `size`, or continues it by reflection, in the plan's storage; no copy if nothing changes.
    pub(super) fn placed(&self, picture: Canvas, size: (usize, usize)) -> Result<Canvas> {
        if picture.size() == size && picture.place() == self.plan.pictures {
            return Ok(picture);
        }
        self.picture(size, |rows| {
            picture.padded(rows, 0..size.1, Padding::Reflect)
        })
    }
}

/// Adds the stage, the samples and a hint to an error of non-finite values.
fn placed(error: Error, stage: Stage, samples: Samples) -> Error {
    if error.kind() != ErrorKind::NotFinite {
        return error;
    }
    let sample = match (stage, samples.count) {
        (Stage::Sampling, 1) | (Stage::VaeDecoder | Stage::Finish, _) => {
            format!(", sample {}", samples.first)
        }
        (Stage::Sampling, n) => format!(", samples {} to {}", samples.first, samples.first + n - 1),
        _ => String::new(),
    };
    let causes = match stage {
        Stage::Sampling => {
            "look for a strength, cfg_scale, s_noise or guidance.scale far beyond 1, or a graph that overflows in fp16 or int8"
        }
        _ => "look for a graph that overflows in fp16 or int8",
    };
    error
        .at(format!("{}{sample}", stage.name()))
        .with_hint(causes)
}
