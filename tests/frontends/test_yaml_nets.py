"""Several nets in one file, which share weights; and the choice of one of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import graphc
from graphc import frontends
from graphc.backends.reference import run
from graphc.cli import main
from graphc.errors import CheckError, GraphcError, InputError
from graphc.frontends.yaml_load import check, load_yaml, loads_yaml
from graphc.graph import Graph

TEXT = """graphc: 1
params: {code: 3, width: 4}
defaults: {dense: {bias: false}}
blocks:
  layer: {args: {out: required}, body: [{dense: $out}, tanh]}
nets:
  generator:
    inputs: {noise: [batch, $code]}
    net: [{layer: $width}, {dense: 2}]
    outputs: {image: last}
  discriminator:
    inputs: {image: [batch, 2]}
    net: [{layer: {out: $width, as: features}}, {dense: 1}]
    outputs: {real: last, features: features}
  gan:
    inputs: {noise: [batch, $code]}
    net:
      - generator: {as: image}
      - discriminator: {as: [real, features]}
    outputs: [real, image]
"""
RNG = np.random.default_rng(3)
NOISE = RNG.standard_normal((5, 3), np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "m.yaml"
    file.write_text(TEXT)
    return file


def weights(graph: Graph) -> dict[str, np.ndarray]:
    return {v.name: v.data for v in graph.constants()}


def said(text: str, net: str | None = None) -> list[str]:
    try:
        loads_yaml(text, file="m.yaml", net=net)
    except GraphcError as error:
        return [str(e) for e in getattr(error, "problems", [error])]
    return []


def test_a_net_that_is_a_step_has_the_weights_of_its_own_name(path: Path):
    generator, discriminator, gan = (load_yaml(path, net=n) for n in ("generator", "discriminator", "gan"))
    assert generator.meta["nets"] == ("generator", "discriminator", "gan") and generator.name == "m.generator"
    assert set(weights(generator)) == {"generator.0.dense.weight", "generator.1.dense.weight"}
    both = weights(generator) | weights(discriminator)
    assert weights(gan).keys() == both.keys()
    assert all((weights(gan)[name] == both[name]).all() for name in both)
    (image,) = run(generator, {"noise": NOISE}).values()
    results = run(gan, {"noise": NOISE})
    np.testing.assert_array_equal(results["image"], image)
    np.testing.assert_array_equal(results["real"], run(discriminator, {"image": image})["real"])
    assert gan.meta["warnings"] == generator.meta["warnings"] == ()


def test_a_net_that_is_used_twice_shares_its_weights():
    text = TEXT.replace("outputs: [real, image]", "outputs: [real, image, both]").replace(
        "[real, features]}\n    out", "[real, features]}\n      - generator: {from: noise}\n      - add: {from: [last, image], as: both}\n    out"
    )  # fmt: skip
    graph = loads_yaml(text, net="gan")
    results = run(graph, {"noise": NOISE})
    assert len(graph.constants()) == 4 and graph.meta["parameters"] == 12 + 8 + 8 + 4
    np.testing.assert_array_equal(results["both"], 2 * results["image"])


def test_one_file_of_weights_serves_all(path: Path):
    every = {k: RNG.standard_normal(v.shape, np.float32) for k, v in weights(load_yaml(path, net="gan")).items()}
    path.write_text(TEXT + "weights: {file: w.npz}\n")
    np.savez(path.parent / "w.npz", **every)
    for net in ("generator", "discriminator", "gan"):
        assert all((every[name] == data).all() for name, data in weights(load_yaml(path, net=net)).items())
    assert check(path) == []
    np.savez(path.parent / "w.npz", **every, **{"generator.7.dense.weight": np.ones(3, np.float32)})
    (problem,) = check(path)
    assert "w.npz holds 'generator.7.dense.weight' [3], which no layer asks for" in str(problem)
    assert load_yaml(path, net="discriminator").meta["parameters"] == 12


def test_one_file_with_other_names_serves_all(path: Path):
    """Rules for other nets, and arrays that these read by them, wait for these; what is nobody's is told of."""
    every = {k: RNG.standard_normal(v.shape, np.float32) for k, v in weights(load_yaml(path, net="gan")).items()}
    theirs = {k.replace("generator.", "G.").replace("discriminator.", "D/"): v for k, v in every.items()}
    rename = "    {'generator.{n}.{w}.weight': 'G.{n}.{w}.weight', 'discriminator.{n}.dense.{w}': 'D/{n}.dense.{w}'}\n"
    path.write_text(TEXT + "weights:\n  file: w.npz\n  rename:\n" + rename)
    np.savez(path.parent / "w.npz", **theirs)
    for net in ("generator", "discriminator", "gan"):
        assert all((every[name] == data).all() for name, data in weights(load_yaml(path, net=net)).items())
    assert check(path) == []
    np.savez(path.parent / "w.npz", **theirs, **{"E/7.dense.weight": np.ones(3, np.float32)})
    path.write_text(path.read_text().replace("{'gen", "{'encoder.{n}.{w}': 'E/{n}.{w}', 'gen"))
    stray, rule = map(str, check(path))
    assert "w.npz holds 'E/7.dense.weight' [3], which no layer asks for" in stray
    assert "no weight is named 'encoder.{n}.{w}'" in rule


