//! Box-Muller transform of blocks of 16 uniform values, as in torch's `normal_fill`.
//!
//! The f32 version evaluates logarithm, sine and cosine by the single-precision polynomials of the Cephes library (S.
//! Moshier, `logf`, `sinf`, `cosf`), as torch's vectorised kernel does. `mul_add` is used wherever that kernel, as
//! compiled for the published wheels, fuses a multiplication and an addition; bit-equal results require it.

/// Turns 16 values uniform in `[0, 1)` into 16 standard normal values, bit-equal to torch's AVX2 kernel.
pub(super) fn avx2(block: &mut [f32; 16]) {
    let (low, high) = block.split_at_mut(8);
    for (a, b) in low.iter_mut().zip(high) {
        let radius = (-2.0 * ln(1.0 - *a)).sqrt();
        let (sin, cos) = sin_cos(std::f32::consts::TAU * *b);
        // Adding the mean 0 turns -0 into 0, as in torch.
        *a = radius * cos + 0.0;
        *b = radius * sin + 0.0;
    }
}

/// The same in f64 with the platform's functions; torch has no vectorised f64 kernel.
pub(super) fn scalar(block: &mut [f64; 16]) {
    let (low, high) = block.split_at_mut(8);
    for (a, b) in low.iter_mut().zip(high) {
        let radius = (-2.0 * (1.0 - *a).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * *b).sin_cos();
        *a = radius * cos + 0.0;
        *b = radius * sin + 0.0;
    }
}

/// Horner's scheme, highest power first.
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    coefficients
        .into_iter()
        .reduce(|sum, c| sum.mul_add(x, c))
        .unwrap_or(0.0)
}

/// Natural logarithm of a positive, normal `x`.
fn ln(x: f32) -> f32 {
    #[allow(clippy::excessive_precision)] // as Cephes prints them
    const P: [f32; 9] = [
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    ];
    let bits = x.to_bits();
    // x = mantissa * 2^exponent with the mantissa in [0.5, 1), then in [sqrt(0.5), sqrt(2)).
    let mantissa = f32::from_bits(bits & 0x007f_ffff | 0x3f00_0000);
    let exponent = (bits >> 23) as f32 - 126.0;
    let (f, exponent) = if mantissa < std::f32::consts::FRAC_1_SQRT_2 {
        (mantissa - 1.0 + mantissa, exponent - 1.0)
    } else {
        (mantissa - 1.0, exponent)
    };
    let square = f * f;
    // ln 2 in two parts, the first with few digits so that its products are exact.
    let y = (polynomial(f, P) * f).mul_add(square, exponent * -2.121_944_4e-4);
    f + (y - square * 0.5) + exponent * 0.693_359_4
}

/// Sine and cosine of an `x >= 0` of at most a few thousand.
fn sin_cos(x: f32) -> (f32, f32) {
    // pi/4 in three parts, so that its multiples are subtracted without loss.
    const PARTS: [f32; 3] = [-0.785_156_25, -2.418_756_5e-4, -3.774_895e-8];
    const COS: [f32; 3] = [2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2];
    const SIN: [f32; 3] = [-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1];
    // The octant, rounded up to an even number.
    let octant = ((x * (4.0 / std::f32::consts::PI)) as u32 + 1) & !1;
    let turns = octant as f32;
    let x = PARTS.iter().fold(x, |x, part| x + turns * part);
    let square = x * x;
    let cos = (polynomial(square, COS) * square).mul_add(square, square * -0.5) + 1.0;
    let sin = (polynomial(square, SIN) * square).mul_add(x, x);
    match octant & 6 {
        0 => (sin, cos),
        2 => (cos, -sin),
        4 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_within_two_units_of_the_true_ones() {
        for i in 1..=4096 {
            let u = i as f32 / 4096.0;
            let theta = std::f32::consts::TAU * u;
            let (sin, cos) = sin_cos(theta);
            assert!(
                (ln(u) - u.ln()).abs() <= 2.5e-7 * u.ln().abs().max(1.0),
                "ln {u}"
            );
            assert!((sin - theta.sin()).abs() < 2.0e-7, "sin {theta}");
            assert!((cos - theta.cos()).abs() < 2.0e-7, "cos {theta}");
        }
    }
}
