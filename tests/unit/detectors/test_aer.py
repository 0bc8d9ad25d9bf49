import subprocess
import sys

import numpy as np
import pytest
import torch

from detectors.aer import AerDetector
from detectors.aer_kernel import WEIGHTS, WINDOW, unfolded
from detectors.aer_network import Network, Weights, initial
from detectors.batch import FitError, History
from detectors.checks import interleaved

FAST = {"epochs": 4, "max_windows": 256}
STEP_MS = 300_000


def waves(n, seed=0, period=48):
    rng = np.random.default_rng(seed)
    return 50 + 10 * np.sin(2 * np.pi * np.arange(n) / period) + rng.normal(scale=0.5, size=n)


def history(values):
    return History(STEP_MS * np.arange(len(values)), values[:, None])


def reference(flat, window):
    """One window (100,) through torch's own LSTM, whose second bias is left at zero."""
    weights = Weights.of(flat[None])

    def lstm(stack, inputs):
        made = torch.nn.LSTM(inputs, 30, bidirectional=True)
        order = torch.cat([torch.arange(60), torch.arange(90, 120), torch.arange(60, 90)])  # i, f, g, o
        named = {}
        for side, rows in zip(("", "_reverse"), stack, strict=True):
            named[f"weight_hh_l0{side}"] = rows[:30].T[order]
            named[f"weight_ih_l0{side}"] = rows[30:-1].T[order]
            named[f"bias_ih_l0{side}"] = rows[-1][order]
            named[f"bias_hh_l0{side}"] = torch.zeros(120)
        return lambda x: torch.func.functional_call(made, named, (x,))

    _, (last, _) = lstm(weights.first, 1)(window[1:-1, None, None])
    code = last.reshape(1, 1, 60).expand(WINDOW, 1, 60)
    states, _ = lstm(weights.second, 60)(code)
    return states[:, 0] @ weights.dense.reshape(60) + weights.bias


def weights_and_windows(series, windows):
    torch.manual_seed(3)
    flat = torch.stack([initial(s) for s in range(series)])
    return flat + 0.05 * torch.randn(flat.shape), torch.randn(WINDOW, series, windows)


def test_the_network_has_29581_weights():
    assert WEIGHTS == 29_581
    assert initial(1).shape == (29_581,)


def test_the_network_says_and_learns_what_torchs_own_lstm_does():
    flat, windows = weights_and_windows(3, 4)
    network = Network(3, 4, torch.device("cpu"))
    said = network.forward(Weights.of(flat), windows)
    gradient = network.gradient(Weights.of(flat), torch.cos(said))
    for s in range(3):
        mine = flat[s].clone().requires_grad_()
        expected = torch.stack([reference(mine, windows[:, s, w]) for w in range(4)], dim=1)
        torch.testing.assert_close(said[:, s], expected.detach(), rtol=0, atol=2e-6)
        torch.sin(expected).sum().backward()
        assert mine.grad is not None
        torch.testing.assert_close(gradient[s], mine.grad, rtol=1e-4, atol=1e-4)


def test_the_workers_kernel_says_what_the_network_does():
    flat, windows = weights_and_windows(1, 8)
    said = Network(1, 8, torch.device("cpu")).forward(Weights.of(flat), windows)
    found = unfolded(flat[0].numpy(), np.ascontiguousarray(windows[:, 0].numpy().T))
    np.testing.assert_allclose(found, said[:, 0].numpy().T, rtol=0, atol=3e-6)


def test_a_fit_is_the_same_each_time_and_another_with_another_seed():
    one, again, other = (AerDetector.fit(FAST, history(waves(600)), seed) for seed in (1, 1, 2))
    assert one.facts == again.facts
    assert np.array_equal(one.arrays["weights"], again.arrays["weights"])
    assert not np.array_equal(one.arrays["weights"], other.arrays["weights"])


