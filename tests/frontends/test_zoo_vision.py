"""The examples that see: parameter counts as published, types, compiled at small sizes as the NumPy reference computes them,
and what is special in each against its formula."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.backends.reference import run
from graphc.frontends.yaml_load import load_yaml, loads_yaml
from graphc.graph import Graph
from graphc.types import Sym

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "zoo"
BATCH = Sym("batch")
IMAGENET = {"logits": (BATCH, 1000)}
CIFAR = {"logits": (BATCH, 10)}
VGG16 = 138_357_544
ALEXNET = 60_965_224
RESNET50 = 25_557_032

# file: (trainable parameters as published, types of the results, None where they follow from data)
ZOO: dict[str, tuple[int, dict[str, tuple] | None]] = {
    "lenet5_1998": (60_000, {"distances": (BATCH, 10)}),
    "lenet5_bn": (61_706 + 6 + 16 + 120 + 84, CIFAR),
    "alexnet_2012": (ALEXNET, IMAGENET),
    "googlenet_aux": (13_378_280, dict.fromkeys(("logits", "first", "second"), (BATCH, 1000))),
    "inception_v2": (11_295_240, IMAGENET),
    "inception_v4": (42_679_816, IMAGENET),
    "inception_resnet_v2": (55_843_464, IMAGENET),
    "resnet_cifar_zero_padded": (269_722, CIFAR),
    "stochastic_depth": (1_727_962, CIFAR),
    "preact_resnet": (25_549_352, IMAGENET),
    "mobilenet_v3_small": (2_542_856, IMAGENET),
    "shufflenet_v1": (1_865_728, IMAGENET),
    "densenet_bc": (769_162, CIFAR),
    "resnet50_d": (25_576_264, IMAGENET),
    "regnet_y_400mf": (4_344_144, IMAGENET),
    "mlp_mixer": (59_880_472, IMAGENET),
    "swin_t": (28_288_354, IMAGENET),
    "capsnet": (
        81 * 256 + 256 + 81 * 256 * 256 + 256 + 1152 * 10 * 8 * 16 + 161 * 512 + 513 * 1024 + 1025 * 784,
        {"lengths": (BATCH, 10), "capsules": (BATCH, 10, 16), "image": (BATCH, 1, 28, 28)},
    ),
    "srcnn": (57_281, {"image": (BATCH, 1, Sym("height") - 16, Sym("width") - 16)}),
    "edsr": (1_369_859, {"larger": (BATCH, 3, 2 * Sym("height"), 2 * Sym("width"))}),
    "deeplab_v3": (42_004_074, {"logits": (BATCH, 21, 520, 520), "auxiliary": (BATCH, 21, 520, 520)}),
    "sliding_window": (61_706, None),
    "rcnn": (ALEXNET - 1000 * 4097 + 20 * 4097 + 80 * 9217, None),
    "yolo_v3": (61_949_149, None),
    "fpn": (
        RESNET50 - 1000 * 2049 - 53_120 + 256 * (256 + 512 + 1024 + 2048) + 4 * (9 * 256 * 256 + 2 * 256),
        {f"p{i}": (BATCH, 256, n, n) for i, n in ((2, 56), (3, 28), (4, 14), (5, 7), (6, 4))},
    ),
    "mask_rcnn": (44_401_393, None),
    "retinanet": (34_014_999, None),
    "ssd300_detect": (35_641_826, None),
}
LARGE: dict[str, tuple[int, dict[str, tuple] | None]] = {
    "localisation": (VGG16 + 4000 * 4097, {"scores": (BATCH, 1000), "class": (BATCH, 1), "box": (BATCH, 4)}),
    "yolo_v1": (271_703_550, None),
    "vgg16_bn": (138_365_992, IMAGENET),
    "overfeat": (145_920_872, None),
}
# file: params and sizes to run it at
SMALL: dict[str, dict[str, Any]] = {
    "inception_v4": {"size": 75},
    "inception_resnet_v2": {"size": 75},
    "preact_resnet": {"size": 32},
    "mobilenet_v3_small": {"size": 32},
    "shufflenet_v1": {"size": 64},
    "stochastic_depth": {"n": 2},
    "resnet50_d": {"size": 32},
    "regnet_y_400mf": {"size": 32},
    "densenet_bc": {"n": 2},
    "mlp_mixer": {"size": 64, "width": 32, "tokens": 8, "wide": 16, "depth": 2},
    "swin_t": {"size": 64, "window": 2, "c": 32, "n3": 2},
    "edsr": {"n": 2, "c": 8},
    "deeplab_v3": {"size": 64},
    "vgg16_bn": {"size": 32, "hidden": 64},
    "overfeat": {"c6": 16, "c7": 16, "classes": 5},
    "localisation": {"size": 32, "hidden": 64},
    "sliding_window": {"sure": 0.2},
    "rcnn": {"hidden": 64},
    "yolo_v1": {"cells": 2, "hidden": 64},
    "yolo_v3": {"size": 64},
    "fpn": {"size": 64},
    "ssd300_detect": {"classes": 3, "sure": 0.4},
    "retinanet": {"height": 64, "width": 96, "c": 8, "fpn": 16, "best": 50, "classes": 5},
    "mask_rcnn": {"height": 64, "width": 96, "c": 8, "fpn": 16, "hidden": 32, "best": 50, "classes": 5},
}


def count_and_types(name: str, count: int, results: dict[str, tuple] | None) -> None:
    path = EXAMPLES / f"{name}.yaml"
    graph = load_yaml(path)
    assert graph.meta["parameters"] == count
    assert graph.meta["warnings"] == ()
    assert f"{count:,} parameters" in path.read_text(), "the file's comment says another number"
    if results is not None:
        assert {n: v.shape for n, v in zip(graph.output_names, graph.outputs)} == results


@pytest.mark.parametrize("name", ZOO)
def test_parameters_and_types(name: str):
    count_and_types(name, *ZOO[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_parameters_and_types_of_large_ones(name: str):
    count_and_types(name, *LARGE[name])


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def weights_of(graph: Graph) -> dict[str, np.ndarray]:
    """By their names, without the constants of the net."""
    return {v.name: v.data for v in graph.constants() if "/" not in v.name and "." in v.name}


def exposed(name: str, *values: str, params: Mapping[str, Any] | None = None, **changes: str) -> Graph:
    """The page with these values of its net as its results; changes: texts of the page to others."""
    text = (EXAMPLES / f"{name}.yaml").read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return loads_yaml(text[: text.index("\noutputs:")] + f"\noutputs: [{', '.join(values)}]\n", params=params or {})


def nms(
    boxes: np.ndarray, scores: np.ndarray, iou: float, least: float = -math.inf, groups: np.ndarray | None = None
) -> list[int]:
    """Of corners [n, 4], the numbers of those that no better one (of their group) overlaps by more than `iou`, best first."""
    area = np.prod(boxes[:, 2:] - boxes[:, :2], 1)
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        low = np.maximum(boxes[i, :2], boxes[kept, :2])
        common = np.prod(np.clip(np.minimum(boxes[i, 2:], boxes[kept, 2:]) - low, 0, None), 1)
        over = common > iou * (area[i] + area[kept] - common)
        rival = True if groups is None else groups[kept] == groups[i]
        if scores[i] > least and not (over & rival).any():
            kept.append(int(i))
    return kept


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.sample(4)
@pytest.mark.parametrize("name", [*ZOO, *LARGE])
def test_kernels_compute_it(name: str):
    """On the CPU nothing of it runs through NumPy, and the results are those of the reference."""
    text = (EXAMPLES / f"{name}.yaml").read_text()
    if (
        name == "yolo_v3"
    ):  # random weights are sure of everything, and the order of boxes that are as good as each other is none
        text = text.replace("k: 1, as: map}", "k: 1}\n      - tanh: {as: map}")
    graph = loads_yaml(text, params=SMALL.get(name, {}))
    rng = np.random.default_rng(0)
    sizes = {"batch": 2, "count": 3, "height": 231, "width": 264}
    feeds = {
        v.name: rng.random([d if isinstance(d, int) else sizes[str(d)] for d in v.shape], np.float32)
        for v in graph.inputs
    }
    model = graphc.compile(graph)
    found = model.run(feeds)
    plan = model.plan({n: a.shape for n, a in feeds.items()})
    assert not [s.nodes for s in plan.steps if s.host] and not [n for n in plan.pending if n.host]
    for n, expected in run(graph, feeds).items():
        size = abs(expected[np.isfinite(expected)]).max(initial=1)
        np.testing.assert_allclose(found[n], expected, rtol=1e-3, atol=1e-4 * size)


# --- classifiers -------------------------------------------------------------------------------------------------------
def test_the_connections_of_1998():
    """C3 as table I of the paper says it, map by map, and the distances to the codes."""
    table = [
        [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [0, 4, 5], [0, 1, 5], [0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [0, 3, 4, 5],
        [0, 1, 4, 5], [0, 1, 2, 5], [0, 1, 3, 4], [1, 2, 4, 5], [0, 2, 3, 5], [0, 1, 2, 3, 4, 5],
    ]  # fmt: skip
    graph = exposed("lenet5_1998", "last", "f6", "s2", "c3", **{"name: s2}": "as: s2}", "    name: c3": "    as: c3"})
    feeds = {"image": images(1, 1, 32, 32), "codes": np.sign(images(10, 84))}
    distances, f6, s2, c3 = run(graph, feeds).values()
    np.testing.assert_allclose(distances, ((f6[:, None] - feeds["codes"]) ** 2).sum(2), rtol=1e-4)
    w = weights_of(graph)
    kernels = [k for path in ("threes", "fours", "all") for k in w[f"net.3.{path}.{int(path != 'all')}.conv.weight"]]
    biases = np.concatenate([w[f"net.3.{path}.{int(path != 'all')}.conv.bias"] for path in ("threes", "fours", "all")])
    windows = np.lib.stride_tricks.sliding_window_view(s2[0], (5, 5), axis=(1, 2))
    for i, maps in enumerate(table):
        expected = np.einsum("cyxij,cij->yx", windows[maps], kernels[i]) + biases[i]
        np.testing.assert_allclose(c3[0, i], expected, rtol=1e-4, atol=1e-5)


def test_subsampling_of_1998():
    """A S2 map: the sum of 2x2 pixels of C1, a factor and a bias, through 1.7159 tanh(2/3 a)."""
    changes = {"- squash\n  - subsample: {name: s2}": "- squash: {as: c1}\n  - subsample: {name: s2, as: s2}"}
    graph = exposed("lenet5_1998", "c1", "s2", **changes)
    c1, s2 = run(graph, {"image": images(2, 1, 32, 32), "codes": images(10, 84)}).values()
    w = weights_of(graph)
    sums = c1.reshape(2, 6, 14, 2, 14, 2).sum((3, 5))
    at = "net.s2.depthwise"
    a = sums * w[f"{at}.weight"].reshape(6, 1, 1) + w[f"{at}.bias"].reshape(6, 1, 1)
    np.testing.assert_allclose(s2, 1.7159 * np.tanh(2 / 3 * a), rtol=1e-4, atol=1e-5)


def test_response_normalisation_of_2012():
    """b = a/(2 + 1e-4 Σ a²)^0.75 over 5 neighbours (section 3.3)."""
    graph = exposed("alexnet_2012", "a", "b", **{"4}\n  - relu\n  - lrn": "4}\n  - relu: {as: a}\n  - lrn: {as: b}"})
    a, b = run(graph, {"image": 100 * images(1, 3, 227, 227)}).values()
    padded = np.pad(a.astype(np.float64) ** 2, ((0, 0), (2, 2), (0, 0), (0, 0)))
    squares = sum(padded[:, i : i + 96] for i in range(5))
    np.testing.assert_allclose(b, a / (2 + 1e-4 * squares) ** 0.75, rtol=1e-4)
    assert squares.max() > 1e5, "the sums matter"


@pytest.mark.parametrize(("n", "count"), [(5, 464_154), (9, 853_018), (18, 1_727_962)])  # 0.46, 0.85 and 1.7 M
def test_depths_for_cifar(n: int, count: int):
    assert load_yaml(EXAMPLES / "resnet_cifar_zero_padded.yaml", {"n": n}).meta["parameters"] == count


def test_survival():
    """1 - l/L·(1 - p): from 1 - 0.4/6 down to p, and it is what the residuals are multiplied by."""
    graph = load_yaml(EXAMPLES / "stochastic_depth.yaml", {"n": 2, "survival": 0.6})
    rates = [float(v.data) for n in graph.nodes if n.op.name == "Mul" for v in n.inputs if v.is_const]
    np.testing.assert_allclose(rates, [1 - 0.4 * block / 6 for block in range(1, 7)], rtol=1e-6)
    whole = load_yaml(EXAMPLES / "stochastic_depth.yaml", {"n": 1, "survival": 1.0})
    plain = load_yaml(EXAMPLES / "resnet_cifar_zero_padded.yaml", {"n": 1})
    x = images(2, 3, 32, 32)
    np.testing.assert_allclose(run(whole, {"image": x})["logits"], run(plain, {"image": x})["logits"], rtol=1e-5)


@pytest.mark.parametrize(
    ("groups", "c", "millions"), [(1, 144, 143), (2, 200, 140), (3, 240, 137), (4, 272, 133), (8, 384, 137)]
)
def test_multiplications_of_shufflenet(groups: int, c: int, millions: int):
    """Table 1 of the paper; ours are up to 1.4 millions more, the last dense layer and its like."""
    graph = load_yaml(EXAMPLES / "shufflenet_v1.yaml", {"groups": groups, "c": c})
    count = 0
    for n in graph.nodes:
        if n.op.name in ("Conv", "Gemm"):
            count += math.prod(n.output.shape[2:]) * n.inputs[1].data.size
    assert 0 <= count / 1e6 - millions < 1.4


def test_capsules_vote():
    """Three rounds of procedure 1 of the paper, and the squash of its equation 1, with NumPy."""

    def squash(s: np.ndarray) -> np.ndarray:
        squares = (s**2).sum(-1, keepdims=True)
        return squares / (1 + squares) * s / np.sqrt(squares)

    graph = exposed("capsnet", "lengths", "capsules", "votes", "lower", "chosen", params={"classes": 4})
    lengths, capsules, votes, lower, chosen = run(graph, {"image": images(2, 1, 28, 28)}).values()
    u, w = lower[:, :, 0].astype(np.float64), weights_of(graph)["net.transforms.value"].reshape(1152, 8, 4, 16)
    np.testing.assert_allclose(votes, np.einsum("bid,idje->bije", u, w), rtol=1e-3, atol=1e-5)
    logits = np.zeros((2, 1152, 4))
    for _ in range(3):
        coupling = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
        v = squash((coupling[..., None] * votes).sum(1))
        logits += (votes * v[:, None]).sum(-1)
    np.testing.assert_allclose(capsules, v, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(lengths, np.linalg.norm(v, axis=-1), rtol=1e-3)
    assert (lengths < 1).all() and (np.linalg.norm(lower, axis=-1) < 1).all()
    np.testing.assert_array_equal(chosen[:, :, 0], np.eye(4)[lengths.argmax(1)])


@pytest.mark.parametrize("shift", [0, 1])
def test_windows_of_swin(shift: int):
    """Token by token: it sees those of its window, which is moved by `shift`, as far as they are near it in the image."""
    side, m, heads, c = 6, 3, 2, 8
    text = (EXAMPLES / "swin_t.yaml").read_text()
    blocks = text[text.index("blocks:") : text.index("\nnet:")]
    graph = loads_yaml(
        f"graphc: 1\nparams: {{window: {m}}}\ninputs: {{x: [batch, {side * side}, {c}]}}\n{blocks}\n"
        f"net: [{{attend: {{heads: {heads}, side: {side}, shift: {shift}, name: a}}}}]\n"
    )
    w = {n.removeprefix("net.a."): a for n, a in weights_of(graph).items()}
    x = images(1, side * side, c)
    q, k, v = (x[0] @ w["qkv.weight"].T + w["qkv.bias"]).reshape(-1, 3, heads, c // heads).transpose(1, 2, 0, 3)
    table = w["bias.param.value"]
    places = [divmod(t, side) for t in range(side * side)]
    expected = np.zeros((side * side, c))
    for t, (y, z) in enumerate(places):
        window = [((a - shift) % side // m, (b - shift) % side // m) for a, b in places]
        seen = [i for i, (a, b) in enumerate(places) if window[i] == window[t] and abs(a - y) < m and abs(b - z) < m]
        for h in range(heads):
            near = [table[(y - places[i][0] + m - 1) * (2 * m - 1) + z - places[i][1] + m - 1, h] for i in seen]
            score = k[h, seen] @ q[h, t] / math.sqrt(c // heads) + near
            weight = np.exp(score - score.max())
            expected[t, h * c // heads :][: c // heads] = weight @ v[h, seen] / weight.sum()
    expected = expected @ w["out.weight"].T + w["out.bias"]
    np.testing.assert_allclose(run(graph, {"x": x})["output"][0], expected, rtol=1e-4, atol=1e-5)


# --- where things are --------------------------------------------------------------------------------------------------
def test_the_box_of_the_best_class():
    changes = {"reshape: [0, $classes, 4]": "reshape: {shape: [0, $classes, 4], as: all}"}
    graph = exposed(
        "localisation", "scores", "class", "box", "all", params={"size": 32, "hidden": 64, "classes": 6}, **changes
    )
    scores, best, box, every = run(graph, {"image": images(5, 3, 32, 32)}).values()
    np.testing.assert_array_equal(best[:, 0], scores.argmax(1))
    assert best.all(), "not simply the first one"
    middle, extent = np.split(every[np.arange(5), best[:, 0]], 2, axis=1)
    corners = 32 * np.concatenate([middle - extent / 2, middle + extent / 2], 1)
    np.testing.assert_allclose(box, corners.clip(0, 32), rtol=1e-5, atol=1e-4)


def test_windows_are_those_of_the_classifier(tmp_path: Path):
    """Each window's scores are those that LeNet-5 of 32x32 pixels, with the same weights, gives of that cut."""
    graph = load_yaml(EXAMPLES / "sliding_window.yaml", {"height": 44, "width": 52, "sure": 0.2})
    image = images(2, 1, 44, 52)
    found = run(graph, {"image": image})
    weights = weights_of(graph)
    for at in (6, 8, 10):  # dense layers there stand behind a flatten
        for part in ("weight", "bias"):
            array = weights.pop(f"net.{at}.conv.{part}")
            weights[f"net.{at + 1}.dense.{part}"] = array.reshape(len(array), -1) if part == "weight" else array
    np.savez(tmp_path / "w.npz", **weights)
    text = (EXAMPLES / "lenet5.yaml").read_text() + "weights: {file: w.npz}\n"
    (tmp_path / "lenet5.yaml").write_text(text.replace("28, 28]", "32, 32]").replace("k: 5, pad: 2", "k: 5"))
    lenet = load_yaml(tmp_path / "lenet5.yaml")
    for row in range(4):
        for column in range(6):
            cut = image[:, :, 4 * row :, 4 * column :][:, :, :32, :32]
            expected = run(lenet, {"image": np.ascontiguousarray(cut)})["logits"]
            np.testing.assert_allclose(found["logits"][:, :, row, column], expected, rtol=1e-4, atol=1e-5)
    places, columns = found["found"][:, 2], 6
    corners = np.stack([4 * (places % columns), 4 * (places // columns)], 1)
    np.testing.assert_array_equal(found["boxes"], np.concatenate([corners, corners + 32], 1))


def test_rcnn_boxes():
    """A region's cut with 16 of 227 pixels around; moves as in appendix C; suppression class by class."""
    values = ["cuts", "scores", "moves", "boxes", "found"]
    graph = exposed("rcnn", *values, params={"hidden": 16, "classes": 3, "height": 40, "width": 50})
    rng = np.random.default_rng(0)
    low = rng.random((4, 2), np.float32) * 20
    regions = np.concatenate([low, low + 4 + 10 * rng.random((4, 2), np.float32)], 1)
    cuts, scores, moves, boxes, found = run(graph, {"image": images(1, 3, 40, 50), "regions": regions}).values()
    extent = regions[:, 2:] - regions[:, :2]
    np.testing.assert_allclose((cuts[:, 2:] - cuts[:, :2]) * (227 - 32) / 227, extent, rtol=1e-5)
    np.testing.assert_allclose(cuts[:, 2:] + cuts[:, :2], regions[:, 2:] + regions[:, :2], rtol=1e-5)
    middle = regions[:, :2] + extent / 2 + extent * moves.transpose(1, 0, 2)[..., :2]
    size = extent * np.exp(moves.transpose(1, 0, 2)[..., 2:])
    np.testing.assert_allclose(boxes, np.concatenate([middle - size / 2, middle + size / 2], 2), rtol=1e-4, atol=1e-4)
    expected = [[c, 0, i] for c in range(3) for i in nms(boxes[c], scores[:, c], 0.3, 0)]
    np.testing.assert_array_equal(found, expected)
    assert 0 < len(expected) < 12


def test_rcnn_warps():
    """A region whose cut is 227x227 whole pixels is those pixels; what is beyond the image is its mean, 0."""
    graph = exposed("rcnn", "warped", params={"hidden": 16, "height": 300, "width": 240}, **{
        "samples: 1}": "samples: 1, as: warped}",
    })  # fmt: skip
    image = images(1, 3, 300, 240)
    regions = np.float32([[20 + 16, 50 + 16, 20 + 227 - 16, 50 + 227 - 16]])  # a cut from x 20 to 247
    (warped,) = run(graph, {"image": image, "regions": regions}).values()
    np.testing.assert_allclose(warped[0, :, :, :220], image[0, :, 50:277, 20:], rtol=1e-4, atol=1e-5)
    assert not warped[0, :, :, 222:].any()


def test_yolo_v1_decodes():
    """Cell by cell: two boxes of five numbers, and classes which both share."""
    cells, classes = 2, 3
    values = ["prediction", "boxes", "scores", "found"]
    graph = exposed("yolo_v1", *values, params={"cells": cells, "hidden": 8, "classes": classes})
    prediction, boxes, scores, found = run(graph, {"image": images(2, 3, 128, 128)}).values()
    expected, sure = [], []
    for image in prediction:
        for at, cell in enumerate(image):
            for x, y, w, h, confidence in cell[:10].reshape(2, 5):
                expected.append([(at % cells + x) / cells, (at // cells + y) / cells, w * w, h * h])
                sure.append(confidence * cell[10:])
    np.testing.assert_allclose(boxes.reshape(-1, 4), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scores.transpose(0, 2, 1).reshape(-1, classes), sure, rtol=1e-5, atol=1e-6)
    corners = np.concatenate([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], 2)
    left = [[b, c, i] for b in range(2) for c in range(classes) for i in nms(corners[b], scores[b, c], 0.5, 0.2)]
    np.testing.assert_array_equal(found, left)


def test_yolo_v3_decodes():
    """σ(t) within a place, priors times e^t: place by place of three grids. A tanh keeps what random weights say small."""
    heads = {"k: 1, as: map}": "k: 1}\n      - tanh: {as: map}", "[boxes, scores]\nnet": "[boxes, scores, map]\nnet"}
    heads |= {f"as: [b{i}, s{i}]": f"as: [b{i}, s{i}, m{i}]" for i in (3, 4, 5)}
    graph = exposed("yolo_v3", "m3", "m4", "m5", "boxes", "scores", "found", params={"size": 64, "classes": 2}, **heads)
    *maps, boxes, scores, found = run(graph, {"image": images(1, 3, 64, 64)}).values()
    priors = [[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119], [116, 90, 156, 198, 373, 326]]
    expected, sure = [], []
    for m, prior, stride in zip(maps, priors, (8, 16, 32)):
        assert m.shape == (1, 21, 64 // stride, 64 // stride)
        for row, column, a in np.ndindex(64 // stride, 64 // stride, 3):
            t = m[0, 7 * a : 7 * a + 7, row, column].astype(np.float64)
            x, y = stride * (column + sigmoid(t[0])), stride * (row + sigmoid(t[1]))
            w, h = prior[2 * a] * math.exp(t[2]), prior[2 * a + 1] * math.exp(t[3])
            expected.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
            sure.append(sigmoid(t[4]) * sigmoid(t[5:]))
    np.testing.assert_allclose(boxes[0], expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(scores[0].T, sure, rtol=1e-4)
    left = [[0, c, i] for c in range(2) for i in nms(boxes[0], scores[0, c], 0.45, 0.25)[:100]]
    np.testing.assert_array_equal(found, left)


def test_frozen_norms():
    """Their scales and shifts are weights that are not trained."""
    frozen = load_yaml(EXAMPLES / "fpn.yaml", {"size": 64})
    names = [n for n in weights_of(frozen) if n.endswith("bn.weight")]
    assert 2 * sum(weights_of(frozen)[n].size for n in names) == 53_120
    text = (EXAMPLES / "fpn.yaml").read_text().replace("{frozen: true}", "{frozen: false}")
    assert loads_yaml(text).meta["parameters"] == frozen.meta["parameters"] + 53_120


def test_pyramid():
    """Each map is the 3x3 convolution of the backbone's and of the coarser sum, every pixel of it four times."""
    graph = exposed("fpn", "c4", "m5", "m4", params={"c": 4, "width": 8, "size": 64})
    c4, m5, m4 = run(graph, {"image": images(2, 3, 64, 64)}).values()
    w = weights_of(graph)
    side = np.einsum("bcyx,oc->boyx", c4, w["net.7.conv.weight"][:, :, 0, 0]) + w["net.7.conv.bias"][:, None, None]
    np.testing.assert_allclose(m4, side + m5.repeat(2, 2).repeat(2, 3), rtol=1e-3, atol=1e-3)


def cut(feature: np.ndarray, box: np.ndarray, scale: float, size: int) -> np.ndarray:
    """RoIAlign of a map [channels, h, w]: means of 2x2 bilinear samples in each of size·size bins, corners as they are."""
    x1, y1, x2, y2 = box.astype(np.float64) * scale
    bins = [max(y2 - y1, 1) / size, max(x2 - x1, 1) / size]
    at = [start + step * (np.arange(2 * size) + 0.5) / 2 for start, step in zip((y1, x1), bins)]
    at = [np.clip(a, 0, n - 1) for a, n in zip(at, feature.shape[1:])]
    low = [np.floor(a).astype(int) for a in at]
    rows, columns = [
        np.eye(n)[i] * (1 - a + i)[:, None] + np.eye(n)[np.minimum(i + 1, n - 1)] * (a - i)[:, None]
        for a, i, n in zip(at, low, feature.shape[1:])
    ]
    return (rows @ feature @ columns.T).reshape(-1, size, 2, size, 2).mean((2, 4))


def test_mask_rcnn(tmp_path: Path):
    """Regions, boxes and masks of what the heads say; drawn weights are made smaller where they decide, so that boxes lie here and
    there and several classes are likely."""
    params = SMALL["mask_rcnn"] | {"height": 128, "width": 192, "classes": 4, "sure": 0.2}
    path = EXAMPLES / "mask_rcnn.yaml"
    arrays = weights_of(load_yaml(path, params))
    for text, factor in {"net.p": 0.02, "rpn.offsets": 0.3, "net.moves": 0.3}.items():
        arrays |= {n: a * np.float32(factor) for n, a in arrays.items() if n.startswith(text)}
    np.savez(tmp_path / "w.npz", **arrays)
    values = "boxes, labels, scores, masks, regions, candidates, levels, objectness, cuts, probabilities, corners, every, p2, p3"
    text = path.read_text().replace("[boxes, labels, scores, masks]", f"[{values}]") + "weights: {file: w.npz}\n"
    text = text.replace("[regions, p2, p3, p4, p5]}\n  - flatten", "[regions, p2, p3, p4, p5], as: cuts}\n  - flatten")
    (tmp_path / "model.yaml").write_text(text)
    results = run(load_yaml(tmp_path / "model.yaml", params), {"image": images(1, 3, 128, 192)})
    (
        boxes,
        labels,
        scores,
        masks,
        regions,
        candidates,
        levels,
        objectness,
        cuts,
        probabilities,
        corners,
        every,
        *maps,
    ) = results.values()

    best = nms(candidates[0], objectness[0, 0], 0.7, 0, levels[0])[:50]
    np.testing.assert_array_equal(regions, candidates[0, best])
    assert len(set(levels[0, best])) > 2 and len(best) < levels.size

    level = np.clip(4 + np.log2(np.sqrt(np.prod(regions[:, 2:] - regions[:, :2], 1)) / 224), 2, 5).astype(int)
    assert set(level) == {2, 3}
    for region, at, found in zip(regions, level, cuts):
        np.testing.assert_allclose(found, cut(maps[at - 2][0], region, 0.5**at, 7), rtol=1e-3, atol=1e-4)

    expected = [(c, i) for c in range(3) for i in nms(corners[:, c], probabilities[:, c], 0.5, 0.2)]
    expected = sorted(expected, key=lambda ci: -probabilities[ci[1], ci[0]])[:100]
    assert {c for c, _ in expected} == set(labels - 1) and len(set(labels)) > 1
    np.testing.assert_array_equal(labels, [c + 1 for c, _ in expected])
    np.testing.assert_array_equal(scores, [probabilities[i, c] for c, i in expected])
    np.testing.assert_array_equal(boxes, [corners[i, c] for c, i in expected])
    np.testing.assert_array_equal(masks, every[np.arange(len(labels)), labels])
    assert masks.shape[1:] == (28, 28) and masks.std() > 0.01


def priors(size: float, following: float, stride: int, ratios: list[int], places: int) -> np.ndarray:
    """Of a map of SSD300, as torchvision has them: at each place both squares, then each ratio and its inverse; corners."""
    shapes = [(size, size), (math.sqrt(size * following),) * 2]
    for q in ratios:
        shapes += [(size * math.sqrt(q), size / math.sqrt(q)), (size / math.sqrt(q), size * math.sqrt(q))]
    boxes = []
    for row, column in np.ndindex(places, places):
        x, y = (column + 0.5) * stride, (row + 0.5) * stride
        for w, h in np.minimum(shapes, 300) / 2:
            boxes.append([x - w, y - h, x + w, y + h])
    return np.array(boxes)


def test_ssd_decodes():
    """Offsets of 0 give the priors; of each class the 400 best, of all the 200 best that none of their class overlaps."""
    text = (EXAMPLES / "ssd300_detect.yaml").read_text()
    silent = text.replace("as: offsets}", "as: said}\n  - scale: {by: 0, as: offsets}")
    graph = loads_yaml(silent, params={"classes": 3, "sure": 0.3})
    r = run(graph, {"image": images(1, 3, 300, 300)})
    maps = [(8, [2], 38), (16, [2, 3], 19), (32, [2, 3], 10), (64, [2, 3], 5), (100, [2], 3), (300, [2], 1)]
    sizes = [21, 45, 99, 153, 207, 261, 315]
    expected = np.concatenate([priors(a, b, *m) for a, b, m in zip(sizes, sizes[1:], maps)])
    np.testing.assert_allclose(r["boxes"][0], expected.clip(0, 300), atol=1e-3)
    scores = np.exp(r["scores"][0] - r["scores"][0].max(1, keepdims=True))
    scores = (scores / scores.sum(1, keepdims=True))[:, 1:]
    best = [(c, i) for c in range(2) for i in np.argsort(-scores[:, c], kind="stable")[:400]]
    classes, numbers = np.array(best).T
    of_best = scores[numbers, classes]
    kept = nms(r["boxes"][0, numbers], of_best, 0.45, 0.3, classes)[:200]
    assert 1 < len(kept) < 800
    np.testing.assert_allclose(r["kept_scores"], of_best[kept], rtol=1e-4)
    boxes = [(label - 1, *box) for label, box in zip(r["labels"], r["kept"].round(2))]
    assert sorted(boxes) == sorted((classes[k], *r["boxes"][0, numbers[k]].round(2)) for k in kept)


def test_retinanet():
    """Two maps' worth of anchors and the classes of all maps, from what the towers say of a small image."""
    params = SMALL["retinanet"] | {"best": 20, "classes": 3, "sure": 0.3}
    text = (EXAMPLES / "retinanet.yaml").read_text()
    text = text.replace("outputs: [boxes, scores, labels]", "outputs: [boxes, scores, labels, sure, places, all, said]")
    text = text.replace("      - flatten\n", "      - scale: {by: 0.01, as: said}\n      - flatten\n")
    text = text.replace("share: offsets, from: map, as: all}", "share: offsets, from: map}\n      - tanh: {as: all}")
    for i in range(3, 8):
        text = text.replace(f"as: [b{i}, s{i}, l{i}]", f"as: [b{i}, s{i}, l{i}, u{i}, p{i}_, a{i}, t{i}]")
    text = (
        text[: text.index("\noutputs: {images")]
        + "\noutputs: [images, kept, kept_labels, kept_scores, a3, t3, b3, s3, l3, boxes, labels, scores]\n"
    )
    r = run(loads_yaml(text, params=params), {"image": images(1, 3, 64, 96)})
    said = r["t3"].reshape(-1, 3)  # [8*12*9, classes]
    best = np.argsort(-said.reshape(-1), kind="stable")[:20]
    np.testing.assert_array_equal(r["l3"][0], best % 3)
    np.testing.assert_allclose(r["s3"][0], sigmoid(said.reshape(-1)[best]), rtol=1e-5)
    for number, box in zip(best // 3, r["b3"][0]):
        place, which = divmod(number, 9)
        ratio, size = (0.5, 1, 2)[which // 3], (32, 40, 50)[which % 3]
        w, h = 2 * np.round(size / math.sqrt(ratio) / 2), 2 * np.round(size * math.sqrt(ratio) / 2)
        dx, dy, dw, dh = r["a3"][0, number]
        x, y, w, h = 8 * (place % 12) + dx * w, 8 * (place // 12) + dy * h, w * math.exp(dw), h * math.exp(dh)
        expected = np.clip([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 0, [96, 64, 96, 64])
        np.testing.assert_allclose(box, expected, rtol=1e-4, atol=1e-3)
    kept = nms(r["boxes"][0], r["scores"][0, 0], 0.5, 0.3, r["labels"][0])
    np.testing.assert_array_equal(r["kept"], r["boxes"][0, kept])
    np.testing.assert_array_equal(r["kept_labels"], r["labels"][0, kept])
    assert len(set(r["kept_labels"])) > 1 and len(kept) < r["labels"].size
