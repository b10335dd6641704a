"""Learning that is older than frameworks, by scikit-learn: each model gets the numbers that the example has, or makes them.

A twin is called with the weights by name and the inputs, all in float64. `feeds` gives inputs where random ones tell nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris, make_blobs
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, LogisticRegression, Perceptron
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import BernoulliRBM, MLPClassifier
from sklearn.svm import SVC, LinearSVC

Arrays = dict[str, np.ndarray]
Results = tuple[np.ndarray, ...]


def narrow(**arrays: Any) -> Arrays:
    return {n: a.astype(np.float32) if a.dtype == np.float64 else a for n, a in arrays.items()}


class perceptron:
    """sklearn.linear_model.Perceptron of one unit."""

    def __call__(self, weights: Mapping[str, np.ndarray], retina: np.ndarray) -> Results:
        model = Perceptron()
        (model.coef_, model.intercept_), model.classes_ = weights.values(), np.array([0.0, 1.0])
        return model.predict(retina)[:, None], model.decision_function(retina)[:, None]


class mlp:
    """sklearn.neural_network.MLPClassifier, before its softmax."""

    def __call__(self, weights: Mapping[str, np.ndarray], image: np.ndarray) -> Results:
        arrays = list(weights.values())
        model = MLPClassifier(activation="relu")
        model.coefs_, model.intercepts_ = [w.T for w in arrays[::2]], arrays[1::2]
        model.n_layers_, model.out_activation_ = len(arrays) // 2 + 1, "identity"
        return (model._forward_pass_fast(image.reshape(len(image), -1)),)


class rbf:
    """Broomhead, Lowe 1988: Gaussians of the mean squared differences from centres, each with a width of its own, and sums."""

    def __call__(self, weights: Mapping[str, np.ndarray], pixels: np.ndarray) -> Results:
        centres, narrow, weight, bias = weights.values()
        far = euclidean_distances(pixels, centres, squared=True) / pixels.shape[1]
        return (np.exp(-narrow * far) @ weight.T + bias,)


class rbm_gibbs:
    """sklearn.neural_network.BernoulliRBM: what it takes the visible units' probabilities for, by the hidden ones drawn last."""

    def __call__(
        self, weights: Mapping[str, np.ndarray], image: np.ndarray, seed: np.ndarray, *drawn: np.ndarray
    ) -> Results:
        w, b, a = weights.values()
        model = BernoulliRBM()
        model.components_, model.intercept_hidden_, model.intercept_visible_ = w.T, b, a
        keep = _Ink()
        model._sample_visibles(drawn[1], keep)
        return drawn[0], keep.probabilities, drawn[1]


class _Ink:
    """A generator that hands out one number for all, and finds the probabilities that numbers are compared with."""

    def uniform(self, size: tuple[int, ...]) -> Any:
        return self

    def __lt__(self, probabilities: np.ndarray) -> np.ndarray:
        self.probabilities = probabilities
        return probabilities


class naive_bayes:
    """sklearn.naive_bayes.GaussianNB, trained on irises."""

    def feeds(self) -> Arrays:
        x, y = load_iris(return_X_y=True)
        model = GaussianNB().fit(x, y)
        return narrow(x=x, means=model.theta_, variances=model.var_, priors=model.class_prior_)

    def __call__(self, weights: Mapping[str, np.ndarray], *inputs: np.ndarray) -> Results:
        model = GaussianNB()
        x, model.theta_, model.var_, model.class_prior_ = inputs
        model.classes_, model.n_features_in_ = np.arange(3), x.shape[1]
        return model.predict_proba(x), model.predict_joint_log_proba(x), model.predict(x)


class knn:
    """sklearn.neighbors.KNeighborsClassifier."""

    def __init__(self, k: int = 5, **params: int) -> None:
        self.k = k

    def feeds(self) -> Arrays:
        rng = np.random.default_rng(0)
        return narrow(x=rng.random((20, 64)), samples=rng.random((1000, 64)), labels=rng.integers(0, 10, 1000))

    def __call__(
        self, weights: Mapping[str, np.ndarray], x: np.ndarray, samples: np.ndarray, labels: np.ndarray
    ) -> Results:
        model = KNeighborsClassifier(self.k).fit(samples, labels)
        distances, neighbours = model.kneighbors(x)
        return model.predict(x), model.predict_proba(x) * self.k, neighbours, distances


