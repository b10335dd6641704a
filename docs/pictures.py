#!/usr/bin/env python3
"""Writes docs/zoo/NAME.svg, the picture of examples/zoo/NAME.yaml. `python docs/pictures.py` draws all, or those that are named."""

from __future__ import annotations

import sys
from pathlib import Path

from graphc import draw, frontends

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "zoo"
MOST_BOXES = 40  # a page of text beside it is read, too


def main(names: list[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    for page in sorted((ROOT / "examples" / "zoo").glob("*.yaml")):
        if not names or page.stem in names:
            text = draw.svg(draw.picture(frontends.load(page), most=MOST_BOXES))
            (FOLDER / f"{page.stem}.svg").write_text(text, encoding="utf-8")
            print(f"{page.stem}: {len(text):,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
