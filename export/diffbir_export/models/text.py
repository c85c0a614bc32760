"""OpenCLIP's text tower on transformers' `CLIPTextModel` (Cherti et al., arXiv 2212.07143)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from ..config import TextConfig


class TextEncoder(nn.Module):
    """Token ids [N,77] -> context [N,77,C].

    Blocks up to the last or the one before it, then the final layer norm. Padding tokens are
    attended to, as in the reference: the only mask is the causal one.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.model = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=config.vocab_size,
                hidden_size=config.width,
                intermediate_size=4 * config.width,
                num_hidden_layers=config.layers_run,
                num_attention_heads=config.heads,
                max_position_embeddings=config.context_length,
                hidden_act="gelu",
                attn_implementation="eager",
                bos_token_id=None,
                eos_token_id=config.vocab_size - 1,
                pad_token_id=0,
            )
        )
        # Not a weight: replaced so that the module can be built without memory.
        positions = torch.arange(config.context_length, device="cpu")[None]
        self.model.embeddings.register_buffer("position_ids", positions, persistent=False)

    def forward(self, token_ids: Tensor) -> Tensor:
        """See the class."""
        return self.model(input_ids=token_ids).last_hidden_state.float()
