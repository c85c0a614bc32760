"""Runs one stage: resumes, steps, keeps an EMA, writes checkpoints, stops when asked.

Batches and noise are functions of seed and step, so a resumed run with a fixed number of steps is
bit-identical to one that was never interrupted. With a time budget the learning rate follows the
clock instead.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .data import Batch, Loader
from .optim import Muon
from .stages import Stage

WARM_UP = 40
FLOOR = 0.05
LOG_SECONDS = 20.0
LONGEST_STEP = 5.0
"""What a step can cost of the budget: a process that was put to sleep does not wake up finished."""


def computed() -> float:
    """Seconds that this process has computed: on a GPU those of the wall; on a CPU those of its
    threads together over their number, so that beside other work it takes longer, not less."""
    if torch.cuda.is_initialized():
        return time.monotonic()
    return time.process_time() / torch.get_num_threads()


@dataclass
class Plan:
    """A stage's budget (steps or seconds of `computed`, over all its runs) and how it runs."""

    seconds: float = math.inf
    steps: int | None = None
    save_every: float = 120.0
    stop: Callable[[], bool] = lambda: False
    parents: tuple[tuple[str, int], ...] = ()
    """Names and steps of the stages this one is trained on."""

    def progress(self, step: int, seconds: float) -> float:
        """How much of the budget is spent, 0 to 1."""
        return step / self.steps if self.steps is not None else seconds / self.seconds


@dataclass
class State:
    """What a checkpoint holds beside weights and optimiser."""

    step: int = 0
    seconds: float = 0.0
    parents: tuple[tuple[str, int], ...] = ()


def save(content: Any, path: Path) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def checkpoint(folder: Path, name: str) -> Path:
    """Where a stage's state lies."""
    return folder / f"{name}.pt"


def read(folder: Path, name: str) -> dict[str, Any] | None:
    """A stage's last checkpoint."""
    path = checkpoint(folder, name)
    return torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else None


class Averaged:
    """Exponential moving average of a module's weights."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Younger averages forget faster."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            self.values[name].lerp_(value, 1 - decay)


class Run:
    """A stage with its optimiser, average and place in time."""

    def __init__(self, stage: Stage, folder: Path, plan: Plan) -> None:
        self.stage, self.folder, self.plan = stage, folder, plan
        self.module = stage.trained()
        self.optimiser = Muon(self.module)
        self.average = Averaged(self.module, stage.settings.ema)
        self.state = State(parents=plan.parents)
        if found := read(folder, stage.name):
            self.resume(found)

    def resume(self, found: dict[str, Any]) -> None:
        """Goes on; where the stages before have moved on since, with the weights alone."""
        self.module.load_state_dict(found["model"])
        for name, value in found["ema"].items():
            self.average.values[name].copy_(value)
        parents = tuple((name, step) for name, step in found["parents"])
        if parents == self.plan.parents:
            self.optimiser.load_state_dict(found["optimiser"])
            self.state = State(found["step"], found["seconds"], parents)

    def save(self) -> None:
        """Writes the checkpoint."""
        save(
            {
                "model": self.module.state_dict(),
                "ema": self.average.values,
                "optimiser": self.optimiser.state_dict(),
                "step": self.state.step,
                "seconds": self.state.seconds,
                "parents": [list(parent) for parent in self.state.parents],
            },
            checkpoint(self.folder, self.stage.name),
        )

    def rate(self) -> float:
        """Warm-up, then half a cosine down to a twentieth."""
        done = min(1.0, self.plan.progress(self.state.step, self.state.seconds))
        cosine = FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * done))
        return self.stage.settings.rate * min(1.0, (self.state.step + 1) / WARM_UP) * cosine

    def step(self, batch: Batch) -> dict[str, float | Tensor]:
        """One update."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        with self.stage.precision():
            total, parts = self.stage.loss(batch, self.state.step)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimiser.step()
        self.state.step += 1
        self.average.update(self.module, self.state.step)
        return {"loss": total.detach(), **{k: v.detach() for k, v in parts.items()}}


class Journal:
    """Means of the losses as JSON lines, a line every 20 seconds."""

    def __init__(self, run: Run) -> None:
        self.run, self.sums, self.count = run, {}, 0
        self.since = time.monotonic()

    def add(self, values: dict[str, Tensor]) -> None:
        """Takes one step's values."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value
        self.count += 1
        if time.monotonic() - self.since > LOG_SECONDS:
            self.write()

    def write(self) -> None:
        """Writes a line to the run's log and to standard output."""
        if not self.count:
            return
        elapsed = time.monotonic() - self.since
        state, stage = self.run.state, self.run.stage
        row = {
            "stage": stage.name, "step": state.step, "seconds": round(state.seconds, 1),
            "steps_per_s": round(self.count / elapsed, 3),
            "samples_per_s": round(self.count * stage.settings.batch / elapsed, 2),
            "rate": float(f"{self.run.rate():.3g}"),
            **{k: float(f"{float(v) / self.count:.5g}") for k, v in self.sums.items()},
        }  # fmt: skip
        line = json.dumps(row)
        print(line, flush=True)
        with (self.run.folder / "log.jsonl").open("a") as file:
            file.write(line + "\n")
        self.sums, self.count, self.since = {}, 0, time.monotonic()


def nothing() -> Iterator[Batch]:
    """Batches of a stage that draws from its pool."""
    while True:
        yield ()


def train(stage: Stage, folder: Path, plan: Plan, loader: Loader | None = None) -> State:
    """Runs until the budget is spent or `plan.stop` says so; always leaves a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(stage, folder, plan)
    run.module.train()
    sampler = stage.sampler()
    batches = loader.batches(sampler, run.state.step) if sampler else nothing()
    journal = Journal(run)
    clock, saved = computed(), time.monotonic()
    while plan.progress(run.state.step, run.state.seconds) < 1 and not plan.stop():
        journal.add(run.step(next(batches)))
        now = computed()
        run.state.seconds, clock = run.state.seconds + min(now - clock, LONGEST_STEP), now
        if time.monotonic() - saved > plan.save_every:
            run.save()
            saved = time.monotonic()
    batches.close()
    journal.write()
    run.save()
    return run.state
