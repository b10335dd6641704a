"""Networks that are older than frameworks, by scikit-learn, and for those that it has not by the definition in NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import Perceptron
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neural_network import BernoulliRBM, MLPClassifier

Arrays = tuple[np.ndarray, ...]


@dataclass
class PerceptronTwin:
    """sklearn.linear_model.Perceptron of one unit."""

    def __call__(self, weights: Mapping[str, np.ndarray], retina: np.ndarray) -> Arrays:
        weight, bias = weights.values()
        model = Perceptron()
        model.coef_, model.intercept_, model.classes_ = weight, bias, np.array([0.0, 1.0])
        return model.predict(retina)[:, None], model.decision_function(retina)[:, None]


def perceptron(**params: int) -> PerceptronTwin:
    return PerceptronTwin()


@dataclass
class MlpTwin:
    """sklearn.neural_network.MLPClassifier; its probabilities give the logits, up to what all have in common."""

    def __call__(self, weights: Mapping[str, np.ndarray], image: np.ndarray) -> Arrays:
        arrays = list(weights.values())
        model = MLPClassifier(hidden_layer_sizes=[len(b) for b in arrays[1:-1:2]], activation="relu")
        model.coefs_, model.intercepts_ = [w.T for w in arrays[::2]], arrays[1::2]
        model.n_layers_, model.out_activation_ = len(arrays) // 2 + 1, "identity"
        return (model._forward_pass_fast(image.reshape(len(image), -1)),)


def mlp(**params: int) -> MlpTwin:
    return MlpTwin()


@dataclass
class RbfTwin:
    """Broomhead, Lowe 1988: Gaussians of the mean squared differences from centres, each with a width of its own, and weighted sums."""

    def __call__(self, weights: Mapping[str, np.ndarray], pixels: np.ndarray) -> Arrays:
        centres, narrow, weight, bias = weights.values()
        far = euclidean_distances(pixels, centres, squared=True) / pixels.shape[1]
        return (np.exp(-narrow * far) @ weight.T + bias,)


def rbf(**params: int) -> RbfTwin:
    return RbfTwin()


@dataclass
class RbmTwin:
    """sklearn.neural_network.BernoulliRBM's probabilities of visible units, given the hidden ones that were drawn last."""

    def __call__(self, weights: Mapping[str, np.ndarray], image: np.ndarray, seed: np.ndarray, *drawn: np.ndarray) -> Arrays:  # fmt: skip
        visible, hidden = drawn
        w, b, a = weights.values()
        model = BernoulliRBM(w.shape[1])
        model.components_, model.intercept_hidden_, model.intercept_visible_ = w.T, b, a
        ink = 1 / (1 + np.exp(-(hidden @ model.components_ + model.intercept_visible_)))
        return visible, ink, hidden


def rbm_gibbs(**params: int) -> RbmTwin:
    return RbmTwin()
