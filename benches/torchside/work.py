"""How much work the networks are, and how fast the machine does such work at best."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

SHAPES = ((2048, 2048, 2048), (4096, 1024, 4096), (1024, 4096, 4096), (4096, 4096, 512))
"""Matrix products (m, k, n) of which the fastest is the floor."""


def macs(network: nn.Module, *inputs: torch.Tensor) -> int:
    """Multiply-adds of matrix products and convolutions in one call."""
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        network(*inputs)
    return counter.get_total_flops() // 2


Build = Callable[[], nn.Module]


def of_stages(build: dict[str, Build], size: int, scale: int,
              context: tuple[int, int]) -> dict[str, int]:  # fmt: skip
    """MACs of each stage on the way to a square of `size`, counted without computing anything.

    The exporter's plain attention is counted, whose products the counter knows. A step is one
    branch.
    """
    small, cells = size // scale, size // 8
    with FakeTensorMode():
        latent = torch.empty(1, 4, cells, cells)
        inputs = {
            "cleaner": (torch.empty(1, 3, small, small),),
            "vae_encoder": (torch.empty(1, 3, size, size),),
            "step": (latent, torch.empty(1), torch.empty(1, *context), latent, torch.empty(13)),
            "vae_decoder": (latent,),
        }
        return {name: macs(make().eval(), *inputs[name]) for name, make in build.items()}


def floor(repeats: int = 3) -> float:
    """The best rate of an f32 matrix product on the CPU, of PyTorch's and of ONNX Runtime's.

    Neither is the faster one on every processor.
    """
    return max(gemm_rate(repeats), ort_gemm_rate(repeats))


def fastest(run: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of several runs, after one that does not count."""
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def ort_gemm_rate(repeats: int = 3) -> float:
    """The same as `gemm_rate` by ONNX Runtime, on as many threads as PyTorch has."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    product = helper.make_node("MatMul", ["a", "b"], ["c"])
    best = 0.0
    for m, k, n in SHAPES:
        a = helper.make_tensor_value_info("a", TensorProto.FLOAT, [m, k])
        c = helper.make_tensor_value_info("c", TensorProto.FLOAT, [m, n])
        # A weight, as in the networks: it is laid out for the product once.
        b = numpy_helper.from_array(torch.randn(k, n).numpy(), "b")
        model = helper.make_model(
            helper.make_graph([product], "product", [a], [c], [b]),
            opset_imports=[helper.make_opsetid("", 20)],
            ir_version=10,
        )
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        feed = {"a": torch.randn(m, k).numpy()}
        run = partial(session.run, None, feed)
        best = max(best, m * k * n / fastest(run, repeats))
    return best


def gemm_rate(repeats: int = 3) -> float:
    """The best rate of an f32 matrix product in PyTorch, in multiply-adds a second."""
    best = 0.0
    for m, k, n in SHAPES:
        a, b = torch.randn(m, k), torch.randn(k, n)
        best = max(best, m * k * n / fastest(partial(torch.matmul, a, b), repeats))
    return best