def test_nets_with_several_inputs():
    text = """graphc: 1
nets:
  pair: {inputs: {a: [n, 4], b: [n, 4]}, net: [{sub: {from: [a, b]}}]}
  all: {inputs: {x: [n, 4], y: [n, 4]}, net: [{pair: {from: [y, x]}}]}
"""
    x, y = RNG.standard_normal((2, 3, 4), np.float32)
    np.testing.assert_array_equal(run(loads_yaml(text, net="all"), {"x": x, "y": y})["output"], y - x)


# --- the choice -------------------------------------------------------------------------------------------------------
def test_compiled_models_have_plans_of_their_own(path: Path):
    for _ in range(2):  # made, and found on disk
        first = graphc.compile(path)
        assert [s.name for s in first.outputs] == ["image"] and first.nets == ("generator", "discriminator", "gan")
        gan = graphc.compile(path, net="gan", params={"width": 6})
        assert [s.name for s in gan.outputs] == ["real", "image"]
        np.testing.assert_allclose(first(NOISE), run(load_yaml(path), {"noise": NOISE})["image"], rtol=1e-5, atol=1e-6)
        assert gan(NOISE)[0].shape == (5, 1)


def test_what_can_not_be_chosen(path: Path, tmp_path: Path):
    with pytest.raises(GraphcError, match=r"m\.yaml: the file has no net 'generatr'\n  did you mean 'generator'\?"):
        graphc.compile(path, net="generatr")
    (tmp_path / "one.yaml").write_text("graphc: 1\ninputs: {x: [n, 2]}\nnet: [relu]\n")
    with pytest.raises(GraphcError, match="the file has one net, which has no name, and no net 'a'"):
        graphc.compile(tmp_path / "one.yaml", net="a")
    CliRunner().invoke(main, ["export", str(path), str(tmp_path / "m.onnx")], catch_exceptions=False)
    for source in (tmp_path / "m.onnx", graphc.compile(path).source_graph):
        with pytest.raises(InputError, match="only YAML files have nets, such as 'a'"):
            graphc.compile(source, net="a")
    with pytest.raises(InputError, match="net must be the name of a net, not 1"):
        graphc.compile(path, net=1)


@pytest.mark.parametrize("command", ["run", "bench", "compile", "compare", "explain", "show"])
def test_every_command_takes_one_and_says_which_where_none_is_given(path: Path, command: str):
    more = ["--batch", "1", *(["--rounds", "1"] if command == "bench" else [])]
    told = "net 'generator' is taken, the first of the file; --net NAME takes another: discriminator, gan"
    done = CliRunner().invoke(main, [command, str(path), *more], catch_exceptions=False)
    assert done.exit_code == 0 and done.output.count(told) == 1, done.output
    done = CliRunner().invoke(main, [command, str(path), *more, "--net", "discriminator"], catch_exceptions=False)
    assert done.exit_code == 0 and told not in done.output
    assert command not in ("run", "show") or "real" in done.output


def test_an_exported_file_is_of_the_net(path: Path, tmp_path: Path):
    out = tmp_path / "m.onnx"
    done = CliRunner().invoke(main, ["export", str(path), str(out), "--net", "gan"], catch_exceptions=False)
    assert done.exit_code == 0 and [o.name for o in onnx.load(out).graph.output] == ["real", "image"]


