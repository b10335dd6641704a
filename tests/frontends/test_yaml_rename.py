"""`rename`: files with other names and layouts for the weights, as PyTorch, Hugging Face and Keras write them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from graphc.cli import main
from graphc.errors import GraphcError
from graphc.frontends.yaml_load import check, load_yaml
from graphc.frontends.yaml_rename import read_renaming
from graphc.frontends.yaml_syntax import parse
from graphc.graph import Graph
from graphc.interpret import interpret

ROOT = Path(__file__).resolve().parents[2]
ZOO = ROOT / "examples/zoo"
PAGE = (ROOT / "docs/yaml.md").read_text(encoding="utf-8")
RESNET = PAGE.partition("  file: resnet18.safetensors\n  rename:\n")[2].partition("```")[0]  # as the page shows it
BERT = """\
    net.0.embedding.weight: embeddings.word_embeddings.weight
    net.1.embedding.weight: embeddings.token_type_embeddings.weight
    net.2.param.value: embeddings.position_embeddings.weight
    net.5.layernorm.{w}: embeddings.LayerNorm.{w}
    net.6.{i}.attend.main.0.attention.in.{w}:
      - encoder.layer.{i}.attention.self.query.{w}
      - encoder.layer.{i}.attention.self.key.{w}
      - encoder.layer.{i}.attention.self.value.{w}
    net.6.{i}.attend.main.0.attention.out.{w}: encoder.layer.{i}.attention.output.dense.{w}
    net.6.{i}.attend.layernorm.{w}: encoder.layer.{i}.attention.output.LayerNorm.{w}
    net.6.{i}.think.main.0.0.dense.{w}: encoder.layer.{i}.intermediate.dense.{w}
    net.6.{i}.think.main.0.2.dense.{w}: encoder.layer.{i}.output.dense.{w}
    net.6.{i}.think.layernorm.{w}: encoder.layer.{i}.output.LayerNorm.{w}
    net.9.dense.{w}: pooler.dense.{w}
"""


def weights(graph: Graph) -> dict[str, np.ndarray]:
    known = {w.name for w in graph.meta["weights"]}
    return {v.name: v.data for v in graph.constants() if v.name in known}


def batch_norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{p}": (channels,) for p in parts} | {f"{name}.num_batches_tracked": ()}


def torchvision_resnet(counts: tuple[int, ...], kernels: tuple[int, ...], widen: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision.models.resnet*().state_dict(), in its order."""
    shapes = {"conv1.weight": (64, 3, 7, 7), **batch_norm("bn1", 64)}
    channels = 64
    for n, count in enumerate(counts):
        width = 64 << n
        for i in range(count):
            block, into = f"layer{n + 1}.{i}", channels
            for j, k in enumerate(kernels):
                out = width * widen if j == len(kernels) - 1 else width
                shapes |= {f"{block}.conv{j + 1}.weight": (out, into, k, k), **batch_norm(f"{block}.bn{j + 1}", out)}
                into = out
            if i == 0 and (n > 0 or widen > 1):
                shapes |= {f"{block}.downsample.0.weight": (into, channels, 1, 1)}
                shapes |= batch_norm(f"{block}.downsample.1", into)
            channels = into
    return shapes | {"fc.weight": (1000, channels), "fc.bias": (1000,)}


def drawn(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    whole = {n for n in shapes if n.endswith("num_batches_tracked")}
    return {n: np.array(7) if n in whole else rng.random(s, np.float32) for n, s in shapes.items()}


def model(folder: Path, text: str, rename: str, arrays: Mapping[str, np.ndarray], more: str = "") -> Path:
    save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, folder / "w.safetensors")
    path = folder / "m.yaml"
    path.write_text(f"{text}\nweights:\n  file: w.safetensors\n{more}" + (f"  rename:\n{rename}" if rename else ""))
    return path


