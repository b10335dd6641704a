"""Weights that a step gives itself: written out, drawn in a way of its own, from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import graphc
from graphc.errors import CheckError, GraphcError, LoadError
from graphc.frontends.yaml_load import load_yaml, loads_yaml
from graphc.graph import Graph

HEAD = "graphc: 1\ninputs: {x: [n, 2]}\nnet:\n"


def weights(graph: Graph) -> dict[str, np.ndarray]:
    return {v.name: v.data for v in graph.constants() if v.name.startswith("net.")}


def of(steps: str) -> dict[str, np.ndarray]:
    return {name.split(".", 2)[2].split(".")[-1]: a for name, a in weights(loads_yaml(HEAD + steps)).items()}


def test_written_out():
    got = of("  - dense: {out: 3, weights: {weight: [[1, 2], [3, 4], [5, 6.5]], bias: -1}}")
    np.testing.assert_array_equal(got["weight"], np.array([[1, 2], [3, 4], [5, 6.5]], np.float32))
    np.testing.assert_array_equal(got["bias"], np.full(3, -1, np.float32))
    assert got["weight"].dtype == got["bias"].dtype == np.float32


def test_beside_the_layer_and_with_values_of_params():
    text = "graphc: 1\nparams: {w: 0.5, b: [1, 2]}\ninputs: {x: [n, 2]}\nnet:\n  - dense: 2\n    weights: {weight: $w, bias: $b}"
    x = np.ones((1, 2), np.float32)
    np.testing.assert_array_equal(graphc.compile(loads_yaml(text))(x), [[2, 3]])


@pytest.mark.parametrize(
    "text, bits, want",
    [
        ("[{dense: {out: 1, weights: {weight: 1, bias: -1.5}}}, {let: 'where(last > 0, 1.0, 0.0)'}]", 2, [0, 0, 0, 1]),
        ("[{dense: {out: 1, weights: {weight: 1, bias: -0.5}}}, {let: 'where(last > 0, 1.0, 0.0)'}]", 2, [0, 1, 1, 1]),
        ("[{dense: {out: 1, weights: {weight: -1, bias: 0.5}}}, {let: 'where(last > 0, 1.0, 0.0)'}]", 1, [1, 0]),
    ],
    ids=["and", "or", "not"],
)
def test_neurons(text: str, bits: int, want: list[int]):
    graph = loads_yaml(f"graphc: 1\ninputs: {{x: [n, {bits}]}}\nnet: {text}")
    x = np.array([[i >> k & 1 for k in range(bits)] for i in range(1 << bits)], np.float32)
    np.testing.assert_array_equal(graphc.compile(graph)(x)[:, 0], want)


@pytest.mark.parametrize("init", ["zeros", "ones", "identity", "uniform", "normal", "he", "xavier"])
def test_drawn(init: str):
    """By the model's seed and the weight's name; with a seed of its own, apart from it."""
    step = f"  - dense: {{out: 400, weights: {{weight: {init}}}}}"
    graph = loads_yaml(HEAD.replace("[n, 2]", "[n, 300]") + step)
    w = weights(graph)["net.0.dense.weight"].astype(np.float64)
    if init in ("zeros", "ones"):
        assert (w == (init == "ones")).all()
        return
    if init == "identity":
        np.testing.assert_array_equal(w, np.eye(400, 300))
        return
    limit = {"uniform": 1.0, "xavier": np.sqrt(6 / 700)}.get(init)
    want = limit / np.sqrt(3) if limit else {"normal": 1, "he": np.sqrt(2 / 300)}[init]
    assert abs(w.std() / want - 1) < 0.01 and abs(w.mean()) < 0.02 * want  # 120,000 draws
    assert limit is None or 0.99 * limit < abs(w).max() <= limit
    other = HEAD.replace("[n, 2]", "[n, 300]") + step
    again = loads_yaml(other.replace(f"weight: {init}", f"weight: {{init: {init}, seed: 0}}"))
    np.testing.assert_array_equal(weights(again)["net.0.dense.weight"], w)
    apart = loads_yaml(other.replace(f"weight: {init}", f"weight: {{init: {init}, seed: 1}}"))
    assert (weights(apart)["net.0.dense.weight"] != w).mean() > 0.99


def test_identity_of_a_convolution():
    text = "graphc: 1\ninputs: {x: [n, 2, 6, 6]}\nnet: [{conv: {out: 2, k: 3, pad: same, bias: false, weights: {weight: identity}}}]"
    x = np.random.default_rng(0).standard_normal((1, 2, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(graphc.compile(loads_yaml(text))(x), x)


def test_from_files(tmp_path: Path):
    a = np.array([[1, 2], [3, 4]], np.float32)
    np.save(tmp_path / "a.npy", a)
    np.savez(tmp_path / "b.npz", first=a[0].astype(np.float64))
    save_file({"second": a[1]}, tmp_path / "c.safetensors")
    (tmp_path / "m.yaml").write_text(
        HEAD
        + "  - dense: {out: 2, weights: {weight: {file: a.npy}, bias: {file: b.npz, name: first}}}\n"
        + "  - param: {value: {file: c.safetensors, name: second}, as: p}\n"
        + "  - param: {value: {value: [[1, 0], [0, 1]]}, as: eye}\n"
        + "outputs: {p: p, eye: eye, y: last}\n"
    )
    got = weights(load_yaml(tmp_path / "m.yaml"))
    np.testing.assert_array_equal(got["net.0.dense.weight"], a)
    np.testing.assert_array_equal(got["net.0.dense.bias"], a[0])
    np.testing.assert_array_equal(got["net.1.param.value"], a[1])
    np.testing.assert_array_equal(got["net.2.param.value"], np.eye(2))
    np.save(tmp_path / "a.npy", 2 * a)  # what a model was made of is looked at again
    np.testing.assert_array_equal(weights(load_yaml(tmp_path / "m.yaml"))["net.0.dense.weight"], 2 * a)


def test_a_compiled_model_follows_its_files(tmp_path: Path):
    np.save(tmp_path / "w.npy", np.full((1, 2), 1, np.float32))
    path = tmp_path / "m.yaml"
    path.write_text(HEAD + "  - dense: {out: 1, bias: false, weights: {weight: {file: w.npy}}}\n")
    x = np.ones((1, 2), np.float32)
    assert graphc.compile(path)(x) == 2
    np.save(tmp_path / "w.npy", np.full((1, 2), 5, np.float32))
    assert graphc.compile(path)(x) == 10


@pytest.mark.parametrize(
    "given, message",
    [
        ("{weight: [1, 2]}", r"weight 'net.0.dense.weight' has shape \[2\] here, the layer wants \[3, 2\]"),
        ("{wight: 1}", "'dense' has no weight 'wight'"),
        ("{weight: eros}", "no way to make weights is named 'eros'"),
        ("{weight: {init: uniform, lo: 1}}", "init uniform has no 'lo'"),
        ("{weight: {init: zeros, low: 1}}", "init zeros has no 'low'"),
        ("{bias: identity}", r"identity is for matrices and kernels, and weight 'net.0.dense.bias' has shape \[3\]"),
        ("{weight: {}}", "no way to make weights is named ''"),
        ("{weight: [[1, 2], [3]]}", "the rows of a list of numbers must be of one length"),
        ("{weight: [[true, false]]}", "true is a boolean beside an operand of float32"),
        ("{weight: {file: w.npy}}", "weights from a file need a model that is a file"),
        ("7", "the weights of a layer must be a mapping"),
        ("{weight: {init: normal, std: -1}}", "std must not be negative"),
        ("{weight: {init: normal, std: .nan}}", "std must be a finite number of float32, not nan"),
        ("{weight: {init: normal, mean: 1e39}}", r"mean must be a finite number of float32, not 1e\+39"),
        ("{weight: {init: uniform, low: -.inf}}", "low must be a finite number of float32, not -inf"),
        ("{weight: {init: uniform, low: 2}}", "low must not be above high, and they are 2 and 1"),
    ],
)
def test_what_is_wrong(given: str, message: str):
    with pytest.raises(GraphcError, match=message) as caught:
        loads_yaml(f"{HEAD}  - dense: {{out: 3, weights: {given}}}")
    assert not isinstance(caught.value, CheckError) and caught.value.source.place.startswith("line 4")


@pytest.mark.parametrize(
    "step, message",
    [
        ("Relu", "the operator 'Relu' has no weights of its own"),
        ("own", "the block 'own' has no weights of its own"),
        ("relu", "'relu' has no weight 'w'"),
    ],
)
def test_who_has_none(step: str, message: str):
    with pytest.raises(LoadError, match=message):
        loads_yaml(f"{HEAD}  - {step}: {{weights: {{w: 1}}}}\nblocks: {{own: {{body: [relu]}}}}")


@pytest.mark.parametrize(
    "step, message",
    [
        ("let: {weights: last*2, y: last}", "let has no weights\n  no value of `let` can be named weights"),
        ("repeat: {n: 2, of: relu, weights: {w: 1}}", "repeat has no weights\n  give them to its layers"),
        ("branch: {join: add, weights: {w: 1}, paths: {a: relu}}", "branch has no weights"),
    ],
)
def test_structures_have_none(step: str, message: str):
    with pytest.raises(LoadError, match=message):
        loads_yaml(f"{HEAD}  - {step}")


def test_steps_that_share_a_weight():
    """The first says what it is, however often a loop comes by; another one's word is not lost in silence."""
    first = "  - dense: {out: 2, share: t, weights: {weight: 1, bias: 0}}\n"
    x = np.ones((1, 2), np.float32)
    assert graphc.compile(loads_yaml(f"{HEAD}{first}  - dense: {{out: 2, share: t}}"))(x).tolist() == [[4, 4]]
    loop = "  - loop: {n: 3, of: [{dense: {out: 2, weights: {weight: 1, bias: [0, 1]}}}]}"
    assert graphc.compile(loads_yaml(HEAD + loop))(x).tolist() == [[11, 12]]
    for weights in ("{weight: 2}", "{weight: 1}", "{bias: 0}"):
        with pytest.raises(LoadError, match="is given here, and is another where first used") as caught:
            loads_yaml(f"{HEAD}{first}  - dense: {{out: 2, share: t, weights: {weights}}}")
        assert caught.value.source.place.startswith("line 5")
    with pytest.raises(LoadError, match="is given here, and is another where first used"):
        loads_yaml(f"{HEAD}  - dense: {{out: 2, share: t}}\n{first}")


def test_files_that_are_wrong(tmp_path: Path):
    np.save(tmp_path / "i.npy", np.arange(6).reshape(3, 2))
    np.savez(tmp_path / "b.npz", first=np.ones((3, 2)))
    for name in ("bad.npy", "w.pt"):
        (tmp_path / name).write_bytes(b"nothing")
    cases = {
        "{file: none.npy}": "does not exist",
        "{file: ../i.npy}": "lies outside the model's folder",
        "{file: i.npy}": "weights are floats, and the array is int64",
        "{file: bad.npy}": "is not an .npy file",
        "{file: b.npz}": "holds several arrays",
        "{file: b.npz, name: frist}": "holds no 'frist'",
        "{file: i.npy, name: a}": "an .npy file holds one array",
        "{file: w.pt}": "is none of .npy, .npz, .safetensors",
    }
    for given, message in cases.items():
        (tmp_path / "m.yaml").write_text(f"{HEAD}  - dense: {{out: 3, weights: {{weight: {given}}}}}")
        with pytest.raises(LoadError, match=message):
            load_yaml(tmp_path / "m.yaml")
