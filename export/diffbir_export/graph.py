"""From a PyTorch module to an ONNX file."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes import common as passes
from onnxscript.optimizer._constant_folding import FoldConstantsPass
from torch import nn

from .contracts import Contract

# From 21 the exporter emits GroupNormalization, for which ONNX Runtime has no CPU kernel.
OPSET = 20
# Graphs with less weight than this carry it inside the .onnx file, if nothing else refers to it.
INLINE_BYTES = 2_000_000
# Traced at a batch and size that cannot be mistaken for constants.
TRACE_BATCH, TRACE_UNITS = 2, (2, 3)


def trace(module: nn.Module, contract: Contract) -> ir.Model:
    """Exports with every N, H and W dynamic."""
    # A cleaner of any size pads to 64 itself: traced within one such block, its padded size would
    # become a constant.
    unit = {"cleaner": 48}.get(contract.kind, 16) if contract.multiple == 1 else contract.multiple
    example = contract.example(TRACE_BATCH, *(unit * k for k in TRACE_UNITS))
    shapes: Any = contract.dynamic_shapes()
    if contract.kind == "unet":  # its controls are one variadic argument
        controls = [name for name in example if name.startswith("control_")]
        shapes = {"x": shapes["x"], "timestep": shapes["timestep"], "context": shapes["context"],
                  "controls": tuple(shapes[name] for name in controls)}  # fmt: skip
    else:
        shapes = tuple(shapes.values())
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        # Guards that hold for every size, but that the tracer cannot prove, must not narrow the
        # sizes: torch.onnx.export's own capture would take its suggested, narrower ones.
        captured = torch.export.export(
            module,
            tuple(example.values()),
            dynamic_shapes=shapes,
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        program = torch.onnx.export(
            captured,
            input_names=list(contract.inputs),
            output_names=list(contract.outputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            optimize=False,
        )
        simplify(program.model)
    return program.model


def simplify(model: ir.Model) -> None:
    """Folds constants and removes what is unused or computed twice.

    These are the passes of the exporter's own optimizer without its rewrite rules: on the denoiser
    those take longer than everything else together, and ONNX Runtime applies the like when loading.
    """
    ir.passes.Sequential(
        passes.InlinePass(),
        passes.RemoveUnusedNodesPass(),
        FoldConstantsPass(shape_inference=True, input_size_limit=1024, output_size_limit=512 * 512),
        passes.IdentityEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedFunctionsPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.OutputFixPass(),
        passes.NameFixPass(),
    )(model)


@contextmanager
def quiet() -> Iterator[None]:
    """Silences the exporter's progress lines and log."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(level)


def strip(model: ir.Model) -> None:
    """Drops the tracer's notes: source paths, stack traces, module names."""
    model.metadata_props.clear()
    model.doc_string = None
    model.graph.doc_string = None
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def store_half(model: ir.Model) -> None:
    """Stores f32 initializers that fp16 holds exactly as fp16 with a Cast behind each.

    Those are the matrices and kernels, which were rounded when they were loaded. The graph still
    computes in f32; ONNX Runtime folds the casts when it loads the file.
    """
    graph = model.graph
    first = graph[0]
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) < 2:
            continue
        values = tensor.numpy()
        with np.errstate(over="ignore"):
            rounded = values.astype(np.float16)
        if not np.array_equal(rounded.astype(np.float32), values):
            continue
        half = ir.tensor(rounded, name=f"{name}.half")
        stored = ir.Value(name=half.name, shape=value.shape, const_value=half,
                          type=ir.TensorType(ir.DataType.FLOAT16))  # fmt: skip
        cast = ir.node("Cast", [stored], attributes={"to": ir.DataType.FLOAT})
        cast.outputs[0].name = f"{name}.float"
        cast.outputs[0].dtype, cast.outputs[0].shape = ir.DataType.FLOAT, value.shape
        ir.convenience.replace_all_uses_with(value, cast.outputs[0])
        del graph.initializers[name]
        graph.initializers[half.name] = stored
        graph.insert_before(first, cast)


def save(model: ir.Model, path: Path, beside: bool = False) -> list[Path]:
    """Writes the graph, large weights beside it as `NAME.onnx.data`; returns the files.

    A graph with little weight is one file, unless weights `beside` it are asked for.
    """
    size = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value)
    data = None if size < INLINE_BYTES and not beside else f"{path.name}.data"
    ir.save(model, path, external_data=data)
    onnx.checker.check_model(str(path))
    return [path] if data is None else [path, path.with_name(data)]
