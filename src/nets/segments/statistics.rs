//! Mean and variance of a canvas, gathered while it is written.

use ndarray::{Array4, ArrayView4};

use super::plan::Norm;

/// Sums over a canvas's channels, in f64: with up to 1e8 values per channel, f32's rounding errors become visible.
#[derive(Debug, Clone)]
pub(super) struct Sums {
    sums: Vec<f64>,
    squares: Vec<f64>,
    cells: usize,
}

impl Sums {
    pub(super) fn new(channels: usize) -> Self {
        Sums {
            sums: vec![0.0; channels],
            squares: vec![0.0; channels],
            cells: 0,
        }
    }

    /// Adds a part `[1, C, h, w]`.
    pub(super) fn add(&mut self, part: ArrayView4<'_, f32>) {
        let (_, _, height, width) = part.dim();
        self.cells += height * width;
        let planes = part.index_axis_move(ndarray::Axis(0), 0);
        for (c, plane) in planes.outer_iter().enumerate() {
            for row in plane.outer_iter() {
                let (mut sum, mut squares) = (0.0, 0.0);
                for &x in row {
                    let x = f64::from(x);
                    sum += x;
                    squares += x * x;
                }
                self.sums[c] += sum;
                self.squares[c] += squares;
            }
        }
    }

    /// Mean and 1 / sqrt(variance + eps) of each channel's group, `[1, C, 1, 1]` each.
    pub(super) fn normalisation(&self, norm: &Norm) -> (Array4<f32>, Array4<f32>) {
        let channels = self.sums.len();
        let each = channels / norm.groups;
        let count = (each * self.cells) as f64;
        let group = |values: &[f64], c: usize| -> f64 {
            let first = c / each * each;
            values[first..first + each].iter().sum::<f64>() / count
        };
        let shape = (1, channels, 1, 1);
        let mean = Array4::from_shape_fn(shape, |(_, c, _, _)| group(&self.sums, c) as f32);
        let rstd = Array4::from_shape_fn(shape, |(_, c, _, _)| {
            let mean = group(&self.sums, c);
            let variance = (group(&self.squares, c) - mean * mean).max(0.0);
            (1.0 / (variance + norm.eps).sqrt()) as f32
        });
        (mean, rstd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::s;

    #[test]
    fn statistics_are_those_of_the_groups() {
        let x = Array4::from_shape_fn((1, 4, 3, 5), |(_, c, y, x)| (c * c + y * 5 + x) as f32);
        let mut sums = Sums::new(4);
        sums.add(x.slice(s![.., .., ..2, ..]));
        sums.add(x.slice(s![.., .., 2.., ..]));
        let norm = Norm {
            canvas: String::new(),
            groups: 2,
            eps: 1e-6,
        };
        let (mean, rstd) = sums.normalisation(&norm);
        for (c, from) in [(0, 0), (1, 0), (2, 2), (3, 2)] {
            let group = x.slice(s![.., from..from + 2, .., ..]).mapv(f64::from);
            let wanted = (group.mean().unwrap(), group.std(0.0));
            assert!((f64::from(mean[[0, c, 0, 0]]) - wanted.0).abs() < 1e-6);
            assert!((1.0 / f64::from(rstd[[0, c, 0, 0]]) - wanted.1).abs() < 1e-5);
        }
    }
}
