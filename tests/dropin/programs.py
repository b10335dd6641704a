"""The packages, what pip installs for each, and a program that uses it: it prints its answers as JSON.

Each is run twice, with the real onnxruntime and with graphc in its place. Numbers are compared with a tolerance, texts exactly.
"""

from __future__ import annotations

from typing import NamedTuple


class Package(NamedTuple):
    name: str
    version: str
    needs: tuple[str, ...]  # beside what graphc's tests have installed
    answers: str
    program: str


PACKAGES = (
    Package(
        "magika",
        "1.0.3",
        ("python-dotenv", "click"),
        "the types of 9 contents, with their scores",
        """
import glob, json, os
from magika import Magika
texts = [b"import os\\ndef f(x):\\n    return x + 1\\n" * 20, b"<html><body><p>Hello</p></body></html>" * 10,
         b'{"a": [1, 2, 3], "b": {"c": null}}' * 10, b"#include <stdio.h>\\nint main(void) { return 0; }\\n" * 10,
         b"SELECT name, count(*) FROM t WHERE x > 3 GROUP BY name;\\n" * 10, b"# Title\\n\\n- one\\n- two\\n" * 20,
         bytes(range(256)) * 8, b"name,age\\nAda,36\\nAlan,41\\n" * 30, b"fn main() { println!(\\"hi\\"); }\\n" * 20]
magika = Magika()
found = [magika.identify_bytes(t) for t in texts]
ANSWERS = [[r.output.label, r.score] for r in found]
""",
    ),
    Package(
        "nudenet",
        "3.4.2",
        ("opencv-python-headless",),
        "that 3 drawn pictures show nothing, and means, maxima and deviations of the network's output for each class",
        """
import numpy as np
from nudenet import NudeDetector
detector = NudeDetector()
rng = np.random.default_rng(0)
y, x = np.mgrid[0:240, 0:320]
pictures = [np.uint8(rng.integers(0, 256, (240, 320, 3))),
            np.uint8(np.stack([x * 255 / 320, y * 255 / 240, (x + y) % 256], -1)),
            np.uint8(np.stack([200 * np.exp(-((x - 160) ** 2 / 4000 + (y - 120) ** 2 / 9000))] * 3, -1) + [20, 30, 50])]
boxes = [detector.detect(p) for p in pictures]
session = detector.onnx_session
feed = np.float32(rng.random((1, 3, 320, 320)))
raw = session.run(None, {session.get_inputs()[0].name: feed})[0]
ANSWERS = [boxes, [a.tolist() for a in (raw.mean((0, 2)), raw.max((0, 2)), raw.std((0, 2)))]]
""",
    ),
    Package(
        "rapidocr-onnxruntime",
        "1.4.4",
        ("opencv-python-headless", "pyclipper", "shapely", "six", "tqdm"),
        "the lines of a page: their places, texts and scores",
        """
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rapidocr_onnxruntime import RapidOCR
page = Image.new("RGB", (640, 320), "white")
draw = ImageDraw.Draw(page)
for i, (text, size) in enumerate((("A graph compiler", 40), ("for neural networks", 32), ("Order 66: 1,024.50 EUR", 28))):
    draw.text((30, 30 + 90 * i), text, "black", ImageFont.load_default(size))
lines, _ = RapidOCR()(np.asarray(page))
assert len(lines) == 3, lines
ANSWERS = [[np.asarray(box).tolist(), text, float(score)] for box, text, score in lines]
""",
    ),
    Package(
        "silero-vad",
        "6.2.3",
        ("torch", "packaging"),
        "the probability of speech in 128 windows of a sound, step by step, at 16 and 8 kHz",
        """
import numpy as np, torch
from silero_vad import load_silero_vad
model = load_silero_vad(onnx=True)
ANSWERS = []
for rate, window in ((16000, 512), (8000, 256)):
    t = np.arange(64 * window) / rate
    voice = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 20)) * (1 + np.sin(2 * np.pi * 4 * t)) / 4
    sound = torch.from_numpy(np.float32(voice * (t % 1 < 0.6) + 0.01 * np.random.default_rng(0).normal(size=t.size)))
    model.reset_states()
    ANSWERS.append([model(sound[i : i + window], rate).item() for i in range(0, sound.numel(), window)])
""",
    ),
)

PRELUDE = "import sys, json, warnings\n"
POSTLUDE = """
import onnxruntime
json.dump({"runtime": onnxruntime.get_build_info(), "answers": ANSWERS}, open(sys.argv[1], "w"))
"""
