"""Reads and writes text with the trained network of this folder: python run.py [--prompt TEXT] [--target TARGET].

Prints how many bits a character of a text that the network has not seen takes it, and goes on from the prompt.
"""

from __future__ import annotations

import argparse
import bz2
import sys
from functools import partial
from pathlib import Path

import numpy as np

import graphc

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from generate import decode, encode, generate, sample  # noqa: E402  (of the folder above)

CHUNK = 1000


def bits(model: graphc.Model, text: str) -> float:
    """Per character after the first, read in chunks by a session."""
    ids, session, total = encode(text), model.session(), 0.0
    for at in range(0, ids.shape[1] - 1, CHUNK):
        read, following = ids[:, at : at + CHUNK], ids[0, at + 1 : at + CHUNK + 1]
        logits = session.run({"ids": read[:, : len(following)]})["logits"][0].astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        chosen = logits[np.arange(len(following)), following] - np.log(np.exp(logits).sum(axis=1))
        total -= chosen.sum() / np.log(2)
    return total / (ids.shape[1] - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", default="The value of the object ", help="text to go on from")
    parser.add_argument("--length", type=int, default=300, help="characters to write")
    parser.add_argument("--temperature", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", default="cpu", help="cpu (default), cuda:emulate or reference")
    options = parser.parse_args()

    model = graphc.compile(HERE / "characters.yaml", target=options.target, states={"state": "next_state"})
    text = (HERE / "heldout.txt").read_text(encoding="ascii")
    packed = 8 * len(bz2.compress(text.encode())) / len(text)
    print(f"{len(text):,} characters of unseen text: {bits(model, text):.2f} bits each (bzip2 needs {packed:.2f})\n")

    chosen = partial(
        sample, rng=np.random.default_rng(options.seed), temperature=options.temperature, top_k=0, top_p=0.95
    )
    session, ids = model.session(), encode(options.prompt)
    session.run({"ids": ids[:, :-1]})
    written = [*generate(session, ids[:, -1:], options.length, chosen)]
    print(options.prompt + decode(written))


if __name__ == "__main__":
    try:
        main()
    except graphc.GraphcError as error:
        sys.exit(f"error: {error}")