def test_series_fitted_together_become_what_they_become_alone():
    several = [
        history(waves(n, seed, period)) for n, seed, period in ((400, 1, 48), (700, 2, 30), (330, 3, 90))
    ]
    together = AerDetector.fit_many(FAST | {"epochs": 3}, several, 1)
    for each, made in zip(several, together, strict=True):
        assert not isinstance(made, FitError)
        alone = AerDetector.fit(FAST | {"epochs": 3}, each, 1)
        np.testing.assert_allclose(made.arrays["weights"], alone.arrays["weights"], rtol=0, atol=1e-3)
        assert made.facts["high"] == pytest.approx(alone.facts["high"], rel=1e-2)


def test_a_series_that_gets_no_better_stops_and_the_others_go_on():
    noise = np.random.default_rng(1).uniform(size=400)  # nothing to learn
    long = {"epochs": 25, "max_windows": 100}
    together = AerDetector.fit_many(long, [history(noise), history(waves(400))], 1)
    longer = AerDetector.fit_many(long | {"epochs": 26}, [history(noise), history(waves(400))], 1)
    same = [
        np.array_equal(a.arrays["weights"], b.arrays["weights"])
        for a, b in zip(together, longer, strict=True)
    ]
    assert same == [True, False]


def test_histories_without_a_model_leave_the_others_theirs():
    made = AerDetector.fit_many(
        FAST, [history(np.full(400, 3.0)), history(waves(400)), history(waves(50))], 1
    )
    assert [each.reason if isinstance(each, FitError) else None for each in made] == [
        "constant", None, "too_little_history",
    ]  # fmt: skip


def fitted(values, params=FAST):
    detector = AerDetector.create(params, 1)
    detector.reserve(1)
    detector.adopt(0, AerDetector.fit(params, history(values), 1))
    return detector


def test_what_comes_later_changes_no_score():
    values = waves(900)
    changed = values.copy()
    changed[500:] += 100.0
    one, other = (fitted(values[:600]).step(*interleaved(each[:, None])) for each in (values, changed))
    for a, b in zip(one[:5], other[:5], strict=True):
        assert np.array_equal(a[:500], b[:500], equal_nan=a.dtype.kind == "f")
    assert one.surprise[500] != other.surprise[500]


def test_a_planted_anomaly_surprises_a_stream_at_once():
    values = waves(1400)
    at = 1200
    values[at] += 12.0
    said = fitted(values[:1000], {"epochs": 12, "max_windows": 512}).step(*interleaved(values[1000:, None]))
    assert said.surprise[at - 1000] == said.surprise[99 : at - 1000 + 1].max() > 3.0
    assert values[at] > said.upper[at - 1000]
    assert (np.abs(said.expected[99:200] - values[1099:1200]) < 5.0).all()


def test_a_worker_scores_without_torch():
    payload = """
import sys
from detectors.aer import AerDetector
from detectors.batch import Artifact, facts_of
import numpy as np
one = AerDetector.create({}, 1)
one.reserve(1)
names = ("low", "half", "forward", "reverse", "reach", "middle", "high", "excess")
facts = facts_of(AerDetector, **dict.fromkeys(names, 1.0))
one.adopt(0, Artifact({"weights": np.zeros(29581, np.float32)}, facts))
rows = np.zeros(120, np.int64)
said = one.step(rows, rows, rows.astype(float), np.ones(120, bool))
assert said.ready[99:].all() and not said.ready[:99].any()
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", payload], check=True, timeout=120)


def test_weights_of_another_shape_are_refused():
    artifact = AerDetector.fit(FAST, history(waves(400)), 1)
    detector = AerDetector.create({}, 1)
    detector.reserve(1)
    with pytest.raises(ValueError, match="29581"):
        detector.adopt(0, artifact._replace(arrays={"weights": artifact.arrays["weights"][:-1]}))


@pytest.mark.parametrize(
    ("params", "said"),
    [({"epoch": 3}, "no parameter 'epoch'"), ({"epochs": 0}, "from 1"), ({"device": "tpu"}, "cuda")],
)
def test_impossible_parameters_are_refused(params, said):
    with pytest.raises(ValueError, match=said):
        AerDetector.create(params, 1)
