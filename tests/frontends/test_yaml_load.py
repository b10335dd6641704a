"""The YAML language: steps, names, weights, and errors for people."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphc.backends.reference import run
from graphc.errors import CheckError, GraphcError, LoadError
from graphc.frontends import yaml_schema
from graphc.frontends.yaml_load import check, load_yaml, loads_yaml
from graphc.op import all_ops
from graphc.types import Sym

ROOT = Path(__file__).resolve().parents[2]
HEAD = "graphc: 1\ninputs: {x: [n, 3, 8, 8]}\n"


def load(net: str, head: str = HEAD, **options):
    return loads_yaml(head + net, file="m.yaml", **options)


def weights(graph) -> dict[str, np.ndarray]:
    return {v.name: v.data for v in graph.constants()}


def operators(graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


# --- steps ------------------------------------------------------------------------------------------------------------
def test_arguments_defaults_and_params():
    head = (
        "graphc: 1\nparams: {c: 4}\ninputs: {x: [n, 3, 8, 8]}\ndefaults: {conv: {bias: false, k: 1}, b: {act: tanh}}\n"
    )
    blocks = "blocks: {b: {args: {c: required, act: relu, wide: 2*$c}, body: [{conv: $c}, {conv: $wide}, $act]}}\n"
    graph = load(blocks + "net: [{b: $c}, {b: {c: 2, act: relu, wide: 5}}]", head)
    assert operators(graph) == ["Conv", "Conv", "Tanh", "Conv", "Conv", "Relu"]
    assert [n.output.shape[1] for n in graph.nodes] == [4, 8, 8, 2, 5, 5]
    assert load(blocks + "net: [{b: $c}]", head, params={"c": 7}).outputs[0].shape[1] == 14


@pytest.mark.parametrize("pad, size", [("same", 4), ("same_upper", 4), ("valid", 3), (2, 5), ([0, 1], (3, 4))])
def test_padding(pad, size):
    graph = load(f"net: [{{conv: {{out: 1, k: 3, s: 2, pad: {pad}}}}}]")
    assert graph.outputs[0].shape[2:] == (size if isinstance(size, tuple) else (size, size))


def test_conv_transpose_same_multiplies_the_size():
    for k, s, extra in ((3, 2, 0), (4, 2, 0), (5, 3, 0), (2, 3, 1)):
        graph = load(f"net: [{{conv_transpose: {{out: 2, k: {k}, s: {s}, pad: same, output_pad: {extra}}}}}]")
        assert graph.outputs[0].shape == (Sym("n"), 2, 8 * s, 8 * s)


@pytest.mark.parametrize("how", ["add", "mul", "mean", "max", "concat"])
def test_joins_compute(how):
    graph = load(f"net: [{{branch: {{join: {how}, paths: {{a: sigmoid, b: [], c: {{scale: 2}}}}}}}}]")
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    paths = [1 / (1 + np.exp(-x)), x, 2 * x]
    expected = {
        "add": sum(paths),
        "mul": paths[0] * paths[1] * paths[2],
        "mean": sum(paths) / 3,
        "max": np.maximum(np.maximum(*paths[:2]), paths[2]),
        "concat": np.concatenate(paths, axis=1),
    }[how]
    np.testing.assert_allclose(run(graph, {"x": x})["output"], expected, rtol=1e-5, atol=1e-6)


def _branch(main: str, skip: str) -> str:
    return f"net: [{{branch: {{join: add, paths: {{main: [{main}], skip: {{{skip}}}}}}}}}]"


def test_projected_skips():
    same, wider = "{conv: {out: 3, pad: same}}", "{conv: {out: 5, s: 2, pad: same}}"
    assert operators(load(_branch(same, "project: auto"))) == ["Conv", "Add"]
    graph = load(_branch(wider, "project: auto"))
    assert operators(graph) == ["Conv", "Conv", "BatchNormalization", "Add"]
    assert {"net.0.skip.conv.weight", "net.0.skip.bn.running_var"} <= set(weights(graph))
    assert tuple(graph.nodes[1].attrs["strides"]) == (2, 2)
    usual = load(
        _branch(wider, "project: auto"),
        "graphc: 1\ninputs: {x: [n, 3, 8, 8]}\ndefaults: {bn: {eps: 0.5, frozen: true}}\n",
    )
    assert [n.attrs["epsilon"] for n in usual.nodes if n.op.name == "BatchNormalization"] == [0.5]
    assert usual.meta["parameters"] == graph.meta["parameters"] - 2 * 5
    assert operators(load(_branch(wider, "project: auto, bn: false"))) == ["Conv", "Conv", "Add"]
    assert operators(load(_branch(wider, "project: never"))) == ["Conv"]
    assert operators(load(_branch(same, "project: never"))) == ["Conv", "Add"]
    open_size = load(_branch(wider, "project: auto"), "graphc: 1\ninputs: {x: [n, 3, h, w]}\n")
    assert operators(open_size)[-1] == "Add"


@pytest.mark.parametrize(("channels", "stride"), [(7, 2), (7, 1), (3, 2), (3, 1)])
def test_skips_of_zeros(channels: int, stride: int):
    """What the stride meets, and channels of zeros behind."""
    main = f"{{conv: {{out: {channels}, s: {stride}, pad: same}}}}, {{scale: 0}}"
    graph = load(_branch(main, "project: zeros"), "graphc: 1\ninputs: {x: [n, 3, 5, 6]}\n")
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 6)).astype(np.float32)
    found = run(graph, {"x": x})["output"]
    assert found.shape[1] == channels
    np.testing.assert_array_equal(found[:, :3], x[:, :, ::stride, ::stride])
    assert not found[:, 3:].any()
    assert graph.meta["parameters"] == channels * (3 * 9 + 1), "those of the convolution alone"


def test_repeat():
    body = "blocks: {b: {args: {c: required, s: 1}, body: [{conv: {out: $c, s: $s, pad: same}}]}}\n"
    graph = load(body + "net: [{repeat: {n: 3, of: b, c: 4*$i + 4, first: {s: 2}, last: {c: 7}}}]")
    assert [n.output.shape[1:3] for n in graph.nodes] == [(4, 4), (8, 4), (7, 4)]
    assert [w for w in weights(graph) if w.endswith("weight")] == [f"net.0.{i}.conv.weight" for i in range(3)]
    graph = load("net: [{repeat: {n: 2, of: {conv: {out: 4, k: 1}}, join: concat}}]")
    assert graph.outputs[0].shape[1] == 3 + 4 + 4
    graph = load("net: [{repeat: {n: 2, of: [{conv: {out: 3, pad: same}}, relu], join: add}}]")
    assert operators(graph) == ["Conv", "Relu", "Add"] * 2
    assert operators(load("net: [{repeat: {n: 0, of: relu}}, tanh]")) == ["Tanh"]


def test_channels_are_those_of_each_iteration():
    body = "blocks: {b: {args: {c: 2*$channels}, body: [{conv: {out: $c, k: 1}}]}}\n"
    assert load(body + "net: [{repeat: {n: 3, of: b}}]").outputs[0].shape[1] == 24


def test_loop_shares_weights_and_carries_names():
    text = (
        "net: [{tanh: {as: h}}, {loop: {n: 3, of: [{conv: {out: 3, k: 1, from: h}}, {add: {from: [last, x], as: h}}]}}]"
    )
    graph = load(text + "\noutputs: [h]")
    assert [n for n in weights(graph) if "conv" in n] == ["net.1.0.conv.weight", "net.1.0.conv.bias"]
    x = np.ones((1, 3, 8, 8), np.float32)
    w = weights(graph)
    h = np.tanh(x)
    for _ in range(3):
        h = (
            np.einsum("oi,nihw->nohw", w["net.1.0.conv.weight"][:, :, 0, 0], h)
            + w["net.1.0.conv.bias"][:, None, None]
            + x
        )
    np.testing.assert_allclose(run(graph, {"x": x})["h"], h, rtol=1e-5)


def test_share():
    graph = load("net: [{conv: {out: 3, pad: same}, share: t}, relu, {conv: {out: 3, pad: same, share: t}}]")
    assert set(weights(graph)) == {"t.weight", "t.bias"}
    assert graph.nodes[0].inputs[1] is graph.nodes[2].inputs[1]
    assert graph.meta["parameters"] == 84
    assert [row.parameters for row in graph.meta["layers"]] == [84, 0, 0]
    with pytest.raises(LoadError, match="shared weight 't.weight' is frozen where first used, trained here"):
        loads_yaml("graphc: 1\ninputs: {x: [n, 3, 8]}\nnet: [{bn: {share: t, frozen: true}}, {bn: {share: t}}]\n")
    with pytest.raises(LoadError, match="shared weight 't.weight' has shape"):
        load("net: [{conv: {out: 3}, share: t}, {conv: {out: 4}, share: t}]")


def test_if_and_recursion():
    body = "blocks: {f: {args: {n: required}, body: [{if: $n > 0, then: [tanh, {f: $n - 1}], else: relu}]}}\n"
    assert operators(load(body + "net: [{f: 3}]")) == ["Tanh"] * 3 + ["Relu"]
    with pytest.raises(LoadError, match="nested deeper"):
        load("blocks: {f: {args: {n: 0}, body: [{f: $n + 1}]}}\nnet: [f]")


def test_steps_as_arguments():
    body = "blocks: {twice: {args: {of: required}, body: [$of, $of]}}\n"
    graph = load(body + "net: [{twice: {of: [relu, {leaky_relu: 0.3}]}}, {twice: tanh}]")
    assert operators(graph) == ["Relu", "LeakyRelu", "Relu", "LeakyRelu", "Tanh", "Tanh"]


def test_operators_by_their_own_names():
    text = "net: [{Gather: {axis: 1, inputs: [x, [2, 0]]}}, {Split: {axis: 1, num_outputs: 2}, as: [a, b]}, {Clip: {inputs: [b, null, 0.5]}}]"
    graph = load(text + "\noutputs: {a: a, b: last}")
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    found = run(graph, {"x": x})
    np.testing.assert_array_equal(found["a"], x[:, 2:])
    np.testing.assert_array_equal(found["b"], np.minimum(x[:, :1], 0.5))


def test_the_last_value_among_several_operands_of_an_operator():
    """`last` is what the step before gave, wherever it stands; among `inputs` beside a `from`, what that names."""
    head = "graphc: 1\ninputs: {a: [2], b: [2]}\n"
    feeds = {"a": np.array([1, 2], np.float32), "b": np.array([10, 20], np.float32)}
    for step in ("{Sub: {from: [a, last]}}", "{Sub: {inputs: [a, last]}}", "{sub: {from: [a, last]}}"):
        graph = load(f"net: [{{scale: {{by: 2, from: b}}}}, {step}]", head)
        np.testing.assert_array_equal(run(graph, feeds)["output"], [-19, -38])
    graph = load("net: [{scale: {by: 2, from: b}}, {Sub: {from: a, inputs: [last, 1]}}]", head)
    np.testing.assert_array_equal(run(graph, feeds)["output"], [0, 1])


def test_several_inputs_and_outputs():
    head = "graphc: 1\ninputs: {a: [n, 4], b: {shape: [n, 4], dtype: float64}, i: {shape: [n], dtype: int64}}\n"
    graph = load("net: [{Cast: {to: float32, inputs: b}}, {sub: {from: [a, last]}}]\noutputs: {d: last, a: a}", head)
    assert [str(v.dtype) for v in graph.inputs] == ["float32", "float64", "int64"]
    assert graph.output_names == ("d", "a")


def test_recurrent_layers_agree_with_a_plain_loop():
    graph = load("net: [{gru: {hidden: 3, biases: 1}}]", "graphc: 1\ninputs: {x: [n, t, 2]}\n")
    w = weights(graph)
    W, R, b = w["net.0.gru.l0.w"][0], w["net.0.gru.l0.r"][0], w["net.0.gru.l0.b"][0]
    x = np.random.default_rng(0).standard_normal((2, 4, 2)).astype(np.float32)
    h, steps = np.zeros((2, 3)), []
    for t in range(4):
        gate = x[:, t] @ W.T + b
        state = h @ R.T
        z, r = (1 / (1 + np.exp(-gate[:, k : k + 3] - state[:, k : k + 3])) for k in (0, 3))
        h = (1 - z) * np.tanh(gate[:, 6:] + r * state[:, 6:]) + z * h
        steps.append(h)
    np.testing.assert_allclose(run(graph, {"x": x})["output"], np.stack(steps, 1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cell, gates", [("lstm", 4), ("gru", 3), ("rnn", 1)])
@pytest.mark.parametrize("both", [False, True])
def test_recurrent_shapes_and_parameters(cell, gates, both):
    head = "graphc: 1\ninputs: {x: [n, t, 5]}\n"
    flag = str(both).lower()
    n = 2 if both else 1
    everything = load(f"net: [{{{cell}: {{hidden: 3, layers: 2, bidirectional: {flag}}}}}]", head)
    last = load(f"net: [{{{cell}: {{hidden: 3, layers: 2, bidirectional: {flag}, return: last}}}}]", head)
    assert everything.outputs[0].shape == (Sym("n"), Sym("t"), 3 * n)
    assert last.outputs[0].shape == (Sym("n"), 3 * n)
    assert everything.meta["parameters"] == n * gates * 3 * ((5 + 3 + 2) + (3 * n + 3 + 2))


def test_attention_is_permuted_with_its_steps():
    """Self-attention without positions: other order of the steps in, the same other order out."""
    graph = load("net: [{attention: {heads: 2}}]", "graphc: 1\ninputs: {x: [n, t, 8]}\n")
    x = np.random.default_rng(0).standard_normal((1, 5, 8)).astype(np.float32)
    order = [3, 1, 4, 0, 2]
    y = run(graph, {"x": x})["output"]
    np.testing.assert_allclose(run(graph, {"x": x[:, order]})["output"], y[:, order], rtol=1e-4, atol=1e-5)
    assert y.std(axis=1).max() > 1e-3


def test_sources_and_table():
    text = "blocks:\n  b: {args: {c: 2}, body: [{conv: {out: $c}}]}\nnet:\n  - b\n  - relu\n"
    graph = load(text)
    assert [str(n.source) for n in graph.nodes] == ["m.yaml: line 4, column 29 (in b)", "m.yaml: line 7, column 5"]
    assert graph.meta["layers"] == (("net.0.conv", 4, "net.0.conv", 56), ("net.1.relu", 7, "net.1.relu", 0))


# --- weights ----------------------------------------------------------------------------------------------------------
def test_random_weights_depend_on_seed_and_name_only():
    one = weights(load("net: [{conv: {out: 4, name: a}}, {conv: {out: 4, name: b}}]"))
    more = weights(load("net: [relu, {conv: {out: 4, name: a}}, relu, {conv: {out: 4, name: b}}]"))
    assert list(one) == ["net.a.weight", "net.a.bias", "net.b.weight", "net.b.bias"]
    assert all(np.array_equal(one[k], more[k]) for k in one)
    other = weights(load("net: [{conv: {out: 4, name: a}}]\nweights: {seed: 5}"))
    assert not np.array_equal(one["net.a.weight"], other["net.a.weight"])
    big = weights(load("net: [{conv: {out: 256, k: 5}}]"))["net.0.conv.weight"]
    assert big.std() == pytest.approx(np.sqrt(2 / 75), rel=0.05)


_MODEL = HEAD + "net: [{conv: {out: 2}}, bn]\nweights: {file: %s}\n"
_SHAPES = {"net.0.conv.weight": (2, 3, 3, 3), "net.0.conv.bias": (2,), **{
    f"net.1.bn.{k}": (2,) for k in ("weight", "bias", "running_mean", "running_var")}}  # fmt: skip


def _save(folder: Path, kind: str, arrays: dict[str, np.ndarray]) -> Path:
    if kind == "npz":
        np.savez(folder / "w.npz", **arrays)
    else:
        from safetensors.numpy import save_file

        save_file(arrays, folder / "w.safetensors")
    (folder / "m.yaml").write_text(_MODEL % f"w.{kind}")
    return folder / "m.yaml"


def _arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {k: rng.random(s, dtype=np.float32) for k, s in _SHAPES.items()}


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_weights_from_a_file(tmp_path, kind):
    arrays = _arrays()
    found = weights(load_yaml(_save(tmp_path, kind, arrays)))
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[k], arrays[k]) for k in arrays)
    half = {k: v.astype(np.float16) for k, v in arrays.items()}
    assert all(v.dtype == np.float32 for v in weights(load_yaml(_save(tmp_path, kind, half))).values())


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_all_wrong_weights_at_once(tmp_path, kind):
    arrays = _arrays()
    arrays["net.0.conv.wieght"] = arrays.pop("net.0.conv.weight")
    arrays["net.0.conv.bias"] = np.zeros(5, np.float32)
    arrays["net.1.bn.bias"] = np.zeros(2, np.int32)
    problems = [str(p) for p in check(_save(tmp_path, kind, arrays))]
    assert len(problems) == 4
    assert "'net.0.conv.bias' has shape [5]" in problems[0] and "line 3" in problems[0]
    assert (
        "'net.0.conv.weight' [2, 3, 3, 3] is missing" in problems[1]
        and "'net.0.conv.wieght' [2, 3, 3, 3]?" in problems[1]
    )
    assert "int32" in problems[2]
    assert "holds 'net.0.conv.wieght'" in problems[3]


def test_weight_files_stay_in_the_folder_and_are_never_unpickled(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    np.savez(tmp_path / "w.npz", **_arrays())
    (inside / "link.npz").symlink_to(tmp_path / "w.npz")
    np.savez(inside / "objects.npz", **{**_arrays(), "net.0.conv.bias": np.array([{}, 1], dtype=object)})
    (inside / "broken.npz").write_bytes(b"PK\x03\x04 nonsense")
    (inside / "broken.safetensors").write_bytes(b"\xff" * 64)
    (inside / "w.pt").write_bytes(b"\x80\x04.")
    for name, message in (
        ("../w.npz", "outside the model's folder"),
        (str(tmp_path / "w.npz"), "outside the model's folder"),
        ("link.npz", "outside the model's folder"),
        ("none.npz", "does not exist"),
        ("objects.npz", "can't be read"),
        ("broken.npz", "not an npz file"),
        ("broken.safetensors", "not a safetensors file"),
        ("w.pt", "neither .safetensors nor .npz"),
    ):
        (inside / "m.yaml").write_text(_MODEL % name)
        problems = check(inside / "m.yaml")
        assert len(problems) == 1 and message in str(problems[0]), name


# --- errors -----------------------------------------------------------------------------------------------------------
_RESNET = (ROOT / "examples/zoo/resnet18.yaml").read_text()
_LENET = (ROOT / "examples/zoo/lenet5.yaml").read_text()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (_LENET.replace("  - tanh\n  - dense: 84", "  - tnah\n  - dense: 84"), ["line 15, column 5", "unknown layer 'tnah'", "'tanh'"]),
        (_LENET.replace("out: 6", "outt: 6"), ["line 7, column 12", "'conv' has no 'outt'", "did you mean 'out'?"]),
        (_LENET.replace("out: 6, ", ""), ["line 7", "'conv' needs 'out'"]),
        (_LENET.replace("out: 6", "out: six"), ["line 7, column 17", "'out' of 'conv' must be a whole number, not 'six'"]),
        (_LENET.replace("out: 6", "out: true"), ["must be a whole number"]),
        (_LENET.replace("pad: 2", "pad: sam"), ["must be 'same' or 'valid'", "did you mean 'same'?"]),
        (_LENET.replace("  - flatten\n", ""), ["line 13", "put `flatten`", "net.5.avgpool float32[batch, 16, 5, 5]"]),
        (_LENET.replace("k: 5}", "k: 55}"), ["line 10", "Conv 'net.3.conv'", "window of 55", "shapes so far"]),
        (_LENET.replace("logits: last", "logits: lst"), ["line 19, column 19", "did you mean 'last'?"]),
        (_LENET + "outpts: {}\n", ["line 20", "did you mean 'outputs'?"]),
        (_LENET.replace("graphc: 1", "graphc: 2"), ["version 2"]),
        (_LENET.replace("graphc: 1\n", ""), ["'graphc: 1' is missing"]),
        (_LENET.replace("28, 28]", "28, -1]"), ["a dim of 'image'"]),
        (_RESNET.replace("basic, c: 64", "basic, cc: 64"), ["line 23, column 31", "'basic' has no 'cc'", "'c'"]),
        (_RESNET.replace("basic, c: 64", "basik, c: 64"), ["line 23", "unknown layer 'basik'", "'basic'"]),
        (_RESNET.replace("dense: $classes", "dense: $clases"), ["line 28, column 12", "unknown variable '$clases'", "'$classes'"]),
        (_RESNET.replace("k: $k,", "k: $k/0,"), ["line 10", "(in cbr)", "division by zero"]),
        (_RESNET.replace("{project: auto}", "identity"), ["line 14", "(in basic)", "main: float32[batch, 128, 28, 28]\n", "skip: float32[batch, 64, 56, 56]"]),
        ("graphc: 1\ninputs: {x: [n, 8, 4, 4]}\nnet: [{branch: {join: add, paths: {a: {conv: {out: 5, pad: same}}, b: {project: zeros}}}}]", ["no channels of zeros make float32[n, 5, 4, 4] of float32[n, 8, 4, 4]", "project: auto"]),
        (_RESNET.replace("project: auto", "project: atuo"), ["project must be auto, zeros or never"]),
        (_RESNET.replace("project: auto", "project: zeros, bn: false"), ["project: zeros has no batch norm", "leave `bn` out"]),
        (_RESNET.replace("s: $s, pad", "s: $s, groups: 5, pad"), ["(in cbr)", "groups 5 does not divide 3 input and 64 output"]),
        (_LENET + "blocks: {scan: {body: [relu]}}\n", ["line 20", "block 'scan' has the name of a structure"]),
        (HEAD + "net: [{relu: {as: a}}, {relu: {as: a}}]", ["the name 'a' is taken"]),
        (HEAD + "net: [{relu: 3}]", ["'relu' takes no arguments"]),
        (HEAD + "net: [{relu: {from: y}}]", ["no value is named 'y'", "x"]),
        (HEAD + "net: [{relu: {}, tanh: {}}]", ["a step has one name, not 2"]),
        (HEAD + "net: [5]", ["a step must be a name"]),
        (HEAD + "net: [{Relu: {alpha: 3}}]", ["operator 'Relu' has no 'alpha'"]),
        (HEAD + "net: [{Concat: {axis: 9, inputs: [x, x]}}]", ["Concat 'net.0.Concat'", "axis 9 is out of range"]),
        (HEAD + "net: [{Cast: {to: flaot32}}]", ["unknown dtype", "'float32'"]),
        (HEAD + "net: [{if: $c, then: relu}]\nparams: {c: 3}", ["condition of if must be true or false"]),
        (HEAD + "net: [{repeat: {n: 1000000, of: relu}}]", ["n must be from 0"]),
        (HEAD + "net: [{repeat: {n: 49999, of: {repeat: {n: 49999, of: identity}}}}]", ["more than 50000 steps"]),
        (HEAD + "net: [flatten, {dense: 99999999999}]", ["would have shape [99999999999, 192]"]),
        ("graphc: 1\ninputs: {a: [1], b: [1]}\nnet: [relu]", ["'relu'", "from: NAME"]),
        ("graphc: 1\ninputs: {a: [1, 2]}\n", ["a model needs 'net'"]),
        ("graphc: 1\ninputs: {a: [n, c, 2]}\nnet: [{conv: 3}]", ["number of channels must be a number", "float32[n, c, 2]"]),
        ("5", ["a model must be a mapping"]),
    ],
)  # fmt: skip
def test_one_clear_message(text, parts):
    with pytest.raises(GraphcError) as caught:
        loads_yaml(text, file="m.yaml")
    message = str(caught.value)
    assert not isinstance(caught.value, CheckError), message
    assert message.startswith("m.yaml: ")
    for part in parts:
        assert part in message
    assert "Error" not in message and "Item(" not in message


def test_params_from_outside_are_checked():
    with pytest.raises(LoadError, match="no param 'clases'\n  did you mean 'classes'"):
        loads_yaml(_RESNET, {"clases": 3})
    for value in ("ten", None, [1], True):
        with pytest.raises(LoadError, match="param 'classes' must be"):
            loads_yaml(_RESNET, {"classes": value})
    assert loads_yaml(_RESNET, {"classes": np.int64(3)}).outputs[0].shape[1] == 3


def test_misspelt_names_are_reported_together():
    with pytest.raises(CheckError) as caught:
        loads_yaml(_LENET.replace("tanh", "tanhh").replace("flatten", "flaten"))
    assert [int(re.search(r"line (\d+)", p.source.place)[1]) for p in caught.value.problems] == [8, 11, 13, 15, 17]


def test_check(tmp_path):
    assert check(ROOT / "examples/zoo/lenet5.yaml") == []
    (tmp_path / "m.yaml").write_text(_LENET.replace("tanh", "tanhh"))
    assert len(check(tmp_path / "m.yaml")) == 4
    assert "can't be read" in str(check(tmp_path / "none.yaml")[0])


_LINES = [line for line in _RESNET.splitlines() if not line.startswith("#")]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_mutilated_file_gives_a_graphc_error_or_a_graph(data):
    """Lose lines, swap words: no other exception than ours comes out."""
    small = [line.replace("224", "32").replace("512", "8").replace("256", "8") for line in _LINES]
    for _ in range(data.draw(st.integers(1, 3))):
        i = data.draw(st.integers(0, len(small) - 1))
        words = re.split(r"(\W)", small[i])
        j, word = (
            data.draw(st.integers(0, len(words) - 1)),
            data.draw(st.sampled_from(["", "-1", "relu", "$c", "[", "{", "0", "n", "null", "1.5"])),
        )
        small[i] = "".join([*words[:j], word, *words[j + 1 :]])
    try:
        loads_yaml("\n".join(small), file="m.yaml")
    except GraphcError as e:
        assert str(e).startswith(("m.yaml", f"{len(getattr(e, 'problems', []))} problem"))


# --- schema and docs --------------------------------------------------------------------------------------------------
def test_the_schema_is_up_to_date():
    assert yaml_schema.PATH.read_text(encoding="utf-8") == yaml_schema.text(), (
        "run: python -m graphc.frontends.yaml_schema"
    )
    assert json.loads(yaml_schema.text()) == yaml_schema.schema()


_PAGE = (ROOT / "docs/yaml.md").read_text(encoding="utf-8")
_SNIPPETS = re.findall(r"```yaml\n(.*?)```", _PAGE, re.S)


@pytest.mark.parametrize("text", _SNIPPETS, ids=range(len(_SNIPPETS)))
def test_the_page_shows_models_that_run(text, tmp_path):
    """Files that a snippet needs are snippets, too, and begin with their name."""
    for other in _SNIPPETS:
        if name := re.match(r"# (\S+)\n", other):
            (tmp_path / name[1]).write_text(other)
    (tmp_path / "snippet.yaml").write_text(text)
    if "\ninputs:" not in text and "\nnets:" not in text:
        assert all("a model needs" in str(e) for e in check(tmp_path / "snippet.yaml"))
        return
    graph = load_yaml(tmp_path / "snippet.yaml")
    rng, feeds = np.random.default_rng(0), {}
    for v in graph.inputs:
        shape = [d if isinstance(d, int) else 2 for d in v.shape]
        drawn = rng.random(shape) if v.dtype.kind == "f" else rng.integers(0, 2, shape)
        feeds[v.name] = np.asarray(drawn, v.dtype)
    results = run(graph, feeds)
    assert list(results) == list(graph.output_names)
    assert all(np.isfinite(r).all() for r in results.values() if r.dtype.kind == "f")


def test_the_tutorial_counts_what_it_shows():
    """Behind each network its number of parameters; the last is the zoo's ResNet-50."""
    tutorial = _PAGE[_PAGE.index("## A network step by step") : _PAGE.index("## Sections")]
    counts = re.findall(r"```yaml\n(.*?)```.*?([\d,]+) parameters", tutorial, re.S)
    graphs = [loads_yaml(text) for text, _ in counts]
    assert len(counts) == tutorial.count("```yaml") == 4
    assert [f"{g.meta['parameters']:,}" for g in graphs] == [count for _, count in counts]
    zoo = loads_yaml((ROOT / "examples/zoo/resnet50.yaml").read_text(encoding="utf-8"))
    assert [(n.name, n.op.name) for n in graphs[-1].nodes] == [(n.name, n.op.name) for n in zoo.nodes]


def test_the_page_tells_of_every_layer():
    from graphc.frontends.yaml_registry import layers

    words = set(re.findall(r"[a-z_0-9]+", _PAGE[_PAGE.index("## Layers") :]))
    assert set(layers()) <= words


@pytest.mark.parametrize("name", [n for n, op in all_ops().items() if op.internal])
def test_a_file_names_no_operator_of_the_compilers_own(name: str):
    """Their operands are trusted: tables of addresses, packed weights."""
    with pytest.raises(GraphcError, match=f"unknown layer '{name}'"):
        loads_yaml(f"graphc: 1\ninputs: {{x: {{shape: [4, 3]}}}}\nnet: [{name}]\noutputs: {{y: last}}\n")
