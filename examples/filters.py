"""Filters of image processing on a photograph: python filters.py [PICTURE] [--out filters.png] [--target TARGET].

Runs zoo/filters.yaml on each colour of the picture, and draws all results side by side. Without a picture it takes
the one of Grace Hopper that matplotlib carries (of the U.S. Navy, in the public domain). Needs matplotlib:
pip install matplotlib.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import graphc

PAGE = Path(__file__).parent / "zoo" / "filters.yaml"
FACE = np.s_[50:300, 130:380]  # of the picture of Grace Hopper
SIGNED = ("edges", "sobel_x", "sobel_y")  # grey where they are 0


def picture(path: str | None) -> np.ndarray:
    """float32 [height, width, 3], from 0 to 1."""
    import matplotlib.cbook as cbook
    import matplotlib.pyplot as plt

    image = plt.imread(path) if path else plt.imread(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))[FACE]
    image = image[..., None].repeat(3, -1) if image.ndim == 2 else image[..., :3]
    return image.astype(np.float32) / (255 if image.dtype == np.uint8 else 1)


def filtered(image: np.ndarray, target: str = "cpu") -> dict[str, np.ndarray]:
    """The picture by each filter, by name; float32 [height, width, 3]."""
    model = graphc.compile(PAGE, target=target)
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)[:, None])
    return {name: found[:, 0].transpose(1, 2, 0) for name, found in model.run({"image": planes}).items()}


def visible(name: str, image: np.ndarray) -> np.ndarray:
    """With all values from 0 to 1."""
    return (0.5 + image / 2 if name in SIGNED else image).clip(0, 1)


def draw(images: dict[str, np.ndarray], out: str, columns: int = 3) -> None:
    import matplotlib.pyplot as plt

    rows = -(-len(images) // columns)
    height, width = next(iter(images.values())).shape[:2]
    size = 2 * columns, (2 * height / width + 0.2) * rows  # inches
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, image) in zip(axes.flat, images.items()):
        axis.imshow(visible(name, image))
        axis.set_title(name.replace("_", " "), fontsize=9)
    figure.savefig(out, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", help="a PNG or JPEG file")
    parser.add_argument("--out", default="filters.png", help="the file to write")
    parser.add_argument("--target", default="cpu", help="cpu (default), cuda:emulate or reference")
    given = parser.parse_args()
    if find_spec("matplotlib") is None:
        parser.error("pictures are read and drawn with matplotlib: pip install matplotlib")
    image = picture(given.picture)
    found = filtered(image, given.target)
    draw(found, given.out)
    print(f"{len(found)} filters of {image.shape[1]}x{image.shape[0]} pixels: {given.out}")


if __name__ == "__main__":
    main()
