"""Text, character by character, from a decoder with key/value caches: greedy, or by top-k and top-p sampling.

The decoder has no trained weights. Its heads are made to look for earlier places with the same characters before them (induction
heads: Olsson et al. 2022, arXiv:2209.11895), so that it goes on in the manner of its prompt. `generate` takes any session with
an input `ids` [1, new] and an output `logits` [1, new, vocabulary].

Run it: python examples/generate.py --length 200 --temperature 1 --endings 3
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

import graphc
from graphc.graph import Builder, Graph, Value
from graphc.session import Session

PROMPT = """This is the house that Jack built.
This is the malt that lay in the house that Jack built.
This is the rat that ate the malt that lay in the house that Jack built.
This is the cat that killed the rat that ate the malt that lay in the house that Jack built.
This is the dog that worried the cat that killed the rat that ate the malt that lay in the house that Jack built.
"""
CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
F32 = np.float32


# --- the model --------------------------------------------------------------------------------------------------------
def decoder(order: int = 4, positions: int = 2048, frequencies: int = 96, seed: int = 0) -> Graph:
    """ids int64 [batch, new], four caches float32 [batch, heads, past, size] -> logits float32 [batch, new, 96], the caches
    with the new rows at their end, as past_key_0 and present_key_0.

    order: of how many characters a place is known by. Rows are [a character, one hot | its position | the `order` before it].
    """
    n, size = len(CHARACTERS), 2 * frequencies
    width = n + size + order * n
    speeds = np.random.default_rng(seed).uniform(0, np.pi, frequencies)
    angles = np.arange(positions)[:, None] * speeds
    codes = (
        np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / frequencies**0.5
    )  # of unit length, nearly orthogonal

    b = Builder("decoder")
    ids = b.input("ids", np.int64, ("batch", "new"))
    caches = [
        tuple(
            b.input(f"past_{what}_{i}", F32, ("batch", heads, "past", length))
            for what, length in (("key", k), ("value", v))
        )
        for i, (heads, k, v) in enumerate([(order, size, n), (1, order * n, n)])
    ]

    def attend(x: Value, layer: int, query: np.ndarray, key: np.ndarray, value: np.ndarray, scale: float) -> Value:
        """Causal attention of a row to all rows before it and itself; leaves the caches in `results`."""
        heads = caches[layer][0].type.shape[1]
        projected = (b.add("MatMul", x, b.constant(w, F32)) for w in (query, key, value))
        sizes = {"q_num_heads": heads, "kv_num_heads": heads, "is_causal": True, "scale": scale}
        y, keys, values = b.add("Attention", *projected, None, *caches[layer], outputs=3, **sizes)
        results.update({f"present_key_{layer}": keys, f"present_value_{layer}": values})
        return y

    results: dict[str, Value] = {}
    past = b.add("Shape", caches[0][0], start=2, end=3)
    end = b.add("Add", past, b.add("Shape", ids, start=1, end=2))
    words = b.add("Gather", b.constant(np.eye(n, width), F32), ids)
    places = np.concatenate([np.zeros((positions, n)), codes, np.zeros((positions, order * n))], axis=1)
    x = b.add("Add", words, b.add("Slice", b.constant(places, F32), past, end, b.constant([0])))

    # first layer: head k looks at the position k + 1 before, and notes its character
    position, character = np.eye(width)[:, n : n + size], np.eye(width)[:, :n]
    back = [position @ _turned(speeds, k + 1) for k in range(order)]
    every = [np.tile(w, (1, order)) for w in (position, character)]
    noted = attend(x, 0, np.concatenate(back, axis=1), *every, scale=300.0)
    x = b.add("Add", x, b.add("MatMul", noted, b.constant(np.eye(width)[n + size :], F32)))

    # second layer: looks for rows that the characters up to this one are noted at, and takes the one that stands there
    notes = np.eye(width)[:, n + size :]
    latest = np.concatenate([character, notes[:, : (order - 1) * n]], axis=1)
    follows = attend(x, 1, latest, notes, character, scale=12.0)
    likely = b.add("Add", follows, b.constant(1e-6, F32))
    return b.build({"logits": b.add("Log", likely), **results})


def _turned(speeds: np.ndarray, back: int) -> np.ndarray:
    """The matrix that makes of a position's code that of a position before it: a rotation of each frequency."""
    cos, sin = np.diag(np.cos(speeds * back)), np.diag(np.sin(speeds * back))
    return np.block([[cos, -sin], [sin, cos]])


# --- the loop ---------------------------------------------------------------------------------------------------------
Pick = Callable[[np.ndarray], int]


def generate(session: Session, ids: np.ndarray, count: int, pick: Pick) -> Iterator[int]:
    """Up to `count` tokens that follow ids int64 [1, new], which the session has not seen yet. pick: of logits [vocabulary]."""
    for _ in range(count):
        token = pick(session.run({"ids": ids})["logits"][0, -1])
        yield token
        ids = np.array([[token]])


def greedy(logits: np.ndarray) -> int:
    """The likeliest token."""
    return int(logits.argmax())


def sample(
    logits: np.ndarray, rng: np.random.Generator, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> int:
    """A random token, by its probability: softmax(logits / temperature).

    top_k: only of so many likeliest ones (0: of all). top_p: only of the likeliest ones that have this probability together
    (Holtzman et al. 2019, arXiv:1904.09751).
    """
    order = np.argsort(-logits, kind="stable")[: top_k or None]
    scaled = (logits[order].astype(np.float64) - logits[order[0]]) / temperature
    likely = np.exp(scaled) / np.exp(scaled).sum()
    kept = int(np.searchsorted(likely.cumsum(), top_p)) + 1  # the one that reaches it is among them
    likely = likely[:kept] / likely[:kept].sum()
    return int(order[rng.choice(len(likely), p=likely)])


def encode(text: str) -> np.ndarray:
    """int64 [1, characters]; what is not in CHARACTERS is a space."""
    return np.array([[CHARACTERS.index(c if c in CHARACTERS else " ") for c in text]])


def decode(tokens: list[int]) -> str:
    return "".join(CHARACTERS[t] for t in tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", default=PROMPT + "This is the ", help="text to go on from")
    parser.add_argument("--length", type=int, default=120, help="characters to write")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: always the likeliest character")
    parser.add_argument("--top-k", type=int, default=0, help="sample of so many likeliest ones; 0: of all")
    parser.add_argument("--top-p", type=float, default=0.95, help="sample of those that have this probability together")
    parser.add_argument("--endings", type=int, default=1, help="how many, each from a fork of the session")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    sampled = partial(sample, rng=rng, temperature=options.temperature, top_k=options.top_k, top_p=options.top_p)
    ids = encode(options.prompt)
    session = graphc.compile(decoder()).session()  # the caches are found by their names
    session.run({"ids": ids[:, :-1]})
    for _ in range(options.endings):
        ending = generate(session.fork(), ids[:, -1:], options.length, sampled if options.temperature else greedy)
        print("...", end="")
        for token in ending:
            print(CHARACTERS[token], end="", flush=True)
        print("\n")


if __name__ == "__main__":
    main()
