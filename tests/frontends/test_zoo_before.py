"""The examples of what came before networks: features, classifiers, clusters, filters; by NumPy and scikit-learn."""

from __future__ import annotations

import colorsys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from pages import EXAMPLES, compiled, described, page

from graphc.frontends.yaml_load import load_yaml

# file: parameters
PAGES = {
    "hog": 6, "colour_histogram": 0, "bag_of_visual_words": 1000 * 128, "svm_linear": 650, "svm_kernel": 0, "knn": 0,
    "kmeans": 0, "pca": 0, "pca_whitening": 0, "normalisation": 0, "augmentation": 12, "filters": 7 * 9 + 25,
    "hog_svm": 6 + 3781, "local_binary_patterns": 8 * 9 + 8, "gabor": 0, "naive_bayes": 0,
}  # fmt: skip
F32 = np.float32


@pytest.mark.parametrize("name", PAGES)
def test_parameters(name: str):
    described(name, PAGES[name])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images [n, 64] from 0 to 1 and labels, to train with and to test with."""
    with np.load(EXAMPLES.parent / "digits" / "digits.npz") as data:
        return tuple(
            a.reshape(len(a), -1) / F32(16) if a.ndim == 3 else a.astype(np.int64)
            for a in (data[f"{part}_{what}"] for part in ("train", "test") for what in "xy")
        )


# --- features ---------------------------------------------------------------------------------------------------------
def _hog(image: np.ndarray, directions: int, cell: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel by pixel and block by block, with angles in degrees."""
    height, width = image.shape
    cells = np.zeros((directions, height // cell, width // cell))
    for y in range(height):
        for x in range(width):
            gy = image[y + 1, x] - image[y - 1, x] if 0 < y < height - 1 else 0.0
            gx = image[y, x + 1] - image[y, x - 1] if 0 < x < width - 1 else 0.0
            angle = np.degrees(np.arctan2(gy, gx)) % 180
            cells[min(int(angle / (180 / directions)), directions - 1), y // cell, x // cell] += np.hypot(gx, gy)
    cells /= cell**2
    blocks = []
    for y in range(cells.shape[1] - 1):
        for x in range(cells.shape[2] - 1):
            block = cells[:, y : y + 2, x : x + 2].transpose(1, 2, 0).ravel()
            block = np.minimum(block / np.sqrt(np.sum(block**2) + 1e-10), 0.2)
            blocks.append(block / np.sqrt(np.sum(block**2) + 1e-10))
    return np.concatenate(blocks), cells


@pytest.mark.parametrize("sizes", [{}, {"height": 48, "width": 32, "directions": 6, "cell": 16}])
def test_oriented_gradients(rng: np.random.Generator, sizes: dict[str, int]):
    """Of noise, and of a disc on plain ground, where most gradients are 0 and others straight up or across."""
    graph = page("hog", **sizes)
    height, width = graph.inputs[0].shape[2:]
    y, x = np.mgrid[:height, :width]
    disc = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (width / 3) ** 2
    images = np.stack([rng.integers(0, 256, (height, width)), 200 * disc]).astype(F32)
    found = compiled(graph, image=images[:, None])
    for k, image in enumerate(images):
        descriptor, cells = _hog(image.astype(np.float64), sizes.get("directions", 9), sizes.get("cell", 8))
        np.testing.assert_allclose(found["cells"][k], cells, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(found["descriptor"][k], descriptor, atol=1e-6)
    assert sizes or found["descriptor"].shape == (2, 3780), "the number of Dalal and Triggs"


def test_a_detector_prepares_its_pictures(rng: np.random.Generator):
    """In colours, from 0 to 255; or, where the caller has done that, the histograms themselves."""
    graph = load_yaml(EXAMPLES / "hog_svm.yaml")
    given = {v.name: v.data for v in graph.constants() if v.name.startswith("net.")}
    windows = rng.integers(0, 256, (3, 128, 64, 3)).astype(np.uint8)
    grey = windows @ np.array([0.299, 0.587, 0.114]) / 255
    descriptors = np.stack([_hog(image, 9, 8)[0] for image in grey])
    margins = descriptors @ given["net.0.dense.weight"][0] + given["net.0.dense.bias"]
    found = compiled(graph, window=windows)
    np.testing.assert_allclose(found["margin"][:, 0], margins, atol=1e-4)
    assert found["person"][:, 0].tolist() == (margins > 0).tolist()
    bare = load_yaml(EXAMPLES / "hog_svm.yaml", preprocess=False)
    np.testing.assert_allclose(compiled(bare, window=descriptors.astype(F32))["margin"][:, 0], margins, atol=1e-4)


def test_colours(rng: np.random.Generator):
    """Random colours, greys, black, and the corners of the cube."""
    corners = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1)
    images = rng.random((2, 3, 12, 15))
    images[:, :, 0, :8] = corners
    images[1, :, 3:6] = rng.random((3, 15))
    known = rng.random((4, 512))
    known /= known.sum(1, keepdims=True)
    found = compiled(page("colour_histogram"), image=images, known=known)
    for k, image in enumerate(images.astype(F32).astype(np.float64)):
        pixels = image.reshape(3, -1).T
        rgb = np.histogramdd(pixels, 8, [(0, 1)] * 3)[0].ravel() / len(pixels)
        hsv = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in pixels]).T
        counts = [np.histogram(channel, 16, (0, 1))[0] / len(pixels) for channel in hsv]
        np.testing.assert_allclose(found["rgb"][k], rgb, atol=1e-7)
        np.testing.assert_allclose(found["hsv"][k], counts, atol=1e-7)
        np.testing.assert_allclose(found["common"][k], np.minimum(rgb, known).sum(1), atol=1e-6)


def test_visual_words(rng: np.random.Generator, tmp_path: Path):
    codebook, descriptors = rng.random((6, 5)), rng.random((40, 5))
    with_word = np.array([3, 0, 10, 1, 7, 2])
    graph = page("bag_of_visual_words", {"net.codebook.weight": codebook}, tmp_path, words=6, features=5)
    found = compiled(graph, descriptors=descriptors, images_with=with_word, images=10)
    words = np.array([np.linalg.norm(codebook - d, axis=1).argmin() for d in descriptors])
    histogram = np.bincount(words, minlength=6) / 40
    weighted = histogram * np.log(10 / np.maximum(with_word, 1))
    np.testing.assert_array_equal(found["words"], words)
    np.testing.assert_allclose(found["histogram"], histogram, rtol=1e-6)
    np.testing.assert_allclose(found["weighted"], weighted / np.linalg.norm(weighted), rtol=1e-5)
    assert histogram[2] > 0 == found["weighted"][2], "a word of every image says nothing"


def test_local_binary_patterns(rng: np.random.Generator):
    """Of few levels of grey, so that neighbours are as bright as each other; and of the same image in another light."""
    images = rng.integers(0, 6, (2, 9, 12)).astype(np.float64)
    ring = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
    wanted = np.zeros((2, 7, 10), np.int64)
    for bit, (y, x) in enumerate(ring):
        wanted += (images[:, 1 + y : 8 + y, 1 + x : 11 + x] >= images[:, 1:-1, 1:-1]) << bit
    graph = page("local_binary_patterns")
    found = compiled(graph, image=images[:, None])
    np.testing.assert_array_equal(found["patterns"][:, 0], wanted)
    for k in range(2):
        np.testing.assert_allclose(found["histogram"][k], np.bincount(wanted[k].ravel(), minlength=256) / 70, rtol=1e-5)
    np.testing.assert_array_equal(compiled(graph, image=3 * images[:, None] + 5)["patterns"], found["patterns"])


def test_gabor(rng: np.random.Generator):
    """Complex kernels; and a grating is found in its direction."""
    params = {"reach": 6, "directions": 4, "wavelength": 5.0, "deviation": 2.0}
    graph = page("gabor", **params)
    image = rng.random((18, 20))
    down, right = np.mgrid[-6:7, -6:7]
    windows = sliding_window_view(np.pad(image, 6), (13, 13))
    found = compiled(graph, image=image[None, None])
    for i in range(4):
        turned = (right + 1j * down) * np.exp(-1j * np.pi * i / 4)  # its real part lies across the wave
        bell = np.exp(-(turned.real**2 + 0.25 * turned.imag**2) / 8)
        answer = np.einsum("hwyx,yx->hw", windows, bell * np.exp(2j * np.pi * turned.real / 5))
        np.testing.assert_allclose(found["even"][0, i], answer.real, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found["odd"][0, i], answer.imag, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found["energy"][0, i], abs(answer), rtol=1e-4, atol=1e-4)
        y, x = np.mgrid[:18, :20]
        grating = np.cos(2 * np.pi / 5 * (x * np.cos(np.pi * i / 4) + y * np.sin(np.pi * i / 4)))
        assert (compiled(graph, image=grating[None, None])["direction"][0, 6:-6, 6:-6] == i).all()


# --- classifiers ------------------------------------------------------------------------------------------------------
def test_margins(rng: np.random.Generator, tmp_path: Path):
    planes, offsets, x = rng.normal(size=(10, 64)), rng.normal(size=10), rng.normal(size=(7, 64))
    given = {"net.planes.weight": planes, "net.planes.bias": offsets}
    found = compiled(page("svm_linear", given, tmp_path), x=x)
    np.testing.assert_allclose(found["margins"], x @ planes.T + offsets, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found["label"], (x @ planes.T + offsets).argmax(1))


@pytest.mark.parametrize("classes", [3, 5])
def test_pairs_vote(rng: np.random.Generator, classes: int):
    """Each pair by itself: the vectors of both, each with its coefficient against the other."""
    gamma, each = 0.7, np.arange(classes) + 2
    class_of = np.repeat(np.arange(classes), each)
    feeds = {
        "x": rng.normal(size=(9, 4)),
        "vectors": rng.normal(size=(each.sum(), 4)),
        "class_of": class_of,
        "coefficients": rng.normal(size=(classes - 1, each.sum())),
        "intercepts": rng.normal(size=classes * (classes - 1) // 2),
    }
    found = compiled(page("svm_kernel", classes=classes, gamma=gamma), **feeds)
    votes, totals = np.zeros((9, classes)), np.zeros((9, classes))
    for n, (a, b) in enumerate(combinations(range(classes), 2)):
        decision = np.full(9, feeds["intercepts"][n])
        for v, c in enumerate(class_of):
            if c in (a, b):
                kernel = np.exp(-gamma * np.sum((feeds["x"] - feeds["vectors"][v]) ** 2, 1))
                decision += feeds["coefficients"][b - 1 if c == a else a, v] * kernel
        np.testing.assert_allclose(found["decision"][:, n], decision, rtol=1e-4, atol=1e-5)
        votes[range(9), np.where(decision > 0, a, b)] += 1
        totals[:, a] += decision
        totals[:, b] -= decision
    np.testing.assert_array_equal(found["votes"], votes)
    np.testing.assert_array_equal(found["label"], votes.argmax(1))
    np.testing.assert_allclose(found["scores"], votes + totals / (3 * (abs(totals) + 1)), rtol=1e-5)


def test_naive_bayes(rng: np.random.Generator):
    means, variances, x = rng.normal(size=(3, 4)), rng.uniform(0.5, 2, (3, 4)), rng.normal(size=(7, 4))
    priors = np.array([0.2, 0.5, 0.3])
    density = np.exp(-((x[:, None] - means) ** 2) / (2 * variances)) / np.sqrt(2 * np.pi * variances)
    joint = priors * density.prod(2)
    found = compiled(page("naive_bayes"), x=x, means=means, variances=variances, priors=priors)
    np.testing.assert_allclose(found["joint"], np.log(joint), rtol=1e-4)
    np.testing.assert_allclose(found["probabilities"], joint / joint.sum(1, keepdims=True), rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(found["label"], joint.argmax(1))


def test_neighbours(digits):
    """Nearly all digits are read; each by the same neighbours as NumPy finds."""
    samples, labels, x, truth = digits
    found = compiled(page("knn", samples=len(samples), k=3), x=x[:100], samples=samples, labels=labels)
    distances = np.sqrt(((x[:100, None].astype(np.float64) - samples) ** 2).sum(2))
    nearest = np.sort(distances, 1)[:, :3]
    np.testing.assert_allclose(found["distances"], nearest, rtol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(distances, found["neighbours"], 1), nearest, rtol=1e-5)
    votes = np.eye(10)[labels[found["neighbours"]]].sum(1)
    np.testing.assert_array_equal(found["votes"], votes)
    np.testing.assert_array_equal(found["label"], votes.argmax(1))
    assert np.mean(found["label"] == truth[:100]) > 0.95


# --- what data says of itself -----------------------------------------------------------------------------------------
def _lloyd(samples: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    for step in range(1, 300):
        labels = np.array([np.sum((centres - s) ** 2, 1).argmin() for s in samples])
        better = centres.copy()
        for c in set(labels):
            better[c] = samples[labels == c].mean(0)
        moved, centres = abs(better - centres).max(), better
        if moved <= 1e-4:
            return centres, labels, step
    raise AssertionError("never settled")


def test_centres_settle(rng: np.random.Generator):
    """On three clouds; the fourth centre is too far from all samples, and stays."""
    samples = np.concatenate([rng.normal(at, 0.5, (30, 2)) for at in ([0, 0], [4, 0], [0, 5])])
    first = np.array([[0, 1], [0.2, 1], [0, 1.5], [90, 90]], np.float64)
    centres, labels, steps = _lloyd(samples, first)
    found = compiled(page("kmeans", k=4), samples=samples, first=first)
    np.testing.assert_allclose(found["centres"], centres, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found["labels"], labels)
    assert found["steps"] == steps > 2
    np.testing.assert_allclose(found["inertia"], np.sum((samples - centres[labels]) ** 2), rtol=1e-4)
    np.testing.assert_allclose(found["centres"][3], 90)


def test_principal_components_whiten(rng: np.random.Generator):
    """Components as those of NumPy's eigenvectors, up to their signs; what they whiten has the identity for covariances."""
    mixed = rng.normal(size=(500, 8)) * 0.6 ** np.arange(8) @ np.linalg.qr(rng.normal(size=(8, 8)))[0] + 3
    covariance = np.cov(mixed.T)
    values, vectors = np.linalg.eigh(covariance)
    fit = compiled(page("pca", components=8), rtol=1e-3, atol=1e-4, samples=mixed)
    np.testing.assert_allclose(fit["mean"], mixed.mean(0), rtol=1e-5)
    np.testing.assert_allclose(fit["variances"], values[::-1], rtol=1e-4)
    np.testing.assert_allclose(
        abs(fit["components"] @ vectors[:, ::-1]), np.eye(8), atol=2e-3
    )  # weak ones mix a little

    found = compiled(page("pca_whitening", features=8, components=8, epsilon=0.0), rtol=1e-3, atol=1e-3, x=mixed, **fit)
    np.testing.assert_allclose(np.cov(found["white"].T), np.eye(8), atol=5e-3)
    np.testing.assert_allclose(np.cov(found["pca"].T), np.diag(values[::-1]), atol=1e-3)
    root = vectors / np.sqrt(values) @ vectors.T  # ZCA is by the inverse root of the covariances
    np.testing.assert_allclose(found["zca"], (mixed - mixed.mean(0)) @ root, atol=2e-2)


def test_scales(rng: np.random.Generator):
    x = rng.lognormal(3, 1, (20, 4)) + 1
    low, high = x.min(0), x.max(0)
    wanted = {
        "min_max": (x - low) / (high - low),
        "z_score": (x - x.mean(0)) / x.std(0),
        "mean": (x - x.mean(0)) / (high - low),
        "log": np.log10(x) / np.log10(high),
        "arctan": np.arctan(x) * 2 / np.pi,
    }
    found = compiled(page("normalisation"), x=x)
    for name, want in wanted.items():
        np.testing.assert_allclose(found[name], want, rtol=1e-4, atol=1e-5, err_msg=name)


# --- images -----------------------------------------------------------------------------------------------------------
def test_augmentation(rng: np.random.Generator):
    images = rng.random((100, 3, 12, 10)).astype(F32)
    graph = page("augmentation", height=12, width=10, size=8)
    found = compiled(graph, image=images, seed=7)
    assert found["augmented"].shape == (100, 3, 8, 8)
    grey = np.array([0.299, 0.587, 0.114])
    vectors = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    for k, image in enumerate(images):
        top, left = found["top"][k], found["left"][k]
        crop = image[:, top : top + 8, left : left + 8][:, :, :: -1 if found["mirrored"][k] else 1]
        np.testing.assert_array_equal(found["crops"][k], crop)
        x = crop * found["brightness"][k]
        level = np.tensordot(grey, x, 1).mean()
        x = level + found["contrast"][k] * (x - level)
        x = np.tensordot(grey, x, 1) + found["saturation"][k] * (x - np.tensordot(grey, x, 1))
        x = x + (vectors @ (found["alphas"][k] * [0.2175, 0.0188, 0.0045]))[:, None, None]
        np.testing.assert_allclose(found["augmented"][k], x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-3, err_msg="components are at right angles")

    assert set(found["top"]) == set(range(5)) and set(found["left"]) == set(range(3)), "all places"
    assert 30 < found["mirrored"].sum() < 70, "four deviations of a fair coin"
    assert 0.09 < found["alphas"].std() < 0.11
    factors = [found[name].ravel() for name in ("brightness", "contrast", "saturation")]
    assert all(f.min() < 0.65 and f.max() > 1.35 and abs(f - 1).max() <= 0.4001 for f in factors)
    assert abs(np.corrcoef(factors) - np.eye(3)).max() < 0.3, "drawn apart"
    assert (compiled(graph, image=images, seed=8)["crops"] != found["crops"]).any((1, 2, 3)).mean() > 0.8


def test_filters(rng: np.random.Generator):
    """Each by what it means; kernels that are products of a column and a row, as such."""
    images = rng.random((3, 1, 11, 9))
    windows = sliding_window_view(np.pad(images[:, 0], ((0, 0), (1, 1), (1, 1)), "edge"), (3, 3), (1, 2))
    larger = sliding_window_view(np.pad(images[:, 0], ((0, 0), (2, 2), (2, 2)), "edge"), (5, 5), (1, 2))
    middle = windows[..., 1, 1]
    up, down, left, right = windows[..., 0, 1], windows[..., 2, 1], windows[..., 1, 0], windows[..., 1, 2]
    smooth, slope, binomial = np.array([1, 2, 1]), np.array([-1, 0, 1]), np.poly1d([1, 1]) ** 4
    across, along = (np.einsum("...yx,y,x", windows, *pair) for pair in ((smooth, slope), (slope, smooth)))
    relief = 2 * (windows[..., 2, 2] - windows[..., 0, 0]) + down - up + right - left
    wanted = {
        "identity": middle,
        "sharpen": middle + (4 * middle - up - down - left - right),
        "edges": 9 * middle - windows.sum((-1, -2)),
        "sobel_x": across,
        "sobel_y": along,
        "sobel": np.hypot(across, along),
        "box_blur": windows.mean((-1, -2)),
        "gaussian_blur": np.einsum("...yx,y,x", larger, binomial.coef / 16, binomial.coef / 16),
        "emboss": middle + relief,
    }
    found = compiled(page("filters"), image=images)
    assert found.keys() == wanted.keys()
    for name, want in wanted.items():
        np.testing.assert_allclose(found[name][:, 0], want, rtol=1e-4, atol=1e-5, err_msg=name)


# --- scikit-learn -----------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_digits_by_support_vectors(digits, tmp_path: Path):
    svm = pytest.importorskip("sklearn.svm")
    x, labels, unseen, truth = digits
    fit = svm.LinearSVC(max_iter=5000).fit(x, labels)
    given = {"net.planes.weight": fit.coef_, "net.planes.bias": fit.intercept_}
    found = compiled(page("svm_linear", given, tmp_path), x=unseen)
    np.testing.assert_allclose(found["margins"], fit.decision_function(unseen), rtol=1e-3, atol=1e-4)
    assert np.mean(found["label"] == truth) > 0.93

    fit = svm.SVC(gamma=0.1).fit(x, labels)
    feeds = {
        "vectors": fit.support_vectors_,
        "class_of": np.repeat(np.arange(10), fit.n_support_),
        "coefficients": fit.dual_coef_,
        "intercepts": fit.intercept_,
    }
    found = compiled(page("svm_kernel", classes=10, gamma=0.1, features=64), x=unseen, **feeds)
    np.testing.assert_array_equal(found["label"], fit.predict(unseen))
    np.testing.assert_allclose(found["scores"], fit.decision_function(unseen), rtol=1e-4)
    fit.decision_function_shape = "ovo"
    np.testing.assert_allclose(found["decision"], fit.decision_function(unseen), rtol=1e-3, atol=1e-4)
    assert np.mean(found["label"] == truth) > 0.98


@pytest.mark.slow
def test_digits_by_themselves(digits):
    """Clusters, components and neighbours of the digits."""
    cluster, decomposition = (pytest.importorskip(f"sklearn.{name}") for name in ("cluster", "decomposition"))
    x, labels, unseen, _ = digits
    fit = cluster.KMeans(10, init=x[:10], n_init=1, tol=1e-9).fit(x)
    found = compiled(page("kmeans", k=10, features=64), samples=x, first=x[:10])
    np.testing.assert_array_equal(found["labels"], fit.labels_)
    np.testing.assert_allclose(found["centres"], fit.cluster_centers_, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["inertia"], fit.inertia_, rtol=1e-4)

    pca = decomposition.PCA(16, whiten=True).fit(x)
    found = compiled(page("pca", features=64, components=16), rtol=1e-2, atol=1e-3, samples=x)
    np.testing.assert_allclose(found["variances"], pca.explained_variance_, rtol=1e-4)
    feeds = {"mean": pca.mean_, "components": pca.components_, "variances": pca.explained_variance_}
    white = compiled(page("pca_whitening", epsilon=0.0), x=unseen, **feeds)["white"]
    np.testing.assert_allclose(white, pca.transform(unseen), rtol=1e-3, atol=1e-4)

    bayes = pytest.importorskip("sklearn.naive_bayes").GaussianNB(var_smoothing=1e-3).fit(x, labels)
    feeds = {"means": bayes.theta_, "variances": bayes.var_, "priors": bayes.class_prior_}
    found = compiled(page("naive_bayes", classes=10, features=64), x=unseen, **feeds)
    np.testing.assert_array_equal(found["label"], bayes.predict(unseen))

    neighbors = pytest.importorskip("sklearn.neighbors")
    near = neighbors.KNeighborsClassifier(5).fit(x, labels)
    found = compiled(page("knn", samples=len(x)), x=unseen, samples=x, labels=labels)
    np.testing.assert_array_equal(found["label"], near.predict(unseen))
