"""Where things are: nothing overlaps, text fits, edges go round boxes; the file is the same each time."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from functools import cache
from itertools import combinations

import pytest
from zoo import EXAMPLES

from graphc import draw
from graphc.draw.boxes import Frame, Picture
from graphc.draw.layout import Placed, Rect, place
from graphc.draw.measure import bands, frame_title_size, size_of
from graphc.draw.text import width
from graphc.frontends.yaml_load import loads_yaml

NETS = ["googlenet", "art1", "densenet121", "shufflenet_v2", "som_training", "squeezenet", "xor", "unet", "transformer"]
SVG = "{http://www.w3.org/2000/svg}"


@cache
def drawn(name: str, fold: str = "auto") -> tuple[Picture, Placed]:
    picture = draw.picture(loads_yaml((EXAMPLES / f"{name}.yaml").read_text()), fold)
    return picture, place(picture)


def apart(a: Rect, b: Rect, slack: float = 0.5) -> bool:
    across = a.right <= b.left + slack or b.right <= a.left + slack
    return across or a.bottom <= b.top + slack or b.bottom <= a.top + slack


def holds(outer: Rect, inner: Rect, slack: float = 0.5) -> bool:
    return (
        outer.left <= inner.left + slack and outer.top <= inner.top + slack
        and inner.right <= outer.right + slack and inner.bottom <= outer.bottom + slack
    )  # fmt: skip


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", NETS)
def test_boxes_and_frames_do_not_overlap(name: str):
    picture, placed = drawn(name)
    assert all(apart(a, b) for a, b in combinations(placed.boxes.values(), 2))
    inside = {frame: {*frame.boxes()} for frame in picture.root.frames()}
    for frame, rect in placed.frames.items():
        for box, place_ in placed.boxes.items():
            assert holds(rect, place_) if box in inside[frame] else apart(rect, place_)
        width_, _ = frame_title_size(frame)
        assert width_ <= rect.right - rect.left
    whole = Rect(0, 0, *placed.size)
    assert all(holds(whole, rect, 1) for rect in (*placed.boxes.values(), *placed.frames.values()))


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", NETS)
def test_edges_begin_and_end_at_their_boxes_and_cross_no_other(name: str):
    _, placed = drawn(name)
    for edge, (*curve, tip) in placed.edges.items():
        assert near(placed.boxes[edge.source], curve[0]) and near(placed.boxes[edge.target], tip)
        for box, rect in placed.boxes.items():
            if box not in (edge.source, edge.target):
                assert not any(within(rect, point) for point in points(curve))


def near(rect: Rect, point: tuple[float, float], slack: float = 3) -> bool:
    x, y = point
    return rect.left - slack <= x <= rect.right + slack and rect.top - slack <= y <= rect.bottom + slack


def within(rect: Rect, point: tuple[float, float]) -> bool:
    """By more than the width of a line."""
    x, y = point
    return rect.left + 2 < x < rect.right - 2 and rect.top + 2 < y < rect.bottom - 2


def points(curve: list[tuple[float, float]]):
    """On the cubic Bézier curves, by de Casteljau's formula."""
    for i in range(0, len(curve) - 1, 3):
        for t in (k / 12 for k in range(13)):
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
            yield tuple(sum(w * p[axis] for w, p in zip(weights, curve[i : i + 4])) for axis in (0, 1))


@pytest.mark.parametrize("fold", draw.FOLDS)
def test_text_is_inside_its_box(fold: str):
    picture, placed = drawn("som_training", fold)
    for box, rect in placed.boxes.items():
        for band in bands(box):
            assert all(width(*line) <= rect.right - rect.left - 8 for line in band.lines)
        assert sum(band.height for band in bands(box)) == pytest.approx(rect.bottom - rect.top, abs=0.1)
        assert size_of(box)[0] == pytest.approx(rect.right - rect.left, abs=0.1)


def test_the_file_is_svg_with_every_box_once():
    picture, placed = drawn("googlenet")
    root = ET.fromstring(draw.svg(picture))
    assert root.tag == f"{SVG}svg"
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts.count("inception") == 9 and "image" in texts and "batch×3×224×224" in texts
    heads = [path for path in root.iter(f"{SVG}path") if path.get("class") == "h"]
    assert len(heads) == len(picture.edges)
    assert float(root.get("width")) >= placed.size[0]


def test_names_are_any_text():
    """Also characters that no XML may hold."""
    text = 'graphc: 1\ninputs: {"<&\\0\\e\\x08\\ufffe漢\\U0001f600>": [3]}\nnet: [relu]\noutputs: {"]]>\\x01": last}\n'
    root = ET.fromstring(draw.svg(draw.picture(loads_yaml(text))))
    found = {text.text for text in root.iter(f"{SVG}text")}
    assert {"<&\ufffd\ufffd\ufffd\ufffd漢\U0001f600>", "]]>\ufffd"} <= found


def test_the_same_each_time():
    """Also where sets are in another order."""
    program = "import sys; from graphc import draw, frontends; sys.stdout.write(draw.svg(draw.picture(frontends.load(sys.argv[1]))))"
    texts = {
        subprocess.run(
            [sys.executable, "-c", program, EXAMPLES / "art1.yaml"],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1 and b"ScatterElements" in texts.pop()


def test_a_frame_of_a_run_tells_how_often():
    picture, _ = drawn("densenet121")
    titles = [frame.title for frame in picture.root.frames()]
    assert titles == [
        "dense_layer ×6", "transition", "dense_layer ×12", "transition", "dense_layer ×24", "transition", "dense_layer ×16"
    ]  # fmt: skip
    assert all(isinstance(frame, Frame) for frame in picture.root.frames())
    assert len(picture.boxes) < draw.MOST_BOXES
