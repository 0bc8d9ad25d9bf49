"""The network of AER for many series at once: weights stacked, gradients by hand, in torch on CPU or GPU.

Wong et al., "AER: Auto-Encoder with Regression for Time Series Anomaly Detection" (arXiv 2212.13558): of a
window of 100 values the inner 98 go through a bidirectional LSTM of 30 units; its last states, 60 numbers,
are what a second one takes 100 times and unfolds into a value a step: the first is predicted backwards, the
last forwards, those between are reconstructed. LSTMs have one bias a gate (as in Keras): 29,581 weights.

Arrays are (series * 2 directions, features, windows): gates are then blocks without holes, and each step of
all series is one `bmm`. The second direction reads time backwards. A tanh is ``2 sigmoid(2 x) - 1``, which
torch computes in a fifth of the time.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Self

import torch
from torch import Tensor

from detectors.aer_kernel import FIRST, GATES, INNER, SECOND, UNITS, WEIGHTS, WINDOW

_S: Final = slice(0, 3 * UNITS)
_I: Final = slice(0, UNITS)
_F: Final = slice(UNITS, 2 * UNITS)
_O: Final = slice(2 * UNITS, 3 * UNITS)
_G: Final = slice(3 * UNITS, GATES)


class Weights(NamedTuple):
    """The weights of a stack of series; ``first`` and ``second`` are (series * 2, rows, gates)."""

    first: Tensor
    second: Tensor
    dense: Tensor  # (series * 2, 30)
    bias: Tensor  # (series,)

    @classmethod
    def of(cls, flat: Tensor) -> Self:
        """From an array (series, 29,581), copied."""
        series = len(flat)
        sizes = [2 * FIRST * GATES, 2 * SECOND * GATES, 2 * UNITS, 1]
        first, second, dense, bias = (each.contiguous() for each in torch.split(flat, sizes, dim=1))
        return cls(
            first.view(2 * series, FIRST, GATES),
            second.view(2 * series, SECOND, GATES),
            dense.view(2 * series, UNITS),
            bias.view(series),
        )

    def flat(self) -> Tensor:
        """As an array (series, 29,581)."""
        return torch.cat([each.reshape(len(self.bias), -1) for each in self], dim=1)


def initial(seed: int) -> Tensor:
    """Weights (29,581,) as Keras begins: Glorot uniform, orthogonal for the state, 1 for the forget bias."""
    random = torch.Generator().manual_seed(seed)
    weights = Weights.of(torch.zeros(1, WEIGHTS))
    for lstm, inputs in ((weights.first, 1), (weights.second, 2 * UNITS)):
        for each in lstm:
            each[UNITS : UNITS + inputs] = _glorot(inputs, GATES, random)
            square, upper = torch.linalg.qr(torch.randn(GATES, UNITS, generator=random))
            each[:UNITS] = (square * upper.diagonal().sign()).T
            each[-1, _F] = 1.0
    weights.dense[:] = _glorot(2 * UNITS, 1, random).view(2, UNITS)
    return weights.flat()[0]


def _glorot(rows: int, columns: int, random: torch.Generator) -> Tensor:
    limit = (6.0 / (rows + columns)) ** 0.5
    return torch.empty(rows, columns).uniform_(-limit, limit, generator=random)


class _Trace(NamedTuple):
    """What an LSTM leaves for its gradient, step by step; ``state`` and ``cell`` begin with zeros.

    ``state`` (steps + 1, series * 2, rows, windows) holds beside the state what the weights multiply.
    """

    state: Tensor
    gates: Tensor
    cell: Tensor
    bent: Tensor  # tanh of the cell

    @classmethod
    def empty(cls, steps: int, columns: int, rows: int, windows: int, device: torch.device) -> Self:
        def array(*shape: int) -> Tensor:
            return torch.zeros(shape, device=device)

        return cls(
            array(steps + 1, columns, rows, windows),
            array(steps, columns, GATES, windows),
            array(steps + 1, columns, UNITS, windows),
            array(steps, columns, UNITS, windows),
        )


class Network:
    """Room for ``windows`` windows of each of ``series`` series; one `forward`, then perhaps one `gradient`.

    About 0.2 MB a window, and 3 million multiplications for its values, three times as many with gradient.
    """

    def __init__(self, series: int, windows: int, device: torch.device) -> None:
        self._series, self._windows = series, windows
        columns = 2 * series
        self._one = _Trace.empty(INNER, columns, FIRST, windows, device)
        self._two = _Trace.empty(WINDOW, columns, UNITS, windows, device)
        self._one.state[:, :, -1] = 1.0
        self._code = torch.ones(columns, 2 * UNITS + 1, windows, device=device)
        self._slope = torch.empty(columns, GATES, windows, device=device)

    def forward(self, weights: Weights, values: Tensor) -> Tensor:
        """The 100 values (100, series, windows) that the network gives for ``values`` of the same shape."""
        one, two = self._one, self._two
        inner = values[1:-1]
        one.state[:-1, 0::2, UNITS] = inner
        one.state[:-1, 1::2, UNITS] = inner.flip(0)
        first = _steep(weights.first)
        for t in range(INNER):
            torch.bmm(first, one.state[t], out=one.gates[t])
            self._advance(one, t)
        last = one.state[-1, :, :UNITS].reshape(self._series, 2 * UNITS, self._windows)
        self._code[:, : 2 * UNITS] = last.repeat_interleave(2, dim=0)
        given = torch.bmm(_steep(weights.second[:, UNITS:]), self._code)
        second = _steep(weights.second[:, :UNITS])
        for t in range(WINDOW):
            torch.baddbmm(given, second, two.state[t], out=two.gates[t])
            self._advance(two, t)
        return self._dense(weights)

    @staticmethod
    def _advance(trace: _Trace, t: int) -> None:
        gates, cell, bent = trace.gates[t].sigmoid_(), trace.cell[t + 1], trace.bent[t]
        gates[:, _G].mul_(2.0).sub_(1.0)
        torch.mul(gates[:, _F], trace.cell[t], out=cell)
        cell.addcmul_(gates[:, _I], gates[:, _G])
        torch.mul(cell, 2.0, out=bent)
        bent.sigmoid_().mul_(2.0).sub_(1.0)
        torch.mul(gates[:, _O], bent, out=trace.state[t + 1][:, :UNITS])

    def _dense(self, weights: Weights) -> Tensor:
        said = torch.matmul(weights.dense.view(1, -1, 1, UNITS), self._two.state[1:])[:, :, 0]
        return said[:, 0::2] + said[:, 1::2].flip(0) + weights.bias[None, :, None]

    def gradient(self, weights: Weights, slope: Tensor) -> Tensor:
        """The gradient (series, 29,581) after `forward`; ``slope`` is that of its result."""
        found = Weights(*map(torch.zeros_like, weights))
        found.bias[:] = slope.sum((0, 2))
        sides = torch.empty(WINDOW, 2 * self._series, self._windows, device=slope.device)
        sides[:, 0::2], sides[:, 1::2] = slope, slope.flip(0)
        state = self._two.state[1:]
        found.dense[:] = torch.einsum("tdub,tdb->du", state, sides)
        code = self._unfold_back(weights, found, sides)
        self._fold_back(weights, found, code)
        return found.flat()

    def _unfold_back(self, weights: Weights, found: Weights, sides: Tensor) -> Tensor:
        """Back through the second LSTM; the slope of the code (series, 60, windows)."""
        two, total = self._two, torch.zeros_like(self._slope)
        dense = weights.dense.view(-1, UNITS, 1)
        state, cell = torch.zeros_like(two.cell[0]), torch.zeros_like(two.cell[0])
        for t in reversed(range(WINDOW)):
            state.addcmul_(dense, sides[t, :, None])
            self._retreat(two, t, state, cell)
            total += self._slope
            found.second[:, :UNITS].baddbmm_(two.state[t], self._slope.transpose(1, 2))
            torch.bmm(weights.second[:, :UNITS], self._slope, out=state)
        found.second[:, UNITS:] = torch.bmm(self._code, total.transpose(1, 2))
        code = torch.bmm(weights.second[:, UNITS:-1], total)
        return code[0::2] + code[1::2]

    def _fold_back(self, weights: Weights, found: Weights, code: Tensor) -> None:
        """Back through the first LSTM."""
        one = self._one
        state = code.reshape(2 * self._series, UNITS, self._windows).clone()
        cell = torch.zeros_like(one.cell[0])
        for t in reversed(range(INNER)):
            self._retreat(one, t, state, cell)
            found.first.baddbmm_(one.state[t], self._slope.transpose(1, 2))
            torch.bmm(weights.first[:, :UNITS], self._slope, out=state)

    def _retreat(self, trace: _Trace, t: int, state: Tensor, cell: Tensor) -> None:
        """From the slopes of state and cell after step ``t`` to those of its gates and of the cell before."""
        gates, bent, slope = trace.gates[t], trace.bent[t], self._slope
        torch.mul(state, bent, out=slope[:, _O])
        state.mul_(gates[:, _O])
        cell.add_(torch.ops.aten.tanh_backward(state, bent))
        torch.mul(cell, gates[:, _G], out=slope[:, _I])
        torch.mul(cell, trace.cell[t], out=slope[:, _F])
        torch.mul(cell, gates[:, _I], out=slope[:, _G])
        cell.mul_(gates[:, _F])
        torch.ops.aten.sigmoid_backward(slope[:, _S], gates[:, _S], grad_input=slope[:, _S])
        torch.ops.aten.tanh_backward(slope[:, _G], gates[:, _G], grad_input=slope[:, _G])


def _steep(weights: Tensor) -> Tensor:
    """Weights (series * 2, gates, rows) for a step, those of the candidate doubled for its tanh."""
    steep = weights.transpose(1, 2).contiguous()
    steep[:, _G] *= 2.0
    return steep
