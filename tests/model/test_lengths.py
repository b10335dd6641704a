"""Lengths and positions that a run brings: every target refuses those that are out of range, with plans for one size and for many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from targets import require

import graphc
from graphc import classes
from graphc.errors import InputError
from graphc.graph import Builder, Graph

F32, I32, I64 = np.float32, np.int32, np.int64
TARGETS = ["reference", "cpu", "cuda:emulate"]
TARGETS += [pytest.param(f"cpu:{isa}", marks=pytest.mark.slow) for isa in ("avx512", "avx2", "portable")]
N = "n"  # a dim of many sizes


@dataclass(frozen=True)
class Use:
    """A use of an operator, whose operand `at` must have elements from 0 on, `below` n + `more`, where `word` is its name.

    operands  shapes of float32 operands by position; at: shape and dtype
    """

    op: str
    operands: dict[int, tuple[Any, ...]]
    at: int
    shape: tuple[int, ...]
    word: str
    more: int = 1
    dtype: Any = I64
    attrs: dict[str, Any] = field(default_factory=dict)
    constants: dict[int, np.ndarray] = field(default_factory=dict)
    outputs: int = 1

    def graph(self, n: int | str, value: np.ndarray | None = None) -> Graph:
        """value: of the operand, where it is a constant."""
        b = Builder("g")
        last = max(*self.operands, self.at, *self.constants, 0)
        operands: list[Any] = [None] * (last + 1)
        for i, shape in self.operands.items():
            operands[i] = b.input(f"x{i}", F32, [n if d == N else d for d in shape])
        for i, data in self.constants.items():
            operands[i] = b.constant(data)
        constant = value is not None
        operands[self.at] = b.constant(value, self.dtype) if constant else b.input("at", self.dtype, self.shape)
        y = b.add(self.op, *operands, name="layer7", outputs=self.outputs, **self.attrs)
        return b.build({"y": y if self.outputs == 1 else y[0]} | ({"z": y[-1]} if self.outputs == 4 else {}))

    def feeds(self, n: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(n)
        shapes = {f"x{i}": [n if d == N else d for d in shape] for i, shape in self.operands.items()}
        return {name: rng.standard_normal(shape, dtype=F32) for name, shape in shapes.items()}

    def lengths(self, *values: int) -> np.ndarray:
        return np.resize(np.array(values, self.dtype), self.shape)


def attention(queries: int, **more: Any) -> Use:
    keys = (2, 2, N, 8)
    return Use("Attention", {0: (2, 4, queries, 8), 1: keys, 2: keys}, 6, (2,), "nonpad_kv_seqlen", **more)


def decoder(op: str, columns: Sequence[int], *operands: Any, **more: Any) -> Use:
    """Of one new token, and a cache with room for n keys."""
    cache = (2, 2, N, 16)
    new = {i: (2, 1, size) for i, size in enumerate(columns)}
    past = 3 if op == "GroupQueryAttention" else 5
    return Use(f"com.microsoft::{op}", {**new, past: cache, past + 1: cache}, *operands, dtype=I32, outputs=3, **more)


HEADS = {"num_heads": 4, "kv_num_heads": 2}
USES = {
    "many queries": attention(11),
    "few queries": attention(1, attrs={"is_causal": True}),
    "scores": attention(3, attrs={"qk_matmul_output_mode": 3}, outputs=4),
    "rotary": Use("RotaryEmbedding", {0: (2, 2, 5, 8), 1: (N, 4), 2: (N, 4)}, 3, (2, 5), "position_ids", 0),
    "rotary of neighbours": Use(
        "RotaryEmbedding", {0: (2, 2, 5, 8), 1: (N, 4), 2: (N, 4)}, 3, (2, 5), "position_ids", 0,
        attrs={"interleaved": True},
    ),
    "grouped": decoder(
        "GroupQueryAttention", (64, 32, 32), 5, (2,), "seqlens_k", 0, attrs=HEADS, constants={6: np.array(6, I32)}
    ),
    "shared buffer": decoder(
        "DecoderMaskedMultiHeadAttention", (32, 32, 32), 7, (1,), "past_sequence_length", 0,
        attrs={"num_heads": 2, "past_present_share_buffer": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", USES)
@pytest.mark.parametrize("target", TARGETS)
def test_out_of_range(target: str, name: str, monkeypatch: pytest.MonkeyPatch):
    """The first shapes have a plan of their own, the others one together."""
    if target.startswith("cpu"):
        require(target)
    monkeypatch.setattr(classes, "STRICT", True)
    use = USES[name]
    model, reference = (graphc.compile(use.graph(N), target=t) for t in (target, "reference"))
    for n in (6, 9, 12):
        given = {**use.feeds(n), "at": use.lengths(5, 1)}
        want = reference.run(given)
        for key, got in model.run(given).items():
            np.testing.assert_allclose(got, want[key], atol=1e-5)  # of sums of a few numbers near 1, in float32
    assert target == "reference" or (len(model._plans) <= 1 and len(model._many) <= 1)
    for n in (6, 9, 12):
        end, feeds = n + use.more, use.feeds(n)
        for value in (end, -1, 2**31 - 1, -(2**31)):
            with pytest.raises(InputError) as error:
                model.run({**feeds, "at": use.lengths(value, 1)})
            assert all(s in str(error.value) for s in ("layer7", use.word, str(value))), error.value
            assert target == "reference" or f"0 to {end - 1}" in str(error.value), error.value


@pytest.mark.parametrize("target", ["reference", "cpu"])
@pytest.mark.parametrize("name", USES)
def test_constants(target: str, name: str):
    """Nothing looks at them again; those out of range are an error of the run."""
    use, n = USES[name], 6
    end, feeds = n + use.more, use.feeds(n)
    good, bad = (graphc.compile(use.graph(n, use.lengths(v, 1)), target=target) for v in (end - 1, end))
    want = graphc.compile(use.graph(n), target="reference").run({**feeds, "at": use.lengths(end - 1, 1)})
    np.testing.assert_allclose(good.run(feeds)["y"], want["y"], atol=1e-5)
    if target != "reference":
        assert not any("Within" in s.ops for s in good.plan().steps)
    with pytest.raises(InputError, match=use.word):
        bad.run(feeds)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("op", ["MultiHeadAttention", "Attention"])
def test_a_mask_of_lengths_may_tell_of_more_keys_than_there_are(target: str, op: str):
    """ONNX Runtime means the first so many keys, and so all of them."""
    if target.startswith("cpu"):
        require(target)
    keys = {0: (2, 4, 16), 1: (2, N, 16), 2: (2, N, 16)}
    packed = {0: (2, N, 5), 1: (5, 48), 2: (48,)}
    operands, at = (keys, 4) if op == "MultiHeadAttention" else (packed, 3)
    use = Use(f"com.microsoft::{op}", operands, at, (2,), "", dtype=I32, attrs={"num_heads": 2})
    model = graphc.compile(use.graph(N), target=target)
    for n in (6, 9):
        all_of_them = model.run({**use.feeds(n), "at": use.lengths(n, 2)})["y"]
        np.testing.assert_array_equal(model.run({**use.feeds(n), "at": use.lengths(n + 5, 2)})["y"], all_of_them)
