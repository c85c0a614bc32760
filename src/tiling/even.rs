//! The engine's own tiles: evenly spaced, with smooth weights that sum to 1.

use std::f64::consts::FRAC_PI_2;

use serde::{Deserialize, Serialize};

use super::{Grid, Layout};
use crate::error::{Error, Result};

/// Size and overlap of tiles: the fewest that keep the overlap, evenly spaced, so that no two tiles nearly coincide.
/// An axis shorter than a tile is not divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvenTiles {
    /// Edge of a tile.
    pub size: usize,
    /// Minimum overlap of neighbours, less than the size.
    pub overlap: usize,
}

impl EvenTiles {
    /// The windows that cover an array of this size (height, width).
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option) if the overlap is not less than the size.
    pub fn grid(&self, (height, width): (usize, usize)) -> Result<Grid> {
        let EvenTiles { size, overlap } = *self;
        if overlap >= size {
            return Err(Error::option(format!(
                "tiles of {size} with an overlap of {overlap}: expected an overlap of less than the size"
            )));
        }
        Ok(Grid::new(Layout::Even(*self), (height, width), 1))
    }

    /// Number of windows over `length`: the fewest that keep the overlap.
    pub(super) fn count(&self, length: usize) -> usize {
        if length <= self.size {
            return 1;
        }
        (length - self.overlap).div_ceil(self.size - self.overlap)
    }

    /// Start of window `k`.
    pub(super) fn start(&self, length: usize, k: usize) -> usize {
        let gaps = self.count(length) - 1;
        let last = length.saturating_sub(self.size);
        (2 * k * last + gaps).checked_div(2 * gaps).unwrap_or(0)
    }

    /// The weights of window `k`: its [raised cosine](Self::raised_cosine) divided by the sum of those of all windows.
    pub(super) fn weights(&self, length: usize, k: usize) -> Vec<f64> {
        let size = self.size.min(length);
        let start = self.start(length, k);
        let mut total = vec![0.0; size];
        for other in self.overlapping(length, k) {
            let from = self.start(length, other);
            for (i, weight) in (from..).zip(self.raised_cosine(length, other)) {
                if (start..start + size).contains(&i) {
                    total[i - start] += weight;
                }
            }
        }
        let own = self.raised_cosine(length, k);
        own.zip(total)
            .map(|(weight, total)| weight / total)
            .collect()
    }

    /// The windows that overlap window `k`, itself included, in ascending order.
    fn overlapping(&self, length: usize, k: usize) -> impl Iterator<Item = usize> {
        let (count, size, start) = (self.count(length), self.size, self.start(length, k));
        let near = move |&j: &usize| self.start(length, j).abs_diff(start) < size;
        let first = (0..k).rev().take_while(near).last().unwrap_or(k);
        (first..count).take_while(near)
    }

    /// The unnormalised weights of window `k`: a raised cosine across the overlap with each neighbour. They sum to 1
    /// where at most two windows overlap.
    fn raised_cosine(&self, length: usize, k: usize) -> impl Iterator<Item = f64> {
        let size = self.size.min(length);
        let shared = |a: usize| (self.start(length, a) + size - self.start(length, a + 1)) as f64;
        let before = (k > 0).then(|| shared(k - 1));
        let after = (k + 1 < self.count(length)).then(|| shared(k));
        let rise = |distance: f64, shared: Option<f64>| {
            let share = shared.map_or(1.0, |shared| (distance / shared).min(1.0));
            (FRAC_PI_2 * share).sin().powi(2)
        };
        (0..size).map(move |i| {
            let middle = i as f64 + 0.5;
            rise(middle, before) * rise(size as f64 - middle, after)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array4;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn spans_are_even_and_overlap_and_their_weights_sum_up_to_1(
            length in 1..300_usize, size in 2..80_usize, overlap in 0..80_usize
        ) {
            let tiles = EvenTiles { size, overlap: overlap.min(size - 1) };
            let windows = 0..tiles.count(length);
            let mut total = vec![0.0; length];
            for k in windows.clone() {
                let weights = tiles.weights(length, k);
                prop_assert_eq!(weights.len(), size.min(length));
                prop_assert!(weights.iter().all(|weight| (0.0..=1.0 + 1e-12).contains(weight)));
                let place = &mut total[tiles.start(length, k)..][..weights.len()];
                place.iter_mut().zip(&weights).for_each(|(total, weight)| *total += weight);
            }
            prop_assert!(total.iter().all(|total| (total - 1.0).abs() < 1e-12));
            let starts: Vec<usize> = windows.map(|k| tiles.start(length, k)).collect();
            let gaps: Vec<usize> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
            prop_assert!(gaps.iter().all(|gap| gap + tiles.overlap <= size));
            let spread = gaps.iter().max().zip(gaps.iter().min());
            prop_assert!(spread.is_none_or(|(most, least)| most - least <= 1));
        }

        #[test]
        fn the_batch_does_not_change_what_is_blended(
            h in 8..40_usize, w in 8..40_usize, size in 4..12_usize, batch in 1..12_usize
        ) {
            let grid = EvenTiles { size, overlap: size / 4 }.grid((h, w)).unwrap();
            let x = Array4::from_shape_fn((2, 3, h, w), |(n, c, y, x)| (n * 57 + c * 31 + y * 7 + x) as f32);
            let blend = |batch: usize| {
                let reported = std::cell::RefCell::new(Vec::new());
                let on_tile = |k, count| { reported.borrow_mut().push((k, count)); Ok(()) };
                let blended = grid.blend(&x, batch, &on_tile, |x, windows| {
                    assert!(windows.len() <= batch);
                    Ok(x.axis_chunks_iter(ndarray::Axis(0), 2).map(|tile| tile.mapv(|x| 2.0 * x)).collect())
                });
                (blended.unwrap(), reported.into_inner())
            };
            let (blended, reported) = blend(batch);
            prop_assert_eq!(&blended, &blend(1).0);
            prop_assert!((blended - &x * 2.0).iter().all(|d| d.abs() < 1e-3));
            let count = grid.count();
            prop_assert_eq!(reported, (0..count).map(|k| (k, count)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_fewest_tiles_are_spread_evenly() {
        let tiles = EvenTiles {
            size: 64,
            overlap: 16,
        };
        let starts = |length| -> Vec<usize> {
            let windows = 0..tiles.count(length);
            windows.map(|k| tiles.start(length, k)).collect()
        };
        assert_eq!(starts(40), [0]);
        assert_eq!(starts(64), [0]);
        assert_eq!(starts(72), [0, 8]);
        assert_eq!(starts(112), [0, 48]);
        assert_eq!(starts(128), [0, 32, 64]);
        assert_eq!(starts(192), [0, 43, 85, 128]);
        assert!(
            EvenTiles {
                size: 8,
                overlap: 8
            }
            .grid((20, 20))
            .is_err()
        );
    }
}
