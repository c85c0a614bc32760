//! The analytic model in tiles.

use diffbir::denoise::{Branch, NoiseModel};
use diffbir::error::Result;
use diffbir::tensor::Latent;
use diffbir::tiling::Tiles;

use crate::analytic::AnalyticModel;

pub struct TiledModel<'a> {
    pub model: &'a mut AnalyticModel,
    pub tiles: Tiles,
}

impl NoiseModel for TiledModel<'_> {
    fn predict(&mut self, x_t: &Latent, timestep: f32, branches: &[Branch]) -> Result<Vec<Latent>> {
        let whole = self.model.c_img.clone();
        let mut outputs = Vec::new();
        for &branch in branches {
            let tiled = self.tiles.blend(x_t, 1, &|_, _| Ok(()), |tile, window| {
                self.model.c_img = window.of(&whole);
                Ok(self.model.predict(&tile, timestep, &[branch])?.remove(0))
            });
            outputs.push(tiled?);
        }
        self.model.c_img = whole;
        Ok(outputs)
    }
}
