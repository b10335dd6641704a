"""A file, and how it is used, from a seed and a number."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import corpus, hostile, mutate
from .arrays import worse

SHARES = {"fields": 34, "bytes": 14, "yaml": 14, "inputs": 26, "hostile": 12}  # of 100


@dataclass(frozen=True)
class Harm:
    """kind: which of SHARES; feeds: arrays for a run, None where they are to be made up; line: by the command line, too."""

    kind: str
    name: str
    path: Path
    target: str
    line: bool
    rng: random.Random
    feeds: Mapping[str, np.ndarray] | None = None


def make(seed: int, i: int, folder: Path) -> Harm:
    """Writes file `i` into a folder that is empty. Its neighbour `outside` gets a secret."""
    outside = folder.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / hostile.SECRET).write_bytes(bytes(4 * 3 * 27 * 4))
    rng = random.Random(f"{seed}/{i}")
    kind = rng.choices([*SHARES], [*SHARES.values()])[0]
    name, path, feeds = kind, folder / "model.onnx", None
    match kind:
        case "bytes":
            path.write_bytes(mutate.damaged(corpus.onnx_model(rng).SerializeToString(), rng))
        case "fields":
            model = corpus.onnx_model(rng)
            mutate.altered(model, rng)
            path.write_bytes(model.SerializeToString())
        case "yaml":
            path = folder / "model.yaml"
            path.write_bytes(mutate.edited(rng.choice(corpus.texts()), rng).encode("utf-8", "replace"))
        case "inputs":
            while (made := corpus.one_node(*rng.choice(corpus.operators()), rng)) is None or not made[1]:
                pass
            name = made[0].graph.node[0].op_type
            path.write_bytes(made[0].SerializeToString())
            feeds = worse(made[1], rng)
        case _:
            name = rng.choice([*hostile.KINDS])
            path = hostile.KINDS[name](folder, rng)
    compiled = rng.random() < (0.5 if kind == "inputs" else 0.2)
    return Harm(kind, name, path, "cpu" if compiled else "reference", rng.random() < 0.02, rng, feeds)
