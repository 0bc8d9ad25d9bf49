"""Fits the network of AER to many series at once: Adam as in Keras, stopped early for each series."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detectors.aer_kernel import INNER, WINDOW
from detectors.aer_network import Network, Weights, initial
from detectors.protocol import F32, I64

BATCH: Final = 64
TOGETHER: Final = 512
"""Windows that are unfolded at once: 100 MB, and no faster with more."""

_RATE: Final = 1e-3
_BETAS: Final = (0.9, 0.999)
_EPSILON: Final = 1e-7
_PATIENCE: Final = 10  # epochs
_LEAST_GAIN: Final = 3e-4
_VALIDATION: Final = 0.2  # of the windows, the newest
_SHARES: Final = (0.25, 0.5, 0.25)  # of the loss: backwards, reconstructed, forwards


class Scaled(NamedTuple):
    """A series in [-1, 1] without gaps, and the rows where its windows begin."""

    values: F32
    starts: I64


def train(series: Sequence[Scaled], epochs: int, seed: int, stack: int, device: str) -> list[F32]:
    """Weights (29,581,) for each series, fitted ``stack`` series at a time; on one thread of the CPU.

    A series gets what it would get alone, up to rounding: it begins with the same weights, has its own order
    of windows and stops by its own validation loss. The same arguments give the same weights on one machine.
    """
    found: list[F32] = []
    with _one_thread():
        for at in range(0, len(series), stack):
            run = _Run.begin(series[at : at + stack], seed, torch.device(device))
            for _ in range(epochs):
                run.epoch()
                if not run.go_on():
                    break
            found += run.ended()
    return found


def unfolded(weights: F32, windows: F32) -> F32:
    """As `detectors.aer_kernel.unfolded` to 1e-6, in half the time for thousands of windows."""
    device = torch.device("cpu")
    stacked = Weights.of(torch.from_numpy(weights)[None])
    said = np.empty_like(windows)
    with _one_thread(), torch.inference_mode():
        network = Network(1, TOGETHER, device)
        for begin in range(0, len(windows), TOGETHER):
            some = windows[begin : begin + TOGETHER]
            if len(some) < TOGETHER:
                network = Network(1, len(some), device)
            values = torch.from_numpy(np.ascontiguousarray(some.T))[:, None]
            said[begin : begin + len(some)] = network.forward(stacked, values)[:, 0].numpy().T
    return said


@contextmanager
def _one_thread() -> Iterator[None]:
    """A trainer has a process a core; threads of torch beside them wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Stack(NamedTuple):
    """What a stack of series being fitted consists of; one row a series."""

    row: Tensor  # of the result
    values: Tensor  # (series, longest)
    starts: Tensor  # (series, most windows)
    training: Tensor  # windows to train on; those after them are for validation
    windows: Tensor
    weights: Tensor  # (series, 29,581)
    mean: Tensor  # of the gradient, and of its square
    square: Tensor
    updates: Tensor
    best: Tensor  # validation loss
    waited: Tensor  # epochs since

    def of(self, rows: Tensor) -> _Stack:
        return _Stack(*(each[rows] for each in self))


