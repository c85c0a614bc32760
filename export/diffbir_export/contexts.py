"""Contexts of the default prompts, computed once so that a default run needs no text encoder."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from . import tokenizer


def token_ids(prompts: list[str]) -> Tensor:
    """Cleaned, tokenised and padded prompts, i64 [N,77]."""
    encoder = tokenizer.load()
    rows = [encoder.encode(tokenizer.clean_prompt(prompt)).ids for prompt in prompts]
    return torch.tensor(rows, dtype=torch.int64)


def write(path: Path, text_encoder: nn.Module, prompts: dict[str, str]) -> None:
    """Writes one f32 tensor [77,C] for each prompt."""
    with torch.inference_mode():
        context = text_encoder(token_ids(list(prompts.values())))
    save_file({name: row.clone() for name, row in zip(prompts, context, strict=True)}, path)
    path.chmod(0o644)  # safetensors writes files that only their owner reads
