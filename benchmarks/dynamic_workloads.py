"""Calls whose shapes change: what each workload of the set `dynamic` runs, and what is to be reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import dynamic_models as made
import numpy as np
import onnx
from engines import Feeds

SEED = 7  # all engines get the same calls in the same order
Draw = Callable[[np.random.Generator, int], list[Feeds]]


@dataclass(frozen=True)
class Workload:
    """A model and the calls that it gets.

    calls    how many
    draw     the feeds of so many calls
    target   graphc's median over the best peer's; None where no peer counts
    again    the largest ratio of a call at a shape that comes first to one that has been there, None where it doesn't count
    binding  seconds that a shape of a known class may cost more than one that has been there
    plans    how many plans may be on disk at the end
    carried  caches are fed back from call to call
    session  by a session of graphc
    block    calls of one engine before it is the next one's turn
    """

    name: str
    make: Callable[[], onnx.ModelProto]
    calls: int
    draw: Draw
    target: float | None = None
    again: float | None = None
    binding: float | None = None
    plans: int | None = None
    carried: bool = False
    session: bool = False
    block: int = 8

    def file(self, folder: Path) -> Path:
        """The ONNX file in the folder; one that exists is kept."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"dynamic_{self.name}.onnx"
        if not path.exists():
            onnx.save(self.make(), path)
        return path


def lengths(rng: np.random.Generator, count: int, least: int = 8, most: int = 512) -> list[Feeds]:
    """Texts of `count` different lengths in random order."""
    return [{"ids": rng.integers(0, 1000, (1, n))} for n in rng.permutation(np.arange(least, most + 1))[:count]]


def tokens(rng: np.random.Generator, count: int) -> list[Feeds]:
    return [{"ids": rng.integers(0, 1000, (1, 1))} for _ in range(count)]


def images(rng: np.random.Generator, count: int, multiple: int = 32) -> list[Feeds]:
    """Images of different sizes: sides of 64 to 320, multiples of a number."""
    sides = np.arange(-(-64 // multiple) * multiple, 321, multiple)
    sizes = [(h, w) for h in sides for w in sides]
    chosen = [sizes[i] for i in rng.permutation(len(sizes))[:count]]
    return [{"image": rng.random((1, 3, *size), dtype=np.float32)} for size in chosen]


def squares(rng: np.random.Generator, count: int, side: int = 256) -> list[Feeds]:
    return [{"image": rng.random((1, 3, side, side), dtype=np.float32)} for _ in range(count)]


def texts(rng: np.random.Generator, count: int) -> list[Feeds]:
    """Batches of 1 to 8 texts of 8 to 200 tokens."""
    return [{"tokens": rng.integers(0, 1000, (rng.integers(1, 9), rng.integers(8, 201)))} for _ in range(count)]


def rows(rng: np.random.Generator, count: int, trips: int = 1000, width: int = 32) -> list[Feeds]:
    x = rng.standard_normal((count, trips, width)).astype(np.float32)
    return [{"x": x[i], "h": np.zeros((1, width), np.float32)} for i in range(count)]


_masked = partial(made.decoder, causal=True)
_token_by_token = {"calls": 256, "draw": tokens, "carried": True, "block": 32}
WORKLOADS = (
    Workload("encoder", made.encoder, 200, lengths, target=0.6, again=1.1),
    Workload("decoder_calls", made.decoder, target=0.5, **_token_by_token),
    Workload("decoder_session", made.decoder, target=0.35, session=True, **_token_by_token),
    Workload("causal_decoder_calls", _masked, target=0.5, **_token_by_token),
    Workload("causal_decoder_session", _masked, target=0.35, session=True, **_token_by_token),
    Workload("unet", partial(made.image_model, "unet", width=32), 100, partial(images, multiple=16), 0.7),
    Workload("yolo_v3_tiny", partial(made.image_model, "yolo_v3_tiny"), 81, images, 0.7),
    Workload("mobilenet_v2", partial(made.image_model, "mobilenet_v2"), 100, partial(images, multiple=8), 0.7),
    Workload("lstm_classifier", made.classifier, 100, texts, 0.7),
    Workload("detector_fixed", partial(made.detector, 256), 100, squares, 0.9),
    Workload("detector", made.detector, 100, partial(images, multiple=16), 0.9),
    Workload("counted_loop", made.counted_loop, 20, rows, 0.3),
    Workload(
        "encoder_12_layers",
        partial(made.encoder, layers=12, width=64, heads=2),  # narrow: what binding takes is to be seen beside the rest
        200,
        partial(lengths, most=256),
        binding=1e-4,
    ),
    Workload("resnet50", partial(made.image_model, "resnet50"), 60, images, binding=1e-4),
    Workload("encoder_plans", made.encoder, 1000, partial(lengths, most=1007), plans=8),
)
