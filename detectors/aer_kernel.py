"""The network of AER for one window at a time, as the worker scores: numba, without torch.

`detectors.aer_network` says what the network is and fits it; ``flat`` is its 29,581 weights in that order.
Each window is computed by itself, so that its values do not depend on what else is in a batch.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detectors.protocol import F32

WINDOW: Final = 100
INNER: Final = WINDOW - 2
UNITS: Final = 30
GATES: Final = 4 * UNITS  # input, forget, output, candidate
FIRST: Final = UNITS + 2  # rows of the first LSTM: state, value, bias
SECOND: Final = UNITS + 2 * UNITS + 1  # rows of the second: state, code, bias
WEIGHTS: Final = 2 * FIRST * GATES + 2 * SECOND * GATES + 2 * UNITS + 1

_SECOND_AT = 2 * FIRST * GATES
_DENSE_AT = _SECOND_AT + 2 * SECOND * GATES

# tanh x = x P(x^2) / Q(x^2) up to 8, fitted for the least relative error (6e-9, in float32 3e-7).
_P0, _P1, _P2, _P3, _P4 = np.array(
    [0.999999994, 0.134445234, 0.0035716278, 2.18951376e-05, 1.52310482e-08], np.float32
)
_Q0, _Q1, _Q2, _Q3, _Q4 = np.array(
    [1.0, 0.467778507, 0.0261645571, 0.00034113401, 8.52271088e-07], np.float32
)
_MOST = np.float32(8.0)
_HALF = np.float32(0.5)
_ONE = np.float32(1.0)


@njit(cache=True, nogil=True, inline="always")
def _tanh(x: Any) -> Any:
    x = min(max(x, -_MOST), _MOST)
    z = x * x
    above = (((_P4 * z + _P3) * z + _P2) * z + _P1) * z + _P0
    below = (((_Q4 * z + _Q3) * z + _Q2) * z + _Q1) * z + _Q0
    return min(max(x * above / below, -_ONE), _ONE)


@njit(cache=True, nogil=True, inline="always")
def _advance(gates: Any, state: Any, cell: Any) -> None:
    """One step of an LSTM; the candidate's gates are the last 30."""
    for j in range(3 * UNITS):
        gates[j] = _HALF + _HALF * _tanh(_HALF * gates[j])
    for j in range(3 * UNITS, GATES):
        gates[j] = _tanh(gates[j])
    for j in range(UNITS):
        cell[j] = gates[UNITS + j] * cell[j] + gates[j] * gates[3 * UNITS + j]
    for j in range(UNITS):
        state[j] = gates[2 * UNITS + j] * _tanh(cell[j])


@njit(cache=True, nogil=True, inline="always")
def _add(gates: Any, rows: Any, by: Any) -> None:
    """Add the rows (k, gates) times ``by`` (k,); five at once, so that gates are written less often."""
    for k in range(0, by.shape[0], 5):
        a, b, c, d, e = by[k], by[k + 1], by[k + 2], by[k + 3], by[k + 4]
        for j in range(GATES):
            few = a * rows[k, j] + b * rows[k + 1, j] + c * rows[k + 2, j]
            gates[j] += few + d * rows[k + 3, j] + e * rows[k + 4, j]


@njit(cache=True, nogil=True, fastmath={"contract"})
def unfold(flat, window, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (100,) with the network's values for a scaled ``window`` (100,): about 0.2 ms."""
    first = flat[:_SECOND_AT].reshape(2, FIRST, GATES)
    second = flat[_SECOND_AT:_DENSE_AT].reshape(2, SECOND, GATES)
    dense = flat[_DENSE_AT:]
    code, cell, state = (
        np.empty(2 * UNITS, np.float32),
        np.empty(UNITS, np.float32),
        np.empty(UNITS, np.float32),
    )
    gates, given = np.empty(GATES, np.float32), np.empty(GATES, np.float32)
    for side in range(2):
        cell[:] = np.float32(0.0)
        state[:] = np.float32(0.0)
        weights = first[side]
        for t in range(INNER):
            value = window[t + 1 if side == 0 else INNER - t]
            for j in range(GATES):
                gates[j] = weights[UNITS + 1, j] + value * weights[UNITS, j]
            _add(gates, weights, state)
            _advance(gates, state, cell)
        code[side * UNITS : (side + 1) * UNITS] = state
    out[:] = dense[2 * UNITS]
    for side in range(2):
        cell[:] = np.float32(0.0)
        state[:] = np.float32(0.0)
        weights = second[side]
        given[:] = weights[SECOND - 1]
        _add(given, weights[UNITS:], code)
        for t in range(WINDOW):
            gates[:] = given
            _add(gates, weights, state)
            _advance(gates, state, cell)
            total = np.float32(0.0)
            for j in range(UNITS):
                total += dense[side * UNITS + j] * state[j]
            out[t if side == 0 else WINDOW - 1 - t] += total


def unfolded(flat: F32, windows: F32) -> F32:
    """The network's values (n, 100) for scaled windows (n, 100)."""
    out = np.empty(windows.shape, np.float32)
    _unfold_all(flat, windows, out)
    return out


@njit(cache=True, nogil=True)
def _unfold_all(flat: NDArray[Any], windows: NDArray[Any], out: NDArray[Any]) -> None:
    for i in range(windows.shape[0]):
        unfold(flat, windows[i], out[i])