def test_check_looks_at_every_net(path: Path):
    done = CliRunner().invoke(main, ["check", str(path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert [f"{path}, net {n}: no problems" in done.output for n in ("generator", "discriminator", "gan")] == [True] * 3
    path.write_text(TEXT.replace("{dense: 1}]", "{dense: 1, bais: 1}]").replace("[batch, 2]", "[batch, two, 2]"))
    done = CliRunner().invoke(main, ["check", str(path)], catch_exceptions=False)
    assert done.exit_code == 3 and "a step has one name, not 2" in done.output
    assert done.output.count("a step has one name") == 1
    assert {str(e) for e in frontends.check(path)} == {str(e) for e in check(path)}
    done = CliRunner().invoke(main, ["check", str(path), "--net", "discriminator"], catch_exceptions=False)
    assert done.exit_code == 3


@pytest.mark.parametrize(
    "mistake",
    [
        "{conv: 3}",  # the types in the message are others in each net
        "{let: 'foo(last)'}",  # only the shapes so far are
    ],
)
def test_a_mistake_in_a_block_is_told_once(path: Path, mistake: str):
    path.write_text(
        TEXT.replace("{dense: $out}, tanh]", f"{{dense: $out}}, {mistake}]").replace("{layer: $width}", "{layer: 5}")
    )
    done = CliRunner().invoke(main, ["check", str(path)], catch_exceptions=False)
    assert done.exit_code == 3 and done.output.count("(in layer)") == 1, done.output
    assert len(check(path)) == len(frontends.check(path)) == 1


def test_sections_of_a_net_that_go_by_another_name():
    text = "graphc: 1\nnets: {a: {input: {x: [n, 2]}, layers: [relu]}}"
    assert [s.partition("a net")[2] for s in said(text)] == [
        " has no 'input': it is called `inputs`", " has no 'layers': it is called `net`"
    ]  # fmt: skip


def test_check_finds_what_shapes_tell_in_each_net(path: Path):
    path.write_text(
        TEXT.replace("{dense: 2}]", "{dense: 2}, {conv: 3}]").replace("{dense: 1}]", "{dense: 1}, {conv: 4}]")
    )
    found = [str(e) for e in check(path)]
    assert len(found) == 2 and all("needs an input of rank 3 or 4 or 5" in f for f in found)


# --- what is wrong ----------------------------------------------------------------------------------------------------
NETS = "graphc: 1\nnets:\n  a: {inputs: {x: [n, 4]}, net: [relu]}\n"


@pytest.mark.parametrize(
    "text, message",
    [
        (NETS + "net: [relu]\n", "line 4, column 1: beside 'nets' there is no 'net'"),
        ("graphc: 1\nnets: {}\n", "nets needs at least one net"),
        (NETS + "  b: {inputs: {x: [n, 4]}}\n", "line 4, column 6: net 'b' needs 'net'"),
        (NETS + "  b: {inputs: {x: [n, 4]}, net: [relu], outpt: {}}\n", "net 'b' has no 'outpt'"),
        (NETS + "  b.c: {inputs: {x: [n, 4]}, net: [relu]}\n", "'b.c' can't be the name of a net"),
        (NETS + "  scan: {inputs: {x: [n, 4]}, net: [relu]}\n", "net 'scan' has the name of a structure"),
        (NETS + "blocks:\n  a: {body: [relu]}\n", "line 3, column 3: net 'a' has the name of the block in line 5 of m.yaml"),
        (NETS + "  b: {inputs: {x: [n, 4]}, net: [{a: {k: 3}}]}\n", "line 4, column 39: 'a' has no 'k'"),
        (NETS + "  b: {inputs: {x: [n, 4]}, net: [aa]}\n", "unknown layer 'aa'"),
    ],
)  # fmt: skip
def test_one_problem(text: str, message: str):
    (found,) = said(text)
    assert message in found


@pytest.mark.parametrize(
    "nets, net, message",
    [
        ({"b": "{inputs: {x: [n, 4]}, net: [b]}"}, "b", "net 'b' uses itself: b -> b"),
        ({"b": "{inputs: {x: [n, 4]}, net: [c]}", "c": "{inputs: {x: [n, 4]}, net: [b]}"}, "c", "net 'c' uses itself: c -> b -> c"),
        ({"b": "{inputs: {x: [n, 5]}, net: [a]}"}, "b", "net 'a' takes float32[n, 4] as its input 'x', not float32[n, 5]"),
        ({"b": "{inputs: {x: {shape: [n, 4], dtype: int64}}, net: [a]}"}, "b", "as its input 'x', not int64[n, 4]"),
        ({"b": "{inputs: {x: [n, 4], y: [n, 4]}, net: [a]}"}, "b", "'a' reads one value, and there is none here"),
        ({"b": "{inputs: {x: [n, 4]}, net: [{a: {share: w}}]}"}, "b", "a net's weights go by its own name"),
    ],
)  # fmt: skip
def test_what_a_net_can_not_be_a_step_of(nets: dict[str, str], net: str, message: str):
    text = NETS + "".join(f"  {name}: {said}\n" for name, said in nets.items())
    (found,) = said(text, net)
    assert message in found


def test_a_broken_net_is_reported_once_though_others_use_it():
    text = NETS.replace("net: [relu]", "net: [rleu]") + "  b: {inputs: {x: [n, 4]}, net: [a, {dense: 3}]}\n"
    assert len(said(text, "b")) == 1
    with pytest.raises(CheckError) as caught:
        loads_yaml(NETS.replace(", net: [relu]", "") + "  b: {inputs: {x: [n, 4]}, net: [a, drelu]}\n", net="b")
    assert ["needs 'net'" in str(e) for e in caught.value.problems] == [True, False]


def test_a_net_may_give_more_than_another_needs():
    text = TEXT.replace("outputs: [real, image]", "outputs: [real]").replace("as: [real, features]", "as: real")
    assert loads_yaml(text, net="gan").meta["warnings"] == ()
    assert loads_yaml(text.replace("[real]", "[image]"), net="gan").meta["warnings"] == ()


def test_what_nothing_uses():
    unread = "inputs: {noise: [batch, $code], other: [1]}\n    net: [{tanh: {from: noise}}, "
    text = TEXT.replace("params: {", "params: {spare: 1, ")
    text = text.replace("inputs: {noise: [batch, $code]}\n    net: [", unread)
    graph = loads_yaml(text, file="m.yaml", net="generator")
    assert [w.message for w in graph.meta["warnings"]] == [
        "nothing uses the param 'spare'",
        "no output depends on the input 'other'",
    ]


def ops(net: str) -> list[str]:
    return [node.op.name for node in loads_yaml(SHARED, net=net).nodes]


SHARED = """graphc: 1
nets:
  both:
    inputs: {x: [batch, 4]}
    net:
      - first: {from: x, as: a}
      - second: {from: x, as: b}
      - neg: {from: x, as: minus}
      - {features: {from: minus, as: c}}
    outputs: [a, b, c]
  inside:
    inputs: {x: [batch, 4]}
    net:
      - scan:
          over: {row: x}
          states: {h: x}
          of: [{features: {from: h, as: h}}, {features: {from: x, as: y}}]
          collect: [y]
      - features: {from: x, as: z}
    outputs: [y, z]
  drawn:
    inputs: {x: [batch, 4]}
    net: [{noisy: {from: x, as: a}}, {noisy: {from: x, as: b}}, {sub: {from: [a, b]}}]
  first: {inputs: {x: [batch, 4]}, net: [features, {dense: 2}]}
  second: {inputs: {x: [batch, 4]}, net: [features, {dense: 1}]}
  features: {inputs: {x: [batch, 4]}, net: [{dense: 4}, relu]}
  noisy: {inputs: {x: [batch, 4]}, net: [{RandomNormalLike: {}}]}
"""


def test_a_net_of_the_same_values_is_computed_once():
    """By the loader already, so that tables, counts and pictures have it once; of other values it is another computation."""
    assert ops("both") == ["Gemm", "Relu", "Gemm", "Gemm", "Neg", "Gemm", "Relu"]
    x = RNG.standard_normal((3, 4), np.float32)
    results = run(loads_yaml(SHARED, net="both"), {"x": x})
    for net, result in (("first", "a"), ("second", "b")):
        (alone,) = run(loads_yaml(SHARED, net=net), {"x": x}).values()
        np.testing.assert_array_equal(results[result], alone)


def test_random_numbers_are_drawn_each_time():
    assert ops("drawn") == ["RandomNormalLike", "RandomNormalLike", "Sub"]


def test_what_a_body_computes_is_not_taken_outside_of_it():
    graph = loads_yaml(SHARED, net="inside")
    assert [node.op.name for node in graph.nodes][-2:] == ["Gemm", "Relu"]
    results = run(graph, {"x": RNG.standard_normal((3, 4), np.float32)})
    assert all((y == results["z"]).all() for y in results["y"].swapaxes(0, 1))


def test_a_net_hides_the_layer_of_its_name():
    text = (
        "graphc: 1\nnets:\n  tanh: {inputs: {x: [n, 4]}, net: [tanh, relu]}\n  b: {inputs: {x: [n, 4]}, net: [tanh]}\n"
    )
    for net in ("tanh", "b"):
        graph = loads_yaml(text, file="m.yaml", net=net)
        assert [n.op.name for n in graph.nodes] == ["Tanh", "Relu"]
        (warning,) = graph.meta["warnings"]
        assert str(warning).startswith("m.yaml: line 3, column 3: the net 'tanh' hides the layer of that name")