class kmeans:
    """sklearn.cluster.KMeans from the same first centres, until no label changes. It counts its steps otherwise."""

    def feeds(self) -> Arrays:
        samples, _ = make_blobs(120, 2, centers=8, random_state=3)
        return narrow(samples=samples, first=samples[:8])

    def __call__(self, weights: Mapping[str, np.ndarray], samples: np.ndarray, first: np.ndarray) -> tuple:
        model = KMeans(len(first), init=first, n_init=1, tol=0).fit(samples)
        return model.cluster_centers_, model.labels_, np.array(model.inertia_), None


class pca:
    """sklearn.decomposition.PCA. A direction's sign is nobody's choice: it is that of the example."""

    def feeds(self) -> Arrays:
        x = np.random.default_rng(4).normal(0, np.arange(8, 0, -1) ** 1.5, (200, 8))
        turn, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(8, 8)))
        return narrow(samples=x @ turn + 3)

    def __call__(self, weights: Mapping[str, np.ndarray], samples: np.ndarray, found: np.ndarray) -> Results:
        model = PCA(len(found)).fit(samples)
        signs = np.sign((model.components_ * found).sum(1, keepdims=True))
        return model.mean_, signs * model.components_, model.explained_variance_


class pca_whitening:
    """PCA(whiten=True), which adds nothing to variances; turned back without it, for ZCA."""

    def __init__(self, **params: float) -> None:
        pass

    def feeds(self) -> Arrays:
        x = np.random.default_rng(6).normal(size=(100, 64)) @ np.random.default_rng(7).normal(size=(64, 64))
        model = PCA(16).fit(x)
        return narrow(x=x, mean=model.mean_, components=model.components_, variances=model.explained_variance_)

    def __call__(self, weights: Mapping[str, np.ndarray], x: np.ndarray, *found: np.ndarray) -> Results:
        results = []
        for whiten in (False, True):
            model = PCA(16, whiten=whiten)
            model.mean_, model.components_, model.explained_variance_ = found
            results.append(model.transform(x))
        back = PCA(16)
        back.mean_, back.components_ = np.zeros(64), found[1]
        return *results, back.inverse_transform(results[1])


class svm_linear:
    """sklearn.svm.LinearSVC."""

    def __call__(self, weights: Mapping[str, np.ndarray], x: np.ndarray) -> Results:
        model = LinearSVC()
        (model.coef_, model.intercept_), model.classes_ = weights.values(), np.arange(10)
        return model.decision_function(x), model.predict(x)


class svm_kernel:
    """sklearn.svm.SVC on irises, which LIBSVM evaluates."""

    def _trained(self) -> tuple[SVC, np.ndarray]:
        x, y = load_iris(return_X_y=True)
        x = x.astype(np.float32).astype(np.float64)
        return SVC(gamma=0.5, decision_function_shape="ovo").fit(x, y), x

    def feeds(self) -> Arrays:
        model, x = self._trained()
        return narrow(
            x=x,
            vectors=model.support_vectors_,
            class_of=np.repeat(np.arange(3), model.n_support_),
            coefficients=model.dual_coef_,
            intercepts=model.intercept_,
        )

    def __call__(self, weights: Mapping[str, np.ndarray], x: np.ndarray, *found: np.ndarray) -> Results:
        model, _ = self._trained()
        _, _, model._dual_coef_, model._intercept_ = found
        decision, label = model.decision_function(x), model.predict(x)
        pairs = [(0, 1), (0, 2), (1, 2)]
        votes = sum(np.eye(3)[np.where(decision[:, i] > 0, *pair)] for i, pair in enumerate(pairs))
        model.decision_function_shape = "ovr"
        return decision, votes, model.decision_function(x), label


class linear_regression:
    """sklearn.linear_model.LinearRegression."""

    def __call__(self, weights: Mapping[str, np.ndarray], x: np.ndarray) -> Results:
        model = LinearRegression()
        model.coef_, model.intercept_ = weights.values()
        return (model.predict(x),)


class logistic_regression:
    """sklearn.linear_model.LogisticRegression of two classes: the probability of the second."""

    def __call__(self, weights: Mapping[str, np.ndarray], x: np.ndarray) -> Results:
        model = LogisticRegression()
        (model.coef_, model.intercept_), model.classes_ = weights.values(), np.arange(2)
        return model.predict_proba(x)[:, 1:], model.decision_function(x)[:, None]


class softmax_regression:
    """sklearn.linear_model.LogisticRegression of several classes."""

    def __call__(self, weights: Mapping[str, np.ndarray], x: np.ndarray) -> Results:
        model = LogisticRegression()
        (model.coef_, model.intercept_), model.classes_ = weights.values(), np.arange(10)
        return model.predict_proba(x), model.predict(x)