def test_resnet18_of_torchvision(tmp_path: Path):
    arrays = drawn(torchvision_resnet((2, 2, 2, 2), (3, 3), 1))
    assert len(arrays) == 122 and sum(a.size for a in arrays.values()) == 11_689_512 + 9600 + 20
    got = weights(load_yaml(model(tmp_path, (ZOO / "resnet18.yaml").read_text(), RESNET, arrays)))
    kept = {n: a for n, a in arrays.items() if not n.endswith("num_batches_tracked")}
    assert len(got) == len(kept) == 102
    for (ours, a), (theirs, b) in zip(got.items(), kept.items()):  # both go through the network in one order
        np.testing.assert_array_equal(a, b, err_msg=f"{ours} is {theirs}")


def test_resnet50_of_torchvision():
    """The names alone: its weights take 100 MB."""
    shapes = torchvision_resnet((3, 4, 6, 3), (1, 3, 1), 4)
    renaming = read_renaming(parse(RESNET))
    asked = load_yaml(ZOO / "resnet50.yaml").meta["weights"]
    found = [(renaming.recipe(w.name).names, w.type.shape) for w in asked]
    assert found == [((n,), s) for n, s in shapes.items() if not n.endswith("num_batches_tracked")]
    assert not renaming.unused()


def hugging_face_bert(layers: int, width: int) -> dict[str, tuple[int, ...]]:
    def dense(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}

    def norm(name: str) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (width,), f"{name}.bias": (width,)}

    rows = {"word": 30522, "position": 512, "token_type": 2}
    shapes = {f"embeddings.{k}_embeddings.weight": (n, width) for k, n in rows.items()} | norm("embeddings.LayerNorm")
    for i in range(layers):
        at = f"encoder.layer.{i}"
        for part in ("query", "key", "value"):
            shapes |= dense(f"{at}.attention.self.{part}", width, width)
        shapes |= dense(f"{at}.attention.output.dense", width, width) | norm(f"{at}.attention.output.LayerNorm")
        shapes |= dense(f"{at}.intermediate.dense", 4 * width, width) | dense(f"{at}.output.dense", width, 4 * width)
        shapes |= norm(f"{at}.output.LayerNorm")
    return shapes | dense("pooler.dense", width, width)