class _Run:
    """The series of a stack that are still being fitted, and the weights of all."""

    def __init__(self, stack: _Stack, seed: int, done: Tensor) -> None:
        self._stack, self._done = stack, done
        self._orders = [torch.Generator().manual_seed(seed) for _ in range(len(done))]
        self._device = done.device
        self._network = Network(len(done), BATCH, done.device)
        inner = [_SHARES[1] / INNER] * INNER
        shares = torch.tensor([_SHARES[0], *inner, _SHARES[2]], device=done.device)
        self._shares = shares[:, None, None]
        self._steps = torch.arange(WINDOW, device=done.device)[:, None, None]

    @classmethod
    def begin(cls, series: Sequence[Scaled], seed: int, device: torch.device) -> Self:
        def numbers(values: Sequence[int] | Tensor) -> Tensor:
            return torch.as_tensor(values, device=device)

        windows = [len(each.starts) for each in series]
        weights = initial(seed).to(device).repeat(len(series), 1)
        stack = _Stack(
            row=torch.arange(len(series), device=device),
            values=numbers(_padded([each.values for each in series])),
            starts=numbers(_padded([each.starts for each in series])),
            training=numbers([max(int(n * (1.0 - _VALIDATION)), 1) for n in windows]),
            windows=numbers(windows),
            weights=weights,
            mean=torch.zeros_like(weights),
            square=torch.zeros_like(weights),
            updates=torch.zeros(len(series), device=device),
            best=torch.full((len(series),), torch.inf, device=device),
            waited=torch.zeros(len(series), dtype=torch.int64, device=device),
        )
        return cls(stack, seed, weights.clone())

    def epoch(self) -> None:
        """Every training window once, in an order of its own for each series."""
        counts = self._stack.training.tolist()
        rows = self._stack.row.tolist()
        order = [torch.randperm(n, generator=self._orders[r]) for r, n in zip(rows, counts, strict=True)]
        for picked, there in self._batches(order):
            slope, _ = self._look(picked, there)
            self._update(self._network.gradient(Weights.of(self._stack.weights), slope), there[:, 0])

    def go_on(self) -> bool:
        """Validate, let go of the series that get no better, and say whether any is left."""
        s = self._stack
        pairs = zip(s.training.tolist(), s.windows.tolist(), strict=True)
        total = torch.zeros(len(s.row), device=self._device)
        for picked, there in self._batches([torch.arange(first, last) for first, last in pairs]):
            total += self._look(picked, there)[1]
        loss = total / (s.windows - s.training).clamp(min=1)
        better = loss < s.best - _LEAST_GAIN
        s.best[:] = torch.where(better, loss, s.best)
        s.waited[:] = torch.where(better, 0, s.waited + 1)
        self._done[s.row] = s.weights
        left = torch.nonzero(s.waited < _PATIENCE)[:, 0]
        if 0 < len(left) < len(s.row):
            self._stack = s.of(left)
            self._network = Network(len(left), BATCH, self._device)
        return len(left) > 0

    def ended(self) -> list[F32]:
        return list(self._done.cpu().numpy())

    def _batches(self, order: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Windows (series, 64) by number, and which of them are there: series end at different batches."""
        longest = max(len(each) for each in order)
        for at in range(0, longest, BATCH):
            picked = torch.zeros(len(order), BATCH, dtype=torch.int64)
            there = torch.zeros(len(order), BATCH)
            for row, each in enumerate(order):
                part = each[at : at + BATCH]
                picked[row, : len(part)], there[row, : len(part)] = part, 1.0
            yield picked.to(self._device), there.to(self._device)

    def _look(self, picked: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """The slope of the mean loss by the network's values, and the sum of the losses, for each series."""
        s = self._stack
        begin = s.starts.gather(1, picked)
        values = s.values[torch.arange(len(s.row), device=self._device)[:, None], begin + self._steps]
        off = self._network.forward(Weights.of(s.weights), values) - values
        weighed = self._shares * off * there
        slope = 2.0 * weighed / there.sum(1).clamp(min=1.0)[:, None]
        return slope, (weighed * off).sum((0, 2))

    def _update(self, gradient: Tensor, active: Tensor) -> None:
        """A step of Adam for the series of this batch."""
        s, (one, two) = self._stack, _BETAS
        s.updates.add_(active)
        s.mean.lerp_(gradient, (1.0 - one) * active[:, None])
        s.square.lerp_(gradient.square_(), (1.0 - two) * active[:, None])
        rate = _RATE * active * (1.0 - two**s.updates).sqrt() / (1.0 - one**s.updates).clamp(min=1e-30)
        s.weights.sub_(rate[:, None] * s.mean / (s.square.sqrt() + _EPSILON))


def _padded(arrays: Sequence[NDArray[Any]]) -> Tensor:
    """Arrays of differing lengths as rows, zeros behind."""
    out = np.zeros((len(arrays), max(len(each) for each in arrays)), arrays[0].dtype)
    for row, each in zip(out, arrays, strict=True):
        row[: len(each)] = each
    return torch.from_numpy(out)
