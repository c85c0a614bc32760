"""An attention processor for diffusers' `Attention` that exports to few, plain ONNX nodes."""

from __future__ import annotations

from diffusers.models.attention_processor import Attention
from torch import Tensor, nn


class PlainAttention:
    """softmax(q k^T / sqrt(d)) v as MatMul, Softmax, MatMul on 4-D tensors, softmax in f32.

    q is scaled before the product, so that in fp16 only the logits themselves can overflow.
    Takes token sequences [N,L,C] and pictures [N,C,H,W] (the VAE's single attention).
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Attends to `encoder_hidden_states`, or to `hidden_states` itself without them."""
        if attention_mask is not None or temb is not None:
            raise NotImplementedError("masks and time embeddings are not used by these networks")
        tokens, shape = hidden_states, hidden_states.shape
        if hidden_states.dim() == 4:
            tokens = hidden_states.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            tokens = attn.group_norm(tokens.transpose(1, 2)).transpose(1, 2)
        source = tokens if encoder_hidden_states is None else encoder_hidden_states
        q = attn.to_q(tokens).unflatten(2, (attn.heads, -1)).transpose(1, 2) * attn.scale
        k = attn.to_k(source).unflatten(2, (attn.heads, -1)).permute(0, 2, 3, 1)
        v = attn.to_v(source).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        weights = (q @ k).float().softmax(-1).to(v.dtype)
        out = attn.to_out[0]((weights @ v).transpose(1, 2).flatten(2))
        if hidden_states.dim() == 4:
            out = out.transpose(1, 2).reshape(shape)
        if attn.residual_connection:
            out = out + hidden_states
        return out / attn.rescale_output_factor if attn.rescale_output_factor != 1 else out


def use_plain_attention(module: nn.Module) -> None:
    """Sets the processor on every `Attention` below `module`."""
    for child in module.modules():
        if isinstance(child, Attention):
            child.set_processor(PlainAttention())