def test_bert_of_hugging_face(tmp_path: Path):
    """Its numbers are those of the same network in NumPy, by the names of the file."""
    layers, width, heads, steps = 2, 16, 2, 6
    w = {n: a / 4 for n, a in drawn(hugging_face_bert(layers, width)).items()}
    more = {"embeddings.position_ids": np.arange(512)}
    text = (ZOO / "transformer_encoder.yaml").read_text()
    path = model(tmp_path, text, BERT, w | more, "  ignore: ['*.position_ids']\n")
    graph = load_yaml(path, {"layers": layers, "width": width, "heads": heads, "steps": steps})
    rng = np.random.default_rng(1)
    feeds = {"tokens": rng.integers(0, 30522, (2, steps)), "segments": rng.integers(0, 2, (2, steps))}
    got = interpret(graph, feeds)

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def attention(x: np.ndarray, at: str) -> np.ndarray:
        q, k, v = (
            dense(x, f"{at}.{part}").reshape(2, steps, heads, -1).swapaxes(1, 2) for part in ("query", "key", "value")
        )
        scores = np.exp(q @ k.swapaxes(2, 3) / np.sqrt(width // heads))
        return (scores / scores.sum(-1, keepdims=True) @ v).swapaxes(1, 2).reshape(2, steps, width)

    erf = np.vectorize(math.erf)
    x = w["embeddings.word_embeddings.weight"][feeds["tokens"]].astype(np.float64)
    x += w["embeddings.token_type_embeddings.weight"][feeds["segments"]]
    x = norm(x + w["embeddings.position_embeddings.weight"][:steps], "embeddings.LayerNorm")
    for i in range(layers):
        at = f"encoder.layer.{i}"
        seen = dense(attention(x, f"{at}.attention.self"), f"{at}.attention.output.dense")
        x = norm(x + seen, f"{at}.attention.output.LayerNorm")
        inner = dense(x, f"{at}.intermediate.dense")
        x = norm(x + dense(inner * (1 + erf(inner / np.sqrt(2))) / 2, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    # float32 through two layers, beside float64
    np.testing.assert_allclose(got["hidden"], x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got["pooled"], np.tanh(dense(x[:, 0], "pooler.dense")), rtol=1e-4, atol=1e-5)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm_step(a: np.ndarray, b: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """torch.nn.LSTM, as its page has it: a of the input and b of the state, each the gates i, f, g, o."""
    i, f, g, o = np.split(a + b, 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_step(a: np.ndarray, b: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """torch.nn.GRU, as its page has it: r, z, n."""
    (ar, az, an), (br, bz, bn) = np.split(a, 3, -1), np.split(b, 3, -1)
    z = sigmoid(az + bz)
    return (1 - z) * np.tanh(an + sigmoid(ar + br) * bn) + z * h, c


@pytest.mark.parametrize("kind, gates, both", [("lstm", "ifgo", False), ("lstm", "ifgo", True), ("gru", "rzn", True)])
def test_recurrent_layers_of_pytorch(tmp_path: Path, kind: str, gates: str, both: bool):
    hidden, step = 7, {"lstm": lstm_step, "gru": gru_step}[kind]
    ends, rows = ["", "_reverse"] if both else [""], len(gates) * hidden
    shapes: dict[str, tuple[int, ...]] = {}
    for i, size in enumerate((5, hidden * len(ends))):
        for end in ends:
            parts = {"weight_ih": (rows, size), "weight_hh": (rows, hidden), "bias_ih": (rows,), "bias_hh": (rows,)}
            shapes |= {f"rnn.{n}_l{i}{end}": s for n, s in parts.items()}
    w = {n: a - 0.5 for n, a in drawn(shapes).items()}

    def rule(ours: str, *stems: str) -> str:
        names = ", ".join(f"'rnn.{s}_l{{i}}{end}'" for end in ends for s in stems)
        return f"    net.0.{kind}.l{{i}}.{ours}: {{name: [{names}], gates: {gates}}}\n"

    rename = rule("w", "weight_ih") + rule("r", "weight_hh") + rule("b", "bias_ih", "bias_hh")
    net = f"[{{{kind}: {{hidden: {hidden}, layers: 2, bidirectional: {str(both).lower()}}}}}]"
    path = model(tmp_path, f"graphc: 1\ninputs: {{x: [b, t, 5]}}\nnet: {net}", rename, w)
    x = np.random.default_rng(1).standard_normal((3, 4, 5)).astype(np.float32)
    want = x.astype(np.float64)
    for i in range(2):
        ways = []
        for end in ends:
            h = c = np.zeros((3, hidden))
            out = []
            for now in want.swapaxes(0, 1)[:: -1 if end else 1]:
                a = now @ w[f"rnn.weight_ih_l{i}{end}"].T + w[f"rnn.bias_ih_l{i}{end}"]
                h, c = step(a, h @ w[f"rnn.weight_hh_l{i}{end}"].T + w[f"rnn.bias_hh_l{i}{end}"], h, c)
                out.append(h)
            ways.append(np.stack(out[:: -1 if end else 1], 1))
        want = np.concatenate(ways, -1)
    # float32 over four steps, beside float64
    np.testing.assert_allclose(interpret(load_yaml(path), {"x": x})["output"], want, rtol=1e-5, atol=1e-6)


def test_layouts_of_keras(tmp_path: Path):
    """Convolutions [h, w, in, out], depthwise ones [h, w, in, multiplier], dense layers [in, out]."""
    shapes = {"conv/kernel": (3, 2, 4, 6), "depth/kernel": (3, 3, 6, 2), "dense/kernel": (12, 5), "dense/bias": (5,)}
    rename = """\
    net.0.conv.weight: {name: conv/kernel, transpose: [3, 2, 0, 1]}
    net.1.depthwise.weight: {name: depth/kernel, transpose: [2, 3, 0, 1], reshape: true}
    net.3.dense.weight: {name: dense/kernel, transpose: true}
    net.3.dense.bias: dense/bias
"""
    net = "[{conv: {out: 6, k: [3, 2], bias: false}}, {depthwise: {bias: false, multiplier: 2}}, global_avgpool, {dense: 5}]"
    arrays = drawn(shapes)
    got = weights(load_yaml(model(tmp_path, f"graphc: 1\ninputs: {{x: [n, 4, 8, 8]}}\nnet: {net}", rename, arrays)))
    for o, i, h, k in np.ndindex(6, 4, 3, 2):
        assert got["net.0.conv.weight"][o, i, h, k] == arrays["conv/kernel"][h, k, i, o]
    for c, m, h, k in np.ndindex(6, 2, 3, 3):
        assert got["net.1.depthwise.weight"][2 * c + m, 0, h, k] == arrays["depth/kernel"][h, k, c, m]
    np.testing.assert_array_equal(got["net.3.dense.weight"], arrays["dense/kernel"].T)


def test_parts_of_a_larger_array(tmp_path: Path):
    """What PyTorch keeps in one array for queries, keys and values is two with a memory."""
    arrays = {"in_proj": np.arange(24, dtype=np.float32).reshape(6, 4)}
    rename = "    net.0.dense.weight: {name: in_proj, slice: [0, 2]}\n    net.1.dense.weight: {name: in_proj, slice: [2, 6]}\n"
    net = "[{dense: {out: 2, bias: false, from: x}}, {dense: {out: 4, bias: false, from: x}}]"
    path = model(tmp_path, f"graphc: 1\ninputs: {{x: [n, 4]}}\nnet: {net}", rename, arrays)
    got = weights(load_yaml(path))
    np.testing.assert_array_equal(
        np.concatenate([got["net.0.dense.weight"], got["net.1.dense.weight"]]), arrays["in_proj"]
    )


NET = "graphc: 1\ninputs: {x: [n, 2, 4, 4]}\nnet:\n  - conv: {out: 3, k: 1}\n  - global_avgpool\n  - dense: 5\n"
GOOD = "    net.0.conv.{w}: conv1.{w}\n    net.2.dense.{w}: fc.{w}\n"
ARRAYS = {"conv1.weight": (3, 2, 1, 1), "conv1.bias": (3,), "fc.weight": (5, 3), "fc.bias": (5,)}


def said(folder: Path, rename: str, shapes: Mapping[str, tuple[int, ...]], more: str = "") -> list[str]:
    path = model(folder, NET, rename, drawn(shapes), more)
    return [str(p).removeprefix(f"{path}: ") for p in check(path)]


def test_everything_that_is_wrong_at_once(tmp_path: Path):
    assert said(tmp_path, GOOD, ARRAYS) == []
    shapes = {
        "conv1.weihgt": (3, 2, 1, 1),
        "conv1.bias": (4,),
        "fc.weight": (3, 5),
        "fc.bias": (5,),
        "head.weight": (9,),
    }
    assert said(tmp_path, GOOD, shapes) == [
        "line 9, column 9: w.safetensors holds 'conv1.weihgt' [3, 2, 1, 1], which no layer asks for\n"
        "  did you mean 'conv1.weight' [3, 2, 1, 1]?",
        "line 9, column 9: w.safetensors holds 'head.weight' [9], which no layer asks for\n"
        "  name it under `ignore`, remove it from the file, or the layer that it was for is missing in the model",
        "line 11, column 5: weight 'net.0.conv.bias' wants shape [3]: 'conv1.bias' has shape [4] in w.safetensors",
        "line 11, column 5: weight 'conv1.weight' [3, 2, 1, 1] is missing in w.safetensors (weight 'net.0.conv.weight')\n"
        "  did you mean 'conv1.weihgt' [3, 2, 1, 1]?",
        "line 12, column 5: weight 'net.2.dense.weight' wants shape [5, 3]: 'fc.weight' has shape [3, 5] in w.safetensors\n"
        "  another framework's layout: {name: fc.weight, transpose: true}",
    ]  # fmt: skip


def test_names_of_another_framework_are_one_problem(tmp_path: Path):
    (found,) = said(tmp_path, "", ARRAYS)
    assert re.fullmatch(
        r"line 9, column 9: .*has none of the 4 weights of the model: it holds conv1.bias \[3\], .*rename.*",
        found,
        re.S,
    )


@pytest.mark.parametrize(
    "rename, message",
    {
        "    net.9.{w}: fc.{w}\n": "no weight is named 'net.9.{w}'",
        "    net.0.conv.wieght: conv1.weight\n": "no weight is named 'net.0.conv.wieght'\n  did you mean 'net.0.conv.weight' [3, 2, 1, 1]",
        "    net.{n + 1}.{w}: a.{w}\n": "'{n + 1}' must hold a name here",
        "    net.{}.conv.{w}: a.{w}\n": "'{}' must hold a name here",
        "    net.{n}.conv.{w}: conv{m}.{w}\n": "'{m}' does not stand in 'net.{n}.conv.{w}'",
        "    net.0.conv.{w}: conv{w + 1}\n": "'+' takes numbers, not 'weight', for the weight 'net.0.conv.weight'",
        "    net.0.conv.{w}: {nmae: a}\n": "a rename has no 'nmae'\n  did you mean 'name'?",
        "    net.0.conv.{w}: {transpose: true}\n": "a rename needs 'name'",
        "    net.0.conv.{w}: []\n": "a weight is made of one array or more",
        "    net.0.conv.{w}: 3\n": "the name of an array must be a name, not a whole number",
        "    net.2.dense.weight: {name: fc.weight, transpose: [0, 0]}\n": "transpose [0, 0] is no order of the axes of [5, 3]",
        "    net.2.dense.weight: {name: fc.weight, slice: [3, 9]}\n": "slice [3, 9] is not within axis 0 of [5, 3]",
        "    net.2.dense.weight: {name: fc.weight, slice: [1, 3]}\n": "'fc.weight' has shape [5, 3] in w.safetensors, of which [2, 3] is made",
        "    net.2.dense.weight: {name: fc.weight, slice: 3}\n": "slice must be a list of whole numbers",
        "    net.2.dense.weight: {name: fc.weight, gates: ifgo}\n": "axis 0 of [5, 3] does not hold 4 gates",
        "    net.2.dense.weight: {name: fc.weight, gates: abcd}\n": "gates are four letters of an LSTM or three of a GRU",
        "    net.2.dense.weight: {name: fc.weight, transpose: maybe}\n": "transpose must be true or false or a list",
    }.items(),
)  # fmt: skip
def test_rules_that_are_wrong(tmp_path: Path, rename: str, message: str):
    found = said(tmp_path, GOOD + rename if "{w}" not in rename or "net.0.conv" not in rename else rename, ARRAYS)
    assert sum(message in f for f in found) >= 1, found
    assert all(f.startswith("line ") for f in found)


def test_the_exact_name_goes_before_patterns_and_the_first_pattern_before_others(tmp_path: Path):
    rename = "    net.{n}.{l}.bias: b{n}\n    net.{n}.{l}.{w}: '{l}.{w}'\n    net.2.dense.bias: special\n"
    shapes = {"b0": (3,), "special": (5,), "conv.weight": (3, 2, 1, 1), "dense.weight": (5, 3)}
    assert said(tmp_path, rename, shapes) == []


def test_what_stands_in_braces_is_as_it_was_written(tmp_path: Path):
    """A number begins with the zeros that it has; only digits of numbers are computed with."""
    net = "[{dense: {out: 2, bias: false, name: '007'}}, {dense: {out: 2, bias: false, name: ²}}]"
    arrays = drawn({"fc007": (2, 4), "fc8": (2, 4), "fc²": (2, 2)})
    for rename in ("    net.{n}.weight: fc{n}\n", "    net.007.weight: fc007\n    net.{n}.weight: fc{n}\n"):
        path = model(tmp_path, f"graphc: 1\ninputs: {{x: [n, 4]}}\nnet: {net}", rename, arrays, "  ignore: [fc8]\n")
        assert weights(load_yaml(path))["net.007.weight"].tolist() == arrays["fc007"].tolist()
    more = net.replace(", {dense: {out: 2, bias: false, name: ²}}", "")
    path = model(tmp_path, f"graphc: 1\ninputs: {{x: [n, 4]}}\nnet: {more}", "    net.{n}.weight: fc{n + 1}\n", arrays,
                 "  ignore: [fc007, fc²]\n")  # fmt: skip
    assert weights(load_yaml(path))["net.007.weight"].tolist() == arrays["fc8"].tolist()


def test_what_is_ignored_must_be_there(tmp_path: Path):
    assert said(tmp_path, GOOD, {**ARRAYS, "head.weight": (9,)}, "  ignore: ['head.*']\n") == []
    (found,) = said(tmp_path, GOOD, ARRAYS, "  ignore: [fc.wieght]\n")
    assert "holds nothing named 'fc.wieght'" in found and "did you mean 'fc.weight'" in found


@pytest.mark.parametrize(
    "name, hint", [("m.pt", "save_file(torch.load"), ("m.pth", "save_file"), ("m.h5", "in Keras: numpy.savez")]
)
def test_pickles_and_others_are_refused_with_the_way_to_convert_them(tmp_path: Path, name: str, hint: str):
    (tmp_path / "m.yaml").write_text(f"{NET}weights: {{file: {name}}}\n")
    (tmp_path / name).write_bytes(b"\x80\x02}.")
    with pytest.raises(GraphcError) as caught:
        load_yaml(tmp_path / "m.yaml")
    assert f"'{name}' is neither .safetensors nor .npz" in str(caught.value) and hint in str(caught.value)


@pytest.mark.slow  # PyTorch takes seconds to begin
def test_the_hint_converts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is said of a .pt file can be run as it is said, where there is a PyTorch."""
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.arange(3.0)}, "m.pt")
    (tmp_path / "m.yaml").write_text(f"{NET}weights: {{file: m.pt}}\n")
    (found,) = check(tmp_path / "m.yaml")
    exec(found.hint.split("in PyTorch: ")[1].split("\n")[0], {"torch": torch})
    assert (tmp_path / "m.safetensors").is_file()


def test_show_lists_the_weights(tmp_path: Path):
    path = model(tmp_path, NET, GOOD, drawn(ARRAYS))
    shown = CliRunner().invoke(main, ["show", "--weights", str(path)]).output
    for name, type_, line, origin in (
        ("net.0.conv.weight", "float32[3, 2, 1, 1]", 4, "conv1.weight"),
        ("net.2.dense.bias", "float32[5]", 6, "fc.bias"),
    ):
        (row,) = (r for r in shown.splitlines() if name in r)
        assert type_ in row and f"line {line}" in row and f"w.safetensors: {origin}" in row


def show_weights(path: Path | str) -> str:
    shown = CliRunner().invoke(main, ["show", "--weights", str(path)])
    assert shown.exit_code == 0, shown.output
    return shown.output


def test_show_lists_weights_that_do_not_fit(tmp_path: Path):
    """The list that `rename` is written by, whatever the file holds."""
    path = model(tmp_path, NET, "", drawn(ARRAYS))
    ours, _, theirs = show_weights(path).partition("arrays of the file that nothing uses")
    rows = [line.split() for line in ours.splitlines() if line.strip().startswith("net.")]
    assert [r[0] for r in rows] == ["net.0.conv.weight", "net.0.conv.bias", "net.2.dense.weight", "net.2.dense.bias"]
    assert all(" ".join(r[-3:]) == "missing in w.safetensors" for r in rows) and "line 4" in " ".join(rows[0])
    for name, shape in ARRAYS.items():
        assert any(name in line and str(list(shape)) in line for line in theirs.splitlines())
    assert "1 problem with these weights: graphc check" in theirs


def test_show_says_what_is_missing_and_of_another_shape(tmp_path: Path):
    shapes = {
        "conv1.weight": (3, 2, 1, 1),
        "fc.weight": (3, 5),
        "fc.bias": (5,),
        "head": (9,),
        "bn.num_batches_tracked": (),
    }
    shown = show_weights(model(tmp_path, NET, GOOD, drawn(shapes)))
    for part in ("missing in w.safetensors: conv1.bias", "w.safetensors: fc.weight, [3, 5]", "[9]", "3 problems"):
        assert part in shown
    assert "num_batches" not in shown


def test_show_names_the_file_of_a_step_that_is_included():
    shown = show_weights(ZOO / "picture_classifier.yaml")
    assert "resnet18.yaml:10" in shown and "line 10" not in shown


def test_rules_that_are_turned_around(tmp_path: Path):
    sides = "\n  on the left stands the model's name, on the right the file's"
    turned = "    conv1.{w}: net.0.conv.{w}\n    fc.bias: net.2.dense.bias\n"
    assert said(tmp_path, turned, ARRAYS) == [
        f"line 11, column 5: no weight is named 'conv1.{{w}}'{sides}",
        f"line 12, column 5: no weight is named 'fc.bias'{sides}",
    ]
    found = said(tmp_path, GOOD.partition("\n")[0] + "\n    fc.{w}: net.2.dense.{w}\n", ARRAYS)  # one is right
    assert f"line 12, column 5: no weight is named 'fc.{{w}}'{sides}" in found


def test_rules_for_nothing_are_told_where_no_weight_is_found(tmp_path: Path):
    rule, whole = said(tmp_path, "    net.9.conv.{w}: conv1.{w}\n", ARRAYS)
    assert "has none of the 4 weights" in rule + whole and "no weight is named 'net.9.conv.{w}'" in rule + whole


LSTM = "graphc: 1\ninputs: {x: [b, t, 5]}\nnet: [{lstm: {hidden: 7, bidirectional: true}}]\n"
TORCH_LSTM = {
    f"lstm.{n}_l0{end}": shape
    for end in ("", "_reverse")
    for n, shape in {"weight_ih": (28, 5), "weight_hh": (28, 7), "bias_ih": (28,), "bias_hh": (28,)}.items()
}


def test_gates_that_are_forgotten(tmp_path: Path):
    rename = "    net.0.lstm.l{n}.w: ['lstm.weight_ih_l{n}', 'lstm.weight_ih_l{n}_reverse']\n"
    found = [str(p) for p in check(model(tmp_path, LSTM, rename, drawn(TORCH_LSTM)))]
    (one,) = (f for f in found if "wants shape" in f)
    assert one.partition("line 8, column 5: ")[2] == (
        "weight 'net.0.lstm.l0.w' wants shape [2, 28, 5]: 'lstm.weight_ih_l0' and 'lstm.weight_ih_l0_reverse' have shapes "
        "[28, 5] and [28, 5] in w.safetensors, of which [56, 5] is made\n"
        "  its gates are in another order in other frameworks: {name: [lstm.weight_ih_l0, lstm.weight_ih_l0_reverse], "
        "gates: ifgo} (PyTorch; Keras has ifco)"
    )


def test_a_mapping_for_each_of_several_arrays(tmp_path: Path):
    each = "{name: 'lstm.weight_ih_l{n}', gates: ifgo}, {name: 'lstm.weight_ih_l{n}_reverse', gates: ifgo}"
    (found,) = (str(p) for p in check(model(tmp_path, LSTM, f"    net.0.lstm.l{{n}}.w: [{each}]\n", drawn(TORCH_LSTM))))
    assert found.endswith(
        "the name of an array must be a name, not a mapping\n"
        "  one mapping for all of them: {name: ['lstm.weight_ih_l{n}', 'lstm.weight_ih_l{n}_reverse'], gates: ifgo}"
    )


def test_the_lstm_of_the_page(tmp_path: Path):
    """The rules that docs/yaml.md shows load what PyTorch writes for two layers of two directions."""
    rules = PAGE.partition("  file: tagger.safetensors\n  rename:\n")[2].partition("```")[0]
    text = LSTM.replace("hidden: 7,", "hidden: 7, layers: 2,")
    second = {n.replace("_l0", "_l1"): (28, 14) if "weight_ih" in n else s for n, s in TORCH_LSTM.items()}
    assert check(model(tmp_path, text, rules, drawn(TORCH_LSTM | second))) == []
