//! From a sampled latent to a picture.

use std::cell::RefCell;

use ndarray::{Array3, Axis, s};

use super::plan::{VaePlan, Work, after_failure};
use super::stage2::one;
use super::{Event, Graph, Intermediate, Observer, Pipeline, Sample, Stage, Timer, stage1};
use crate::canvas::{Canvas, ReadRows};
use crate::color::Correction;
use crate::error::{ErrorKind, Result};
use crate::nets::segments::{Bands, MOST_KEYS};
use crate::nets::vae;
use crate::nets::{Network, Networks};
use crate::options::ColorFix;
use crate::resize;
use crate::tensor::{Image, Latent, size, to_hwc};

/// An end of the VAE on one picture, whole or in bands.
pub(super) struct Vae<'a> {
    pub(super) stage: Stage,
    pub(super) graph: &'a Graph,
    pub(super) how: VaePlan,
    pub(super) work: &'a Work<'a>,
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
                let net = networks.get(name)?;
                timer.loaded(observe)?;
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
            return Err(crate::error::Error::internal("bands without segments"));
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

impl Pipeline {
    /// The picture of sample `k` in `[-1, 1]`, as large as `cond_img`.
    pub(super) fn decode(
        &self,
        k: usize,
        z: Latent,
        cond_img: &Canvas,
        work: &Work<'_>,
        networks: &mut dyn Networks,
        observe: &mut Observer<'_>,
    ) -> Result<Canvas> {
        let timer = Timer::start(Stage::VaeDecoder, observe)?;
        let vae = Vae {
            stage: Stage::VaeDecoder,
            graph: &self.graphs.decoder,
            how: work.plan.decoder,
            work,
        };
        let read = |rows| Ok(z.slice(s![.., .., rows, ..]).to_owned());
        let whole = |net: &mut dyn Network| vae::decode(net, &z);
        let decoded = vae.run(size(&z), &read, &whole, &timer, networks, observe)?;
        let decoded = work.placed(decoded, cond_img.size())?;
        observe(Event::Picture(Intermediate::Decoded, one(k), &decoded))?;
        timer.finish(observe)?;
        Ok(decoded)
    }

    /// Colours, size and 8 bits, and 16 where `deep` asks for them.
    pub(super) fn finish(
        &self,
        k: usize,
        decoded: Canvas,
        cond_img: &Canvas,
        deep: bool,
        work: &Work<'_>,
        observe: &mut Observer<'_>,
    ) -> Result<Sample> {
        let timer = Timer::start(Stage::Finish, observe)?;
        let fixed = self.fix_colors(&decoded, cond_img, work)?;
        drop(decoded);
        observe(Event::Picture(Intermediate::ColorFixed, one(k), &fixed))?;
        let fixed = stage1::resized(fixed, work.sizes.padded_output, work)?;
        let (height, width) = work.sizes.output;
        let mut sample = Sample {
            rgb: Array3::zeros((height, width, 3)),
            deep: deep.then(|| Array3::zeros((height, width, 3))),
        };
        for rows in work.bands((height, width)) {
            let part = fixed.window(rows.clone(), 0..width)?;
            let rgb = to_hwc(resize::quantise(&part)).index_axis_move(Axis(0), 0);
            sample.rgb.slice_mut(s![rows.clone(), .., ..]).assign(&rgb);
            if let Some(deep) = &mut sample.deep {
                let part = to_hwc(resize::quantise_deep(&part)).index_axis_move(Axis(0), 0);
                deep.slice_mut(s![rows, .., ..]).assign(&part);
            }
        }
        timer.finish(observe)?;
        Ok(sample)
    }

    /// `decoded` in `[-1, 1]` to `[0, 1]`, with its colours from `cond_img`.
    fn fix_colors(&self, decoded: &Canvas, cond_img: &Canvas, work: &Work<'_>) -> Result<Canvas> {
        let size = decoded.size();
        let read = |rows| Ok(decoded.rows(rows)?.mapv_into(|x| (x + 1.0) / 2.0));
        let correction = match self.options.restore.color_fix {
            ColorFix::Wavelet => Correction::Wavelet(cond_img),
            ColorFix::Adain => Correction::adain(&read, cond_img, work.rows_at_once(size))?,
            ColorFix::None => Correction::None,
        };
        let mut fixed = work.picture(size)?;
        for rows in work.bands(size) {
            let part = correction.rows(&read, size.0, rows.clone())?;
            fixed.put(rows.start, 0, part.view())?;
        }
        Ok(fixed)
    }
}
