"""Reads handwritten digits with the trained network of this folder: python run.py [MODEL] [--target TARGET].

Prints some test images with what the network reads in them, and the accuracy on the whole test set.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

import graphc

HERE = Path(__file__).parent
SHADES = " .:-=+*#%@"
SHOWN = 8
BATCH = 100


def drawn(images: np.ndarray) -> str:
    """Images [n, 8, 8] with values from 0 to 16, side by side as text; two characters per pixel."""
    levels = images.astype(int) * (len(SHADES) - 1) // 16
    return "\n".join("  ".join("".join(2 * SHADES[v] for v in image[row]) for image in levels) for row in range(8))


def captions(truth: np.ndarray, found: np.ndarray, certainty: np.ndarray) -> str:
    """A line under the images: the digit that was read, how sure, and the label where it is another."""
    texts = (f"{f} ({100 * c:.0f} %)" + (f", is {t}!" if f != t else "") for t, f, c in zip(truth, found, certainty))
    return "  ".join(f"{text:^16}" for text in texts)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "model", nargs="?", default=HERE / "digits.yaml", help="digits.yaml (default) or digits.onnx"
    )
    arguments.add_argument("--target", default="cpu", help="cpu (default), cuda:emulate or reference")
    given = arguments.parse_args()

    with np.load(HERE / "digits.npz") as data:
        images, truth = data["test_x"], data["test_y"]
    start = time.perf_counter()
    model = graphc.compile(given.model, target=given.target, shapes={"image": (BATCH, 1, 8, 8)})
    print(f"compiled {Path(given.model).name} in {time.perf_counter() - start:.2f} s: {model.outputs[0]}\n")

    x = images.astype(np.float32)[:, None]
    start = time.perf_counter()
    batches = [model.run({"image": x[i : i + BATCH]})["probabilities"] for i in range(0, len(x), BATCH)]
    seconds = time.perf_counter() - start
    probabilities = np.concatenate(batches)
    found = probabilities.argmax(axis=1)

    wrong = np.flatnonzero(found != truth)
    shown = np.concatenate([np.arange(SHOWN - min(2, len(wrong))), wrong[:2]])  # the last two are mistakes, if any
    for part in np.split(shown, range(4, len(shown), 4)):
        print(drawn(images[part]))
        print(captions(truth[part], found[part], probabilities[part].max(axis=1)), end="\n\n")
    print(f"{len(x)} digits in {1000 * seconds:.1f} ms")
    print(f"accuracy on the test set: {100 * np.mean(found == truth):.1f} % ({len(wrong)} of {len(x)} wrong)")


if __name__ == "__main__":
    try:
        main()
    except graphc.GraphcError as error:
        sys.exit(f"error: {error}")
