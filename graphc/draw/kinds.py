"""What kind of operator a box shows, which gives it its colour."""

from __future__ import annotations

import enum

from graphc.op import Family, Op


class Kind(enum.Enum):
    """Word of the legend, fill and border."""

    CONV = "convolution", "#d7e6fa", "#4a7fc1"
    PRODUCT = "product", "#e4dcf8", "#7d62c4"
    RECURRENT = "recurrent", "#f6daee", "#b75c9d"
    NORM = "normalisation", "#d8f0e3", "#43997a"
    ACTIVATION = "activation", "#fdebc8", "#c9942f"
    ARITHMETIC = "arithmetic", "#f7f3d0", "#a89a3a"
    POOL = "pool, reduction", "#fadcdb", "#c96662"
    MOVEMENT = "movement, choice", "#ebedef", "#838b93"
    CONTROL = "control", "#fddfca", "#d0763b"
    OTHER = "other", "#e3f1f4", "#5d97a5"
    BLOCK = "block, folded", "#ffffff", "#5b6b7a"
    PORT = "input, output", "#455a68", "#455a68"

    def __init__(self, word: str, fill: str, border: str) -> None:
        self.word, self.fill, self.border = word, fill, border


_BY_NAME = {
    kind: frozenset(names.split())
    for kind, names in {
        Kind.CONV: "FusedConv",
        Kind.PRODUCT: "Attention FusedAttention FusedGemm FusedMatMul TransposeMatMul LinearClassifier LinearRegressor",
        Kind.NORM: "BatchNormalization SimplifiedLayerNormalization SkipLayerNormalization "
        "SkipSimplifiedLayerNormalization Normalizer Scaler Dropout",
        Kind.ACTIVATION: "BiasGelu Celu Clip Elu FastGelu Gelu HardSigmoid HardSwish Hardmax LeakyRelu LogSoftmax Mish "
        "PRelu QuickGelu Relu Selu Shrink Sigmoid Softmax Softplus Softsign Swish Tanh ThresholdedRelu",
        Kind.POOL: "MaxRoiPool RoiAlign ReduceLogSumExp",
        Kind.MOVEMENT: "Resize Upsample",
    }.items()
}
_BY_FAMILY = {
    Family.CONTRACTION: Kind.PRODUCT,
    Family.RECURRENT: Kind.RECURRENT,
    Family.NORMALIZE: Kind.NORM,
    Family.ELEMENTWISE: Kind.ARITHMETIC,
    Family.REDUCTION: Kind.POOL,
    Family.MOVEMENT: Kind.MOVEMENT,
    Family.INDEX: Kind.MOVEMENT,
    Family.CONTROL: Kind.CONTROL,
}


def kind_of(op: Op) -> Kind:
    name = short_name(op)
    for kind, names in _BY_NAME.items():
        if name in names:
            return kind
    if op.windowed:
        return Kind.POOL if op.macs is None else Kind.CONV
    return _BY_FAMILY.get(op.family, Kind.OTHER)


def short_name(op: Op) -> str:
    """Without its domain."""
    return op.name.rpartition("::")[2]
