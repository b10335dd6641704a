"""Looks for what is unusual in sea surface temperatures: python run.py [--threshold ERROR] [--target TARGET].

Prints the error of each year after those that the network was trained on, as a bar, and the months that raise an alarm.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import graphc

HERE = Path(__file__).parent
FIRST, LEARNED = 1950, 1980
EL_NINO = (1982, 1983, 1997, 1998)  # the very strong ones by NOAA's Oceanic Niño Index (2.0 degrees or more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--threshold", type=float, default=0.35, help="0.35 by default; no error before 1980 reaches it"
    )
    parser.add_argument("--target", default="cpu", help="cpu (default), cuda:emulate or reference")
    options = parser.parse_args()

    table = np.loadtxt(HERE / "elnino.csv", delimiter=",", skiprows=1, dtype=np.float32)
    model = graphc.compile(HERE / "elnino.yaml", target=options.target, params={"threshold": options.threshold})
    results = model.run({"temperatures": table[:, 1:].reshape(1, 1, -1)})
    error, alarm = results["error"][0], results["alarm"][0]
    last = FIRST + (np.arange(len(error)) + 11) // 12  # the year of the last of the twelve months

    for year in range(LEARNED, last[-1] + 1):
        highest = error[last == year].max()
        note = "  a very strong El Niño" if year in EL_NINO else ""
        print(f"{year}  {highest:.2f} {'#' * round(40 * highest):46}{note}".rstrip())
    years = [int(y) for y in np.unique(last[alarm])]
    print(f"\nalarms: {', '.join(map(str, years))}; before {LEARNED}: {alarm[last < LEARNED].sum()}")


if __name__ == "__main__":
    try:
        main()
    except graphc.GraphcError as error:
        sys.exit(f"error: {error}")
