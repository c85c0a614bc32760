//! The KL autoencoder between pictures and latents.

use ndarray::Ix4;

use crate::error::{Error, Result};
use crate::guidance::Decoder;
use crate::nets::{Network, Shared, expect_shape, run_image};
use crate::tensor::{Image, Latent};

/// Ratio of a picture's height and width to its latent's.
pub const DOWNSCALE: usize = 8;

/// Number of a latent's channels.
pub const LATENT_CHANNELS: usize = 4;

/// Encodes `image` `[N, 3, H, W]` in `[-1, 1]`, H and W multiples of 8, to the scaled mode of the posterior, `[N, 4,
/// H/8, W/8]`.
///
/// # Errors
/// Errors of the network, or a graph that violates its contract.
pub fn encode(net: &mut dyn Network, image: &Image) -> Result<Latent> {
    let (n, _, h, w) = image.dim();
    let latent = run_image(net, &[("image", image.into())], "latent")?;
    expect_shape(
        "the VAE encoder",
        &latent,
        (n, LATENT_CHANNELS, h / DOWNSCALE, w / DOWNSCALE),
    )?;
    Ok(latent)
}

/// The decoder and its backward pass, for guidance in pixel space.
pub struct GuidingDecoder<'a, 'n> {
    /// The networks.
    pub networks: &'a Shared<'n>,
    /// The graph of kind `vae_decoder`.
    pub decoder: &'a str,
    /// The graph of kind `vae_decoder_vjp`.
    pub vjp: &'a str,
}

impl Decoder for GuidingDecoder<'_, '_> {
    fn decode(&mut self, z: &Latent) -> Result<Image> {
        self.networks.with(self.decoder, |net| decode(net, z))
    }

    fn pull_back(&mut self, z: &Latent, cotangent: &Image) -> Result<Latent> {
        let inputs = [("latent", z.into()), ("cotangent", cotangent.into())];
        let outputs = self
            .networks
            .with(self.vjp, |net| net.run(&inputs, &["gradient"]))?;
        let gradient = outputs.into_iter().next();
        let gradient = gradient.and_then(|array| array.into_dimensionality::<Ix4>().ok());
        let gradient = gradient.ok_or_else(|| {
            Error::bundle("the VAE decoder's derivative returned no gradient of four axes")
        })?;
        expect_shape("the VAE decoder's derivative", &gradient, z.dim())?;
        Ok(gradient)
    }
}

/// Decodes a scaled latent `[N, 4, h, w]` to a picture `[N, 3, 8h, 8w]`, nominally in `[-1, 1]`.
///
/// # Errors
/// Errors of the network, or a graph that violates its contract.
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
