#!/usr/bin/env python3
"""Writes docs/operators.md: every operator of the registry, by family. `python docs/operators.py`; a test compares."""

from __future__ import annotations

from pathlib import Path

from graphc.op import Family, all_ops

PAGE = Path(__file__).with_suffix(".md")

MEANING = {
    Family.ELEMENTWISE: "each element of the result from the elements at its place",
    Family.REDUCTION: "sums, products and extremes over axes",
    Family.COMPOSITE: "defined by other operators",
    Family.CONTRACTION: "matrix products",
    Family.WINDOW: "convolutions and pools",
    Family.MOVEMENT: "elements move and do not change",
    Family.INDEX: "positions come from data",
    Family.NORMALIZE: "statistics over axes, and what they scale",
    Family.RECURRENT: "a cell along a sequence",
    Family.SOURCE: "values from attributes, shapes or a seed",
    Family.CONTROL: "branches and loops over subgraphs",
    Family.SEQUENCE: "values that are no tensors",
    Family.TABLE: "a table in the attributes decides: trees, encoders of labels",
}


CHOICES = """
## Where the standard, its reference and ONNX Runtime differ

The standard's text decides; where it is silent, what the exporters of such files are tested with.

- `ai.onnx.ml::TreeEnsemble` numbers `post_transform` as the standard does: 1 is SOFTMAX, 2 LOGISTIC (ONNX Runtime 1.32 has them
  the other way round, the reference applies neither).
- `ai.onnx.ml` otherwise follows ONNX Runtime: labels and scores of two classes, `LabelEncoder` with a key given twice (the first
  holds), `Normalizer` with `MAX` (the largest element with its sign), targets that no leaf wrote (0).
- `com.microsoft::DynamicQuantizeLSTM` quantises its state over the whole batch, as ONNX Runtime does on one thread; its results
  depend on the number of threads there.
- `MaxUnpool` with `output_shape` counts the indices in the size that its kernel, strides and pads give, and adds zeros at the
  ends, as the standard's test and its reference do. (ONNX Runtime and PyTorch count them in `output_shape`. The text speaks of
  the inverse of a `MaxPool`, which would be that, too.)
- `ConvTranspose` with `auto_pad` SAME_UPPER or SAME_LOWER and a kernel that is smaller than the stride gives size x stride
  elements, as the standard says, the missing ones being zeros at the end, as in TensorFlow. (ONNX Runtime leaves them out; the
  reference shifts the result.)
- `Erf` of integers, which opsets 9 to 12 have, is cut off: -1, 0 or 1.
- `Resize` (without antialias) and `GridSample` of integers are cut off. Booleans, complex numbers and strings have a `Resize` to the nearest
  only.
- Random operators draw the same of a `seed` in each run and on every backend: a number is a function of the seed and of its
  place in the result (Philox 2x32-10). Without a `seed` each run, and each node, draws others.

Of NaN the standard says nothing. It is kept, as in NumPy and PyTorch:

- `ReduceMax`, `ReduceMin`, `Max`, `Min`, `Clip` (of a bound too), `MaxPool`, `GlobalMaxPool`, `MaxRoiPool`, and `max` and `min` of
  scatters give NaN where there is one. (In ONNX Runtime 1.32 its place decides in reductions and pools.)
- `ArgMax` and `ArgMin` name the first NaN (the last with `select_last_index`), so does `Hardmax`, and the indices of `MaxPool`. A
  window in which all elements are the lowest has the index of its first element, never one of padding.
- `TopK` and `Unique` hold NaN for larger than infinity. To `Unique` all NaN are one number, but rows that hold one differ, as in
  NumPy.
- `LRN` has NaN in the channels only whose window holds one. `Relu` and `Sign` keep NaN.
- Taps of `GridSample` outside the image are zeros, not products with a pixel: an infinity beside them stays one.
- `Attention` gives zeros for a query whose keys a mask hides, NaN where the scores themselves are -inf.
- Which sign a sum, an extreme or a norm of zeros has is left open, but for `Max`, `Min` (the last) and the first of `CumSum`.
""".splitlines()


def render() -> str:
    ops = all_ops()
    lines = [
        "# Operators",
        "",
        f"{len(ops)} operators, by family; names, attributes and semantics are those of the newest ONNX opset. Older forms of",
        "them are translated while a file is read. `graphc check MODEL` says which nodes of a model run as machine code and",
        "which on the host. This page is written by `python docs/operators.py`.",
    ]
    lines += CHOICES
    for family, meaning in MEANING.items():
        names = [name for name, op in ops.items() if op.family is family]
        if names:
            lines += ["", f"## {family.value}: {meaning}", "", ", ".join(f"`{name}`" for name in names)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render())
