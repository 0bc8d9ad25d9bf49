"""The forest as arrays says what scikit-learn says."""

import numpy as np
from sklearn.ensemble import IsolationForest

from detectors import forest
from detectors.batch import Artifact
from detectors.forest import Forests, Params


def test_walking_the_arrays_gives_the_scores_of_scikit_learn():
    rng = np.random.default_rng(4)
    windows = rng.standard_t(2, size=(1500, 6)).astype(np.float32)
    windows[:, 3] = np.round(windows[:, 3])
    seen = np.concatenate((windows, 5 * rng.normal(size=(500, 6)).astype(np.float32)))
    arrays, facts = forest.grow(windows, Params(), seed=9)
    theirs = IsolationForest(n_estimators=200, contamination=0.001, max_samples=0.7, random_state=9)
    expected = -theirs.fit(windows).score_samples(seen)
    forests = Forests()
    forests.reserve(3)
    forests.adopt(2, Artifact(arrays, facts))
    forests.adopt(0, Artifact(arrays, facts))
    for slot in (0, 2):
        found = [forest.score(*forests.arrays, slot, window) for window in seen]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.isclose(facts["threshold"], -theirs.offset_)
