"""The examples of kinds of convolution: their work and weights by hand, their results by NumPy."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.lib.stride_tricks import sliding_window_view
from pages import EXAMPLES, compiled, described, page, weights

from graphc.cli.app import main
from graphc.cli.layers import layers, results

# file: parameters, and of each result the multiplications for one input and the parameters
PAGES = {
    "conv_bottleneck_1x1": (
        153_632 + 15_920,
        {"direct": (120_422_400, (25 * 192 + 1) * 32), "bottleneck": (12_443_648, 193 * 16 + (25 * 16 + 1) * 32)},
    ),
    "conv_depthwise": (
        9 * 64 * 65,
        {
            "standard": (56**2 * 64 * 9 * 64, 9 * 64 * 64),
            "depthwise": (56**2 * 64 * 9, 9 * 64),
            "diagonal": (56**2 * 64 * 9 * 64, 9 * 64),
        },
    ),
    "conv_separable": (
        9 * 64 * 128 + 9 * 64 + 64 * 128,
        {
            "standard": (28**2 * 128 * 9 * 64, 9 * 64 * 128),
            "separable": (28**2 * 64 * 9 + 28**2 * 128 * 64, 9 * 64 + 64 * 128),
            "product": (28**2 * 128 * 9 * 64, 9 * 64 + 64 * 128),
        },
    ),
    "conv_grouped": (
        25 * 96 * 256 * 3 // 2,
        {
            "standard": (27**2 * 256 * 25 * 96, 25 * 96 * 256),
            "grouped": (27**2 * 256 * 25 * 48, 25 * 48 * 256),
            "apart": (27**2 * 256 * 25 * 48, 25 * 48 * 256),
        },
    ),
    "conv_dilated": (
        (25 + 9) * 64 * 64,
        {
            "large": (28**2 * 64 * 25 * 64, 25 * 64 * 64),
            "dilated": (28**2 * 64 * 9 * 64, 9 * 64 * 64),
            "spread": (28**2 * 64 * 25 * 64, 9 * 64 * 64),
        },
    ),
    "conv_strided": (
        (9 * 64 + 1) * 64,
        {
            "strided": (28**2 * 64 * 9 * 64, (9 * 64 + 1) * 64),
            "thinned": (56**2 * 64 * 9 * 64, (9 * 64 + 1) * 64),
            "pooled": (56**2 * 64 * 9 * 64, (9 * 64 + 1) * 64),
        },
    ),
    "conv_transposed": (
        64 * 32 * 16 + (9 * 64 + 1) * 32,
        {
            "transposed": (28**2 * 64 * 16 * 32, 64 * 32 * 16),
            "stuffed": (56**2 * 32 * 16 * 64, 64 * 32 * 16),
            "resized": (56**2 * 32 * 9 * 64, (9 * 64 + 1) * 32),
        },
    ),
    "conv_factorized": (
        (25 * 64 + 1 + 2 * (9 * 64 + 1) + 2 * (5 * 64 + 1)) * 64,
        {
            "large": (28**2 * 64 * 25 * 64, (25 * 64 + 1) * 64),
            "stacked": (28**2 * 64 * 18 * 64, 2 * (9 * 64 + 1) * 64),
            "asymmetric": (28**2 * 64 * 10 * 64, 2 * (5 * 64 + 1) * 64),
        },
    ),
    "conv_winograd": (
        9 * 64 * 64,
        {"direct": (56**2 * 64 * 9 * 64, 9 * 64 * 64), "winograd": (28**2 * 16 * 64 * 64, 9 * 64 * 64)},
    ),
    "conv_im2col": (
        9 * 32 * 64,
        {"direct": (28**2 * 64 * 9 * 32, 9 * 32 * 64), "columns": (64 * 288 * 784, 9 * 32 * 64)},
    ),
    "conv_1d": (
        5 * 32 * 64,
        {"sequence": (100 * 64 * 5 * 32, 5 * 32 * 64), "image": (100 * 64 * 5 * 32, 5 * 32 * 64)},
    ),
    "conv_3d": (
        (27 + 27 + 9) * 64 * 64,
        {
            "cube": (8 * 56**2 * 64 * 27 * 64, 27 * 64 * 64),
            "apart": (8 * 56**2 * (144 * 9 * 64 + 64 * 3 * 144), 27 * 64 * 64),
            "frames": (8 * 56**2 * 64 * 9 * 64, 9 * 64 * 64),
        },
    ),
    "conv_causal": (
        (16 * 32 + 1) * 32 + 4 * (2 * 32 + 1) * 32,
        {"wide": (1000 * 32 * 16 * 32, (16 * 32 + 1) * 32), "dilated": (4 * 1000 * 32 * 2 * 32, 4 * (2 * 32 + 1) * 32)},
    ),
    "unpooling": (0, dict.fromkeys(("pooled", "places", "nails", "nearest", "bilinear"), (0, 0))),
}


@pytest.mark.parametrize("name", PAGES)
def test_multiplications_and_weights(name: str):
    parameters, costs = PAGES[name]
    graph = described(name, parameters)
    shapes = {v.name: tuple(d if isinstance(d, int) else 1 for d in v.shape) for v in graph.inputs}
    rows = layers(graph, shapes)
    assert {r.name: (r.macs, r.parameters) for r in results(graph, rows)} == costs
    comment = re.match(r"(#.*\n)+", (EXAMPLES / f"{name}.yaml").read_text("utf-8"))
    written = {int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*,\d{3}", comment.group())}
    assert written <= {n for cost in costs.values() for n in cost} | {parameters}


def test_show_compares_the_results():
    found = CliRunner().invoke(main, ["show", str(EXAMPLES / "conv_bottleneck_1x1.yaml")])
    lines = {words[0]: words[-3:] for line in found.output.splitlines() if (words := line.split())}
    assert lines["direct"] == ["2", "153,632", "120,422,400"]
    assert lines["bottleneck"] == ["4", "15,920", "12,443,648"]


# --- the results ------------------------------------------------------------------------------------------------------
Pads = list[tuple[int, int]]


def convolve(
    x: np.ndarray, w: np.ndarray, pads: Pads, strides: int = 1, dilation: int = 1, groups: int = 1
) -> np.ndarray:
    """x [batch, in, …space], w [out, in/groups, …kernel]: sums over windows, in double precision."""
    space = w.ndim - 2
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *pads])
    windows = sliding_window_view(x, [(k - 1) * dilation + 1 for k in w.shape[2:]], tuple(range(2, 2 + space)))
    step, gap = (slice(None, None, n) for n in (strides, dilation))
    windows = windows[(slice(None), slice(None), *(step,) * space, *(gap,) * space)]
    parts = zip(np.split(windows, groups, 1), np.split(w, groups, 0))
    axes = [1, *range(2 + space, 2 + 2 * space)], range(1, 2 + space)
    return np.concatenate([np.moveaxis(np.tensordot(a, b, axes), -1, 1) for a, b in parts], 1)


def same(w: np.ndarray, dilation: int = 1) -> Pads:
    return [((k - 1) * dilation // 2,) * 2 for k in w.shape[2:]]


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def biased(x: np.ndarray, b: np.ndarray) -> np.ndarray:
    return x + b.reshape(-1, *(1,) * (x.ndim - 2))


def _feeds(graph, batch: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {
        v.name: rng.standard_normal([d if isinstance(d, int) else batch for d in v.shape], np.float32)
        for v in graph.inputs
    }


def agree(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    """Within what sums of some thousand float32 differ by."""
    for name, want in wanted.items():
        np.testing.assert_allclose(found[name], want, rtol=1e-4, atol=2e-4, err_msg=name)


def _bottleneck(x, w):
    def layer(x: np.ndarray, name: str) -> np.ndarray:
        kernel = w[f"net.{name}.weight"]
        return relu(biased(convolve(x, kernel, same(kernel)), w[f"net.{name}.bias"]))

    return {"direct": layer(x, "direct"), "bottleneck": layer(layer(x, "squeeze"), "expand")}


def _depthwise(x, w):
    kernels = w["net.kernels.value"]
    each = [convolve(x[:, [c]], kernels[[c]], [(1, 1)] * 2) for c in range(x.shape[1])]
    standard = convolve(x, w["net.standard.weight"], [(1, 1)] * 2)
    return {"standard": standard, **dict.fromkeys(("depthwise", "diagonal"), np.concatenate(each, 1))}


def _separable(x, w):
    kernels = np.einsum("ckl,oc->ockl", w["net.depth.value"][:, 0], w["net.points.value"][:, :, 0, 0])
    pads = [(1, 1)] * 2
    found = dict.fromkeys(("separable", "product"), convolve(x, kernels, pads))
    return found | {"standard": convolve(x, w["net.standard.weight"], pads)}


def _grouped(x, w):
    pads = [(2, 2)] * 2
    found = dict.fromkeys(("grouped", "apart"), convolve(x, w["net.kernels.value"], pads, groups=2))
    return found | {"standard": convolve(x, w["net.standard.weight"], pads)}


def _dilated(x, w):
    pads = [(2, 2)] * 2
    found = dict.fromkeys(("dilated", "spread"), convolve(x, w["net.kernels.value"], pads, dilation=2))
    return found | {"large": convolve(x, w["net.large.weight"], pads)}


def _strided(x, w):
    every = biased(convolve(x, w["kernels.weight"], [(1, 1)] * 2), w["kernels.bias"])
    pooled = sliding_window_view(every, (2, 2), (2, 3))[:, :, ::2, ::2].max((-1, -2))
    return {"strided": every[:, :, ::2, ::2], "thinned": every[:, :, ::2, ::2], "pooled": pooled}


def _transposed(x, w):
    kernels = w["net.kernels.value"]
    size = 2 * x.shape[2]
    spread = np.zeros(
        (len(x), kernels.shape[1], size + 2, size + 2)
    )  # each value times the kernel, added where it lies
    for i, j in product(range(4), repeat=2):
        spread[:, :, i : i + size : 2, j : j + size : 2] += np.einsum("bchw,co->bohw", x, kernels[:, :, i, j])
    resized = convolve(x.repeat(2, 2).repeat(2, 3), w["net.resized.weight"], [(1, 1)] * 2)
    found = dict.fromkeys(("transposed", "stuffed"), spread[:, :, 1:-1, 1:-1])
    return found | {"resized": biased(resized, w["net.resized.bias"])}


def _factorized(x, w):
    def layer(x: np.ndarray, name: str) -> np.ndarray:
        kernel = w[f"net.{name}.weight"]
        return biased(convolve(x, kernel, same(kernel)), w[f"net.{name}.bias"])

    return {
        "large": layer(x, "large"),
        "stacked": layer(relu(layer(x, "first")), "second"),
        "asymmetric": layer(relu(layer(x, "columns")), "rows"),
    }


def _direct(*names):
    def wanted(x, w):
        kernels = w["net.kernels.value"]
        return dict.fromkeys(names, convolve(x, kernels, same(kernels)))

    return wanted


def _cube(x, w):
    cube, space, time, frames = (w[f"net.{name}.weight"] for name in ("cube", "space", "time", "frames"))
    return {
        "cube": convolve(x, cube, same(cube)),
        "apart": convolve(relu(convolve(x, space, same(space))), time, same(time)),
        "frames": convolve(x, frames, same(frames)),
    }


def _causal(x, w):
    y = x
    for i, gap in enumerate((1, 2, 4, 8)):
        name = f"net.2.{i}.0.conv"
        y = relu(biased(convolve(y, w[f"{name}.weight"], [(gap, 0)], dilation=gap), w[f"{name}.bias"]))
    return {"wide": biased(convolve(x, w["net.wide.weight"], [(15, 0)]), w["net.wide.bias"]), "dilated": y}


def _unpooling(x, w):
    tiles = x.reshape(*x.shape[:2], 14, 2, 14, 2)
    pooled = tiles.max((3, 5))
    apart = pooled[:, :, :, None, :, None]
    first = np.zeros((2, 2))
    first[0, 0] = 1
    # places of the large image, in those of the small one, whose ends go on as they are
    at = np.clip((np.arange(28) + 0.5) / 2 - 0.5, 0, 13)
    lines = np.maximum(1 - abs(at[:, None] - np.arange(14)), 0)
    return {
        "pooled": pooled,
        "places": np.where(tiles == apart, tiles, 0).reshape(x.shape),
        "nails": (apart * first[:, None]).reshape(x.shape),
        "nearest": pooled.repeat(2, 2).repeat(2, 3),
        "bilinear": np.einsum("yi,xj,bcij->bcyx", lines, lines, pooled),
    }


RESULTS = {
    "conv_bottleneck_1x1": _bottleneck, "conv_depthwise": _depthwise, "conv_separable": _separable,
    "conv_grouped": _grouped, "conv_dilated": _dilated, "conv_strided": _strided, "conv_transposed": _transposed,
    "conv_factorized": _factorized, "conv_winograd": _direct("direct", "winograd"),
    "conv_im2col": _direct("direct", "columns"), "conv_1d": _direct("sequence", "image"), "conv_3d": _cube,
    "conv_causal": _causal, "unpooling": _unpooling,
}  # fmt: skip
FEWER = {"conv_3d": {"channels": 8, "between": 18}}


@pytest.mark.parametrize("name", PAGES)
def test_results(name: str):
    graph = page(name, **FEWER.get(name, {}))
    feeds = _feeds(graph)
    found = compiled(graph, rtol=1e-4, atol=2e-4, **feeds)
    wanted = RESULTS[name](*feeds.values(), weights(graph))
    assert found.keys() == wanted.keys() == PAGES[name][1].keys()
    agree(found, wanted)


def test_nothing_ahead_is_read():
    """Of a sequence that changes from step 30 on, results change from there on, and 15 steps later only by what is new."""
    graph = page("conv_causal", steps=64)
    x = _feeds(graph)["x"]
    changed = x.copy()
    changed[:, :, 30] += 1
    for a, b in zip(compiled(graph, x=x).values(), compiled(graph, x=changed).values()):
        apart = np.flatnonzero((a != b).any((0, 1)))
        assert apart.min() == 30 and apart.max() == 45, "16 steps see step 30"
