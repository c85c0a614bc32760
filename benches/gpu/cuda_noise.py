"""Records what `torch.randn` draws on this CUDA device, for the engine to be held against.

    python cuda_noise.py cuda_noise.safetensors

Afterwards, on any machine:

    DIFFBIR_CUDA_NOISE=cuda_noise.safetensors cargo test --release --test golden_rng cuda
"""

import sys

import torch
from safetensors.torch import save_file

# Two draws of each shape from one seed: below the device's threads, above them, and not a multiple
# of four.
SHAPES = [(1, 4, 3, 5), (1, 4, 64, 64), (2, 4, 64, 88), (4, 4, 192, 192)]


def main(path: str) -> None:
    """Writes one tensor per draw, and the device's facts."""
    device = torch.cuda.get_device_properties(0)
    facts = {
        "device": device.name,
        "torch": torch.__version__,
        "multiprocessors": str(device.multi_processor_count),
        "threads": str(device.max_threads_per_multi_processor),
    }
    draws = {}
    for seed in (0, 231, 2**40 + 5):
        torch.manual_seed(seed)
        for i, shape in enumerate(SHAPES * 2):
            draws[f"{seed}.{i}"] = torch.randn(shape, device="cuda").cpu()
    save_file(draws, path, facts)


if __name__ == "__main__":
    main(sys.argv[1])
