"""Stable Diffusion's autoencoder on diffusers' encoder and decoder, one module for each graph."""

from __future__ import annotations

from diffusers.models.autoencoders.vae import Decoder, Encoder
from torch import Tensor, nn

from ..config import VAEConfig
from .attention import use_plain_attention
from .reverse import autograd_vjp, conv, decoder


class VAEEncoder(nn.Module):
    """Picture [N,3,H,W] in [-1,1] -> latent [N,4,H/8,W/8]: the posterior's mode times the scale."""

    def __init__(self, config: VAEConfig, scale_factor: float) -> None:
        super().__init__()
        self.channels, self.scale_factor = config.embed_dim, scale_factor
        self.encoder = Encoder(
            in_channels=config.in_channels,
            out_channels=config.z_channels,
            down_block_types=("DownEncoderBlock2D",) * len(config.ch_mult),
            block_out_channels=tuple(config.ch * m for m in config.ch_mult),
            layers_per_block=config.num_res_blocks,
            norm_num_groups=config.norm_groups,
        )
        self.quant_conv = nn.Conv2d(2 * config.z_channels, 2 * config.embed_dim, 1)
        use_plain_attention(self)

    def forward(self, image: Tensor) -> Tensor:
        """The log variance, in the second half of the channels, is dropped."""
        image = image.to(self.quant_conv.weight.dtype)
        moments = self.quant_conv(self.encoder(image))
        return moments[:, : self.channels].float() * self.scale_factor


class VAEDecoder(nn.Module):
    """Scaled latent [N,4,h,w] -> picture [N,3,8h,8w], nominally in [-1,1]."""

    def __init__(self, config: VAEConfig, scale_factor: float) -> None:
        super().__init__()
        self.scale_factor = scale_factor
        self.post_quant_conv = nn.Conv2d(config.embed_dim, config.z_channels, 1)
        self.decoder = Decoder(
            in_channels=config.z_channels,
            out_channels=config.out_ch,
            up_block_types=("UpDecoderBlock2D",) * len(config.ch_mult),
            block_out_channels=tuple(config.ch * m for m in config.ch_mult),
            layers_per_block=config.num_res_blocks,
            norm_num_groups=config.norm_groups,
        )
        use_plain_attention(self)

    def forward(self, latent: Tensor) -> Tensor:
        """Undoes the scale, then decodes."""
        latent = (latent / self.scale_factor).to(self.post_quant_conv.weight.dtype)
        return self.decoder(self.post_quant_conv(latent)).float()


class VAEDecoderVJP(VAEDecoder):
    """Decodes, and pulls a gradient at the picture back to the scaled latent.

    latent [N,4,h,w] and cotangent [N,3,8h,8w] -> picture [N,3,8h,8w] and J(latent)^T cotangent
    [N,4,h,w]. f32 only: a loss averaged over a picture has gradients far below fp16's range.
    """

    def forward(self, latent: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        """Forward and reverse pass, written out."""
        x, pull_first = conv(self.post_quant_conv, latent / self.scale_factor)
        image, pull = decoder(self.decoder, x)
        return image, pull_first(pull(cotangent)) / self.scale_factor

    def reference(self, latent: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        """The same by autograd through the decoder itself; `verify.py` compares with this."""
        return autograd_vjp(super().forward, latent, cotangent)
