"""Makes the network of this folder smaller by every method of docs/shrink.md: python smaller.py [--rounds N].

Prints what each leaves of the weights, how many digits of the test set are then read correctly, and how long an image takes.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import graphc
from graphc.cli.bench import time_runs

HERE = Path(__file__).parent
ENDS = ("net.1.conv", "net.10.dense")  # the first layer and the last, which have few weights and matter most
METHODS: dict[str, dict[str, Any]] = {
    "10 % of the channels removed": {"channels": 0.1},
    "25 % of the channels removed": {"channels": 0.25},
    "low rank, error 0.3": {"low_rank": 0.3},
    "30 % zeros in blocks": {"sparse": 0.3, "keep": ENDS},
    "50 % zeros, one by one": {"sparse": 0.5, "block": "1x1"},
    "codebooks of 5 bits": {"codebook": 5},
    "codebooks of 3 bits": {"codebook": 3},
    "ternary, but for the ends": {"signs": "ternary", "keep": ENDS},
    "binary, but for the ends": {"signs": "binary", "keep": ENDS},
    "low rank, zeros and codebooks": {"low_rank": 0.3, "sparse": 0.3, "block": "1x1", "codebook": 4},
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=300, help="runs to time, of an image each")
    rounds = arguments.parse_args().rounds
    with np.load(HERE / "digits.npz") as file:
        images, truth = file["test_x"].astype(np.float32)[:, None], file["test_y"]

    print(f"{'':32}{'bytes':>9}{'coded':>9}{'read correctly':>16}{'an image':>11}")
    source = HERE / "digits.yaml"
    made = {name: graphc.shrink(source, threads=1, **options) for name, options in METHODS.items()}
    before = next(iter(made.values())).report.before
    rows = [("as it is", source, before, None)]
    rows += [(name, small.graph, small.report.bytes[1], small.report.coded) for name, small in made.items()]
    for name, network, size, coded in rows:
        model = graphc.compile(network, threads=1)
        correct = np.mean(model(images).argmax(1) == truth)
        seconds = np.median(time_runs(partial(model, images[:1]), rounds))
        print(f"{name:32}{size:>9,}{coded or size:>9,}{100 * correct:>14.1f} %{1e6 * seconds:>8.0f} µs")


if __name__ == "__main__":
    main()
