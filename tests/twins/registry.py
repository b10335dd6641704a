"""Which examples have a twin: the same network by another hand, in PyTorch or scikit-learn. Needs neither of the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Twin:
    """How an example and its twin, the function or class of that name in tests/twins/<family>.py, are compared.

    params: of both. image: height and width that stand in place of the page's. sizes: of dims that are names. given: results
    that are drawn, which the twin reads behind the inputs. exact: how far the two may be apart in float64, of a result's
    largest magnitude. Constants in it are those of float32, 0.001 as an eps, for one, is 5e-11 off; where more is off, the
    reason tells."""

    family: str
    params: Mapping[str, int | float] = field(default_factory=dict)
    image: tuple[int, int] | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    exact: float = 1e-8
    reason: str = ""


IMAGE = (64, 96)
ONE = {"batch": 1}
TEXT = {"batch": 3, "steps": 7}

TWINS: dict[str, Twin] = {
    "lenet5": Twin("classic"),
    "alexnet": Twin("classic"),
    "zfnet": Twin("classic"),
    "nin": Twin("classic"),
    **{f"vgg{n}": Twin("classic", sizes=ONE) for n in (11, 13, 16, 19)},
    **{f"resnet{n}": Twin("residual", image=IMAGE) for n in (18, 34, 50, 101, 152)},
    "resnext50": Twin("residual", image=IMAGE),
    "se_resnet50": Twin("residual", image=IMAGE),
    "wide_resnet": Twin("residual", sizes=ONE),
    "convnext_t": Twin("residual", image=IMAGE),
    "densenet121": Twin("dense", image=IMAGE),
    "densenet169": Twin("dense", image=IMAGE),
    "fractalnet": Twin("dense"),
    "googlenet": Twin("inception", image=(72, 97)),
    "inception_v3": Twin("inception", image=(91, 107)),
    "xception": Twin("inception", image=(75, 96)),
    **{f"mobilenet_v{n}": Twin("mobile", image=IMAGE) for n in (1, 2, 3)},
    "efficientnet_b0": Twin("mobile", image=IMAGE),
    "shufflenet_v2": Twin("mobile", image=IMAGE),
    "squeezenet1_0": Twin("mobile", image=(67, 98)),
    "squeezenet": Twin("mobile", image=(67, 98)),
    "yolo_v3_tiny": Twin("detection", image=IMAGE),
    "ssd300": Twin("detection", sizes=ONE),
    "fast_rcnn": Twin("detection", {"height": 64, "width": 96}, sizes={"batch": 2, "count": 9}),
    "faster_rcnn": Twin(
        "detection", {"height": 32, "width": 48}, sizes=ONE, exact=1e-6, reason="anchors are rounded to float32"
    ),
    "unet": Twin("segmentation", {"width": 16}, image=(64, 80)),
    "segnet": Twin(
        "segmentation", image=(32, 64), sizes=ONE
    ),  # a larger one has two values that float32 can't tell apart
    **{f"fcn{n}s": Twin("segmentation", {"size": 68}, sizes=ONE) for n in (8, 16, 32)},
    "lstm_classifier": Twin("recurrent", sizes=TEXT),
    "gru_classifier": Twin("recurrent", sizes=TEXT),
    "char_rnn": Twin("recurrent", sizes=TEXT),
    "elman": Twin("recurrent", sizes=TEXT),
    "vit_b16": Twin("transformers", {"width": 192, "depth": 3, "heads": 3}),
    "gpt2": Twin("transformers", {"layers": 3, "width": 96, "heads": 4, "vocab": 300, "context": 40}, sizes=TEXT),
    "transformer_encoder": Twin("transformers", {"steps": 24}),
    "transformer": Twin(
        "transformers",
        {"layers": 2, "width": 96, "heads": 4, "vocab": 300},
        sizes={**TEXT, "written": 5},
        exact=1e-6,
        reason="the rates of the positions' waves are rounded to float32",
    ),  # fmt: skip
    "autoencoder": Twin("generative"),
    "vae_encoder": Twin("generative"),
    "vae_decoder": Twin("generative"),
    "vae": Twin("generative", given=("code",)),
    "dcgan_generator": Twin("generative"),
    "espcn": Twin("generative", sizes={"height": 9, "width": 12}),
    "perceptron": Twin("shallow"),
    "mlp": Twin("shallow"),
    "rbf": Twin("shallow"),
    "rbm_gibbs": Twin("shallow", given=("visible", "hidden")),
    "naive_bayes": Twin("shallow"),
    "knn": Twin("shallow"),
    "kmeans": Twin("shallow"),
    "pca": Twin("shallow", given=("components",), exact=1e-5, reason="the power iteration ends where 1e-6 is left"),
    "pca_whitening": Twin("shallow", {"epsilon": 0.0}),
    "svm_linear": Twin("shallow"),
    "svm_kernel": Twin("shallow"),
    **{
        f"conv_{n}": Twin("convolutions", sizes=ONE)
        for n in ("1d", "bottleneck_1x1", "depthwise", "dilated", "grouped")
    },
    **{
        f"conv_{n}": Twin("convolutions", sizes=ONE)
        for n in ("3d", "causal", "factorized", "transposed", "im2col", "separable", "strided", "winograd")
    },
    "unpooling": Twin("convolutions"),
    "lenet5_bn": Twin("classic"),
    "alexnet_2012": Twin("classic", sizes=ONE),
    "vgg16_bn": Twin("classic", {"size": 64, "hidden": 256}),
    "mobilenet_v3_small": Twin("mobile", {"size": 96}),
    **{n: Twin("residual", {"size": 96}, sizes=ONE) for n in ("resnet50_d", "preact_resnet", "regnet_y_400mf")},
    "srcnn": Twin("generative", sizes={"height": 20, "width": 24}),
    "edsr": Twin("generative", {"n": 3, "by": 0.1}, sizes={"height": 9, "width": 12}),
    "lstm_stacked": Twin("recurrent", {"vocab": 300, "width": 40}, sizes=TEXT),
    "rnn": Twin("recurrent", sizes=TEXT),
    "linear_regression": Twin("shallow"),
    "logistic_regression": Twin("shallow"),
    "softmax_regression": Twin("shallow"),
}
