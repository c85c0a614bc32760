//! The KL autoencoder between pictures and latents.

use crate::error::Result;
use crate::nets::{Network, expect_shape, run_image};
use crate::tensor::{Image, Latent};

/// How much smaller a latent is than its picture, in each direction.
pub const DOWNSCALE: usize = 8;

/// How many channels a latent has.
pub const LATENT_CHANNELS: usize = 4;

/// The mode of the posterior of `image`, scaled: `[N, 3, H, W]` in `[0, 1]`, H and W multiples of 8, to
/// `[N, 4, H/8, W/8]`. The graph itself wants `[-1, 1]`.
///
/// # Errors
/// What the network reports, or a graph that does not keep its contract.
pub fn encode(net: &mut dyn Network, image: &Image) -> Result<Latent> {
    let (n, _, h, w) = image.dim();
    let centred = image.mapv(|x| x * 2.0 - 1.0);
    let latent = run_image(net, &[("image", (&centred).into())], "latent")?;
    expect_shape(
        "the VAE encoder",
        &latent,
        (n, LATENT_CHANNELS, h / DOWNSCALE, w / DOWNSCALE),
    )?;
    Ok(latent)
}

/// The picture of a scaled latent: `[N, 4, h, w]` to `[N, 3, 8h, 8w]`, nominally in `[-1, 1]`.
///
/// # Errors
/// What the network reports, or a graph that does not keep its contract.
pub fn decode(net: &mut dyn Network, z: &Latent) -> Result<Image> {
    let (n, _, h, w) = z.dim();
    let image = run_image(net, &[("latent", z.into())], "image")?;
    expect_shape(
        "the VAE decoder",
        &image,
        (n, 3, h * DOWNSCALE, w * DOWNSCALE),
    )?;
    Ok(image)
}
