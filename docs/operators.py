#!/usr/bin/env python3
"""Writes docs/operators.md: every operator of the registry, by family. `python docs/operators.py`; a test compares."""

from __future__ import annotations

from pathlib import Path

from graphc.op import Family, named_ops

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
- `ai.onnx.ml` otherwise follows ONNX Runtime: labels and scores of one and two classes, `LabelEncoder` with a key given twice (the
  first holds), `Normalizer` with `MAX` (the largest element with its sign), targets that no leaf wrote (0), `CastMap` to sparse
  strings ('0.f' where there is none). `Binarizer` takes NaN, which is not above its threshold (an error in ONNX Runtime). A
  classifier of trees with one class, a string, names it always (ONNX Runtime stops).
- `com.microsoft` otherwise follows ONNX Runtime on the CPU, and gives what it refuses where the meaning is plain (packed queries,
  keys and values, norms of queries and keys, masks of four axes, gated experts of any layout). Of attention: masks are added to
  scores, so that a row in which all is hidden is not; the last query of a causal `MultiHeadAttention` sees every key;
  a `key_padding_mask` or `mask_index` of lengths above the number of keys means all of them, below 0 none, where other lengths are
  errors out of range; `GroupQueryAttention` leaves zeros in a cache behind the last key, counts positions of a prompt from the first of
  `position_ids`, and gives zeros for rows of padding whose window holds no key.
- `com.microsoft::MatMulNBits` at `accuracy_level` 4, which asks for 8 bits of the operand at least, rounds it as ONNX Runtime does where
  weights, scales and zero points are constants: in each row, the elements of a block of weights (256 of them at most) to whole
  steps of their largest magnitude / 127. With AVX-512 VNNI bytes are multiplied, and their sums within a block are exact; elsewhere the
  rounded numbers are, in float32. Results are those of ONNX Runtime but for float32 sums, and for what lies halfway between
  two steps. Its reference rounds nothing, as at all other levels and for MatMul of a DequantizeLinear: results differ from it by half a step
  times the sum of a column's magnitudes at most, block by block. `QMoE` of 8 bits in blocks rounds nothing.
  With `g_idx`, packed zero points do not count.
- `com.microsoft::MoE` and `QMoE` choose the first of experts with equal shares, as `TopK` does (ONNX Runtime the last).
- `com.microsoft::QMoE` divides shares of experts by their sum, unless `router_weights` are given.
- `com.microsoft::DynamicQuantizeLSTM` quantises its state over the whole batch, as ONNX Runtime does on one thread; its results
  depend on the number of threads there.
- On the CPU, quantized convolutions with what lies between them give ONNX Runtime's results without its optimisations up to one step of
  the last quantisation: sums are exact in int32, but scales are multiplied before they meet the sums, and what lies halfway
  between two steps may go to either.
- `QuantizeLinear` of NaN is the lowest number of the type, as in ONNX Runtime and (for signed types) the reference.
- Quantised operators of `com.microsoft` equal ONNX Runtime's in every element (but for ties of `QLinearAdd`, which it folds into one line). `QLinearAdd`, `QLinearMul` and
  `QLinearAveragePool` add the zero point before they round, the others after it. `QLinearAveragePool` with `count_include_pad`
  divides by the whole kernel also where `ceil_mode` lets a window reach beyond the padding. `QLinearSoftmax` multiplies by 1 / y_scale rounded
  down: 254 for a scale of 1/255. Zero points that the schema calls optional are 0 where they are left out.
- `com.microsoft::MaxpoolWithMask` ends a row of a window at its first masked element and never masks the first element of a
  plane, as ONNX Runtime does. `Tokenizer` finds the longest match at a place, and refuses separators that match nothing.
  `CDist` takes one matrix product, so that a distance of a row to itself need not be 0. `Inverse` of a singular matrix holds infinities
  and NaN.
- `com.microsoft::FusedMatMul` with `transA` and a vector for B multiplies the transposed A. (ONNX Runtime 1.32 does not transpose it.)
- `qonnx.custom_op.general` is as the package qonnx 1.0 computes it; `onnx.brevitas` and `finn.custom_op.general` are other names of
  it. `com.microsoft.nchwc`, what ONNX Runtime saves above ORT_ENABLE_EXTENDED, is refused: its weights lie in blocks of a width that the
  file does not tell.
- An `If` of which one branch has no valid types runs as long as the other one is taken. (ONNX Runtime does so where only the
  inputs' shapes tell, and refuses a file whose ranks do.)
- `Compress` without `axis` takes a condition of any rank, flattened as its operand is (PaddlePaddle's exporter gives a mask of the
  operand's shape; the standard asks for one axis, ONNX Runtime takes any).
- `MaxUnpool` with `output_shape` counts the indices in the size that its kernel, strides and pads give, and adds zeros at the
  ends, as the standard's test and its reference do. (ONNX Runtime and PyTorch count them in `output_shape`. The text speaks of
  the inverse of a `MaxPool`, which would be that, too.)
- `ConvTranspose` with `auto_pad` SAME_UPPER or SAME_LOWER and a kernel that is smaller than the stride gives size x stride
  elements, as the standard says, the missing ones being zeros at the end, as in TensorFlow. (ONNX Runtime leaves them out; the
  reference shifts the result.)
- `TfIdfVectorizer` multiplies the count of an n-gram by the weight of that n-gram, as the text says. (The reference and ONNX
  Runtime take the weight of its column, which is another one where `ngram_indexes` reorders.)
- `Scan` of opset 8 gives zeros behind the end of a sequence; `directions` turn its valid part. Its batch must have a known size.
- `ai.onnx.preview.training::Gradient` of a tensor of several elements is that of their sum. It becomes nodes while the file is read,
  of the operators that have rules in `graphc/gradient.py`, and those that stand for such; a file with others is refused.
- The rates of `ai.onnx.preview.training` are computed in float64: 1 - 0.999^T has few digits in float32.
- A sequence may hold tensors of different shapes, and one that is declared to hold tensors of no dims may hold any, as ONNX's own
  examples do.
- `Cast` of floats to integers cuts off, those of 2 and 4 bits too, and numbers out of range lose their high bits (ONNX Runtime
  rounds to 2 and 4 bits, halves away from zero). Floats of 4 and 6 bits hold the largest number for what is larger, infinity
  too, and zero for NaN. To `float8e8m0` the sign of a number is dropped; with `saturate`, infinity becomes the largest number and
  what is too small the smallest, as the standard's table says (the reference makes NaN of infinity). float64 is rounded once to a
  narrower type, where ml_dtypes and ONNX Runtime round to float32 between. A type cast to itself stays as it is.
- `OneHot` of opsets 9 and 10 has no place for a negative number, whose row is off, as their text says; from opset 11 on it counts from the
  end. (ONNX Runtime counts in both.) The mask of a `Dropout` that drops nothing holds ones in every opset (zeros in ONNX Runtime
  below opset 12).
- Windows of a `MaxPool` or `AveragePool` that would begin in the padding at the end are left out in every opset, as opset 22 says.
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
    ops = named_ops()
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
