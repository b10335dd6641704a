"""What layers and arguments are called elsewhere (PyTorch, Keras, common words), and so what they are called here."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from graphc.frontends.yaml_registry import LayerDefinition, layers

# Names as `squashed` gives them: without case, _, the package before a dot and the number of dims behind.
# To: a layer, or what to write where that says more than its name and the arguments that it must have.
LAYERS: Mapping[str, str] = {
    # convolutions
    "convolution": "conv", "atrousconv": "conv: {out: …, dilation: …}",
    "dilatedconv": "conv: {out: …, dilation: …}", "groupconv": "conv: {out: …, groups: …}",
    "groupedconv": "conv: {out: …, groups: …}", "pointwise": "conv: {out: …, k: 1}", "pointwiseconv": "conv: {out: …, k: 1}",
    "convolutiontranspose": "conv_transpose", "deconv": "conv_transpose",
    "deconvolution": "conv_transpose", "transposedconv": "conv_transpose", "transposeconv": "conv_transpose",
    "upconv": "conv_transpose", "depthwiseconv": "depthwise", "dwconv": "depthwise",
    "separableconv": "[depthwise, {conv: {out: …, k: 1}}]",
    # dense
    "linear": "dense", "fc": "dense", "fullyconnected": "dense", "innerproduct": "dense", "affine": "dense",
    "perceptron": "dense", "feedforward": "[{dense: …}, relu, {dense: …}]", "mlp": "[{dense: …}, relu, {dense: …}]",
    "ffn": "[{dense: …}, relu, {dense: …}]",
    # pools
    "maxpooling": "maxpool", "avgpooling": "avgpool", "averagepool": "avgpool",
    "averagepooling": "avgpool", "meanpool": "avgpool", "meanpooling": "avgpool", "globalavgpooling": "global_avgpool",
    "globalaveragepool": "global_avgpool", "globalaveragepooling": "global_avgpool", "gap": "global_avgpool",
    "globalmeanpool": "global_avgpool", "adaptiveavgpool": "global_avgpool", "adaptiveaveragepool": "global_avgpool",
    "globalmaxpooling": "global_maxpool", "gmp": "global_maxpool", "adaptivemaxpool": "global_maxpool",
    "maxunpool": "unpool", "maxunpooling": "unpool", "unpooling": "unpool",
    "roipooling": "roi_pool", "maxroipool": "roi_pool", "roialignment": "roi_align",
    # normalisation
    "batchnorm": "bn", "batchnormalization": "bn", "batchnormalisation": "bn", "syncbatchnorm": "bn",
    "layernormalization": "layernorm", "layernormalisation": "layernorm", "ln": "layernorm",
    "groupnormalization": "groupnorm", "gn": "groupnorm", "instancenormalization": "instancenorm",
    "rmsnormalization": "rmsnorm", "localresponsenorm": "lrn", "localresponsenormalization": "lrn",
    "localcontrastnorm": "local_contrast", "localcontrastnormalization": "local_contrast", "lcn": "local_contrast",
    "unitnormalization": "normalize", "l2norm": "normalize", "l2normalize": "normalize", "l2normalization": "normalize", "lpnorm": "norm", "lpnormalization": "normalize", "normalization": "standardize",
    "normalise": "normalize", "standardise": "standardize", "minmaxscaler": "minmax", "standardscaler": "zscore",
    "rescaling": "scale",
    # activations
    "rectifier": "relu", "rectifiedlinear": "relu", "lrelu": "leaky_relu", "leakyrectify": "leaky_relu",
    "hardsigmoid": "hsigmoid", "hardswish": "hswish", "logistic": "sigmoid", "logsigmoid": "[sigmoid, log]",
    "clamp": "clip", "step": "heaviside", "binarystep": "heaviside", "unitstep": "heaviside", "threshold": "heaviside",
    "signum": "sign", "parametricrelu": "prelu", "softargmax": "softmax", "swiglu": "glu", "pow": "Pow: {inputs: [last, 2.0]}",
    # shapes
    "view": "reshape", "permute": "transpose", "swapaxes": "transpose", "expanddims": "unsqueeze",
    "zeropadding": "pad", "zeropad": "pad", "constantpad": "pad", "padding": "pad",
    "reflectionpad": "pad: {by: …, mode: reflect}", "replicationpad": "pad: {by: …, mode: edge}", "cropping": "slice", "chunk": "split", "upsampling": "upsample", "interpolate": "upsample",
    "upsamplingnearest": "upsample", "upsamplingbilinear": "upsample: {mode: linear}", "depthtospace": "pixel_shuffle",
    "spacetodepth": "pixel_unshuffle", "subpixel": "pixel_shuffle", "shufflechannels": "channel_shuffle",
    "concatenate": "concat", "cat": "concat", "merge": "concat",
    "route": "concat",
    # pictures
    "centercrop": "crop", "centrecrop": "crop", "resized": "resize", "resizeimage": "resize", "resizing": "resize",
    "togray": "grayscale", "togrey": "grayscale", "greyscale": "grayscale", "rgbtograyscale": "grayscale", "rgb2gray": "grayscale",
    "mirror": "flip", "fliplr": "flip", "flipud": "flip: {axis: 2}", "horizontalflip": "flip", "verticalflip": "flip: {axis: 2}",
    "decodeimage": "decode", "decodejpeg": "decode", "imagedecoder": "decode", "astype": "cast", "todtype": "cast",
    "channelsfirst": "to_nchw", "nhwctonchw": "to_nchw", "hwctochw": "to_nchw", "totensor": "[to_nchw, {cast: float32}, {scale: 1/255}]",
    # arithmetic and choice
    "eltwiseadd": "add", "plus": "add", "subtract": "sub",
    "minus": "sub", "multiply": "mul", "times": "mul",
    "divide": "div", "dot": "matmul", "mm": "matmul",
    "bmm": "matmul", "average": "mean", "reducemean": "mean", "reducesum": "sum", "reducemax": "max",
    "reducemin": "min", "maximum": "Max: {inputs: [a, b]}", "minimum": "Min: {inputs: [a, b]}", "onehotencoding": "one_hot",
    "take": "gather", "indexselect": "gather", "select": "gather", "eq": "equal", "gt": "greater", "ge": "greater_equal",
    "lt": "less", "le": "less_equal", "maskedfill": "where: {from: [condition, a], other: …}", "gramian": "gram",
    "grammatrix": "gram", "pairwisedistance": "distance", "cdist": "distance", "rbf": "distance: {rows: …}",
    "cosinesimilarity": "distance: {metric: cosine, from: [x, rows]}", "nonmaxsuppression": "nms",
    "anchorgenerator": "anchors", "priorbox": "anchors", "defaultbox": "anchors", "decodebbox": "decode_boxes",
    # sequences
    "embed": "embedding", "lookup": "embedding", "embeddingbag": "embedding", "simplernn": "rnn", "elman": "rnn",
    "bilstm": "lstm: {hidden: …, bidirectional: true}", "bigru": "gru: {hidden: …, bidirectional: true}",
    "convlstmcell": "conv_lstm", "multiheadattention": "attention", "mha": "attention", "selfattention": "attention",
    "crossattention": "attention: {heads: …, from: [x, memory]}", "multiheadselfattention": "attention",
    "causalattention": "attention: {heads: …, causal: true}", "positionalencoding": "positions",
    "positionencoding": "positions", "sinusoidal": "positions", "positionembedding": "positions: learned",
    "positionalembedding": "positions: learned", "clstoken": "class_token", "se": "squeeze_excite",
    "seblock": "squeeze_excite", "semodule": "squeeze_excite", "squeezeandexcitation": "squeeze_excite",
    "squeezeexcitation": "squeeze_excite", "parameter": "param", "variable": "param", "noop": "identity",
    # what is no layer here
    "residual": "branch: {join: add, paths: {main: […], skip: []}}", "shortcut": "branch: {join: add, paths: {main: […], skip: []}}",
    "skip": "branch: {join: add, paths: {main: […], skip: []}}", "sequential": "[…], a list of steps",
    "input": "inputs: {x: [batch, …]}, a section of the file", "activation": "relu, a step of its own",
    "dropconnect": "dropout", "alphadropout": "dropout", "featuredropout": "dropout", "spatialdropout": "dropout",
    "droppath": "dropout", "stochasticdepth": "dropout", "gaussiannoise": "identity",
}  # fmt: skip

_LOSS = "a loss is for training, and graphc computes what a network gives: leave it out"
# Layers elsewhere that there are none of here, and why.
ABSENT: Mapping[str, str] = {
    **dict.fromkeys(("mse", "mseloss", "l1loss", "crossentropy", "crossentropyloss", "nll", "nllloss", "bce", "bceloss"), _LOSS),
    **dict.fromkeys(("bcewithlogitsloss", "softmaxcrossentropy", "ctcloss", "tripletloss", "hingeloss", "kldivloss"), _LOSS),
    **dict.fromkeys(("adam", "sgd", "rmsprop", "optimizer"), "it is for training, and graphc computes what a network gives: leave it out"),
    "crf": "there is none: its scores are a `param`, and a recursion over the steps, as Viterbi's, is a `scan`",
}  # fmt: skip

# An argument elsewhere: what it may be called here; the layer has one of them.
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "kernel": ("k",), "kernel_size": ("k",), "kernel_shape": ("k",), "ksize": ("k",), "filter_size": ("k",),
    "pool_size": ("k",), "window": ("k",), "size": ("k", "scale"), "stride": ("s",), "strides": ("s",),
    "padding": ("pad",), "pads": ("pad",), "auto_pad": ("pad",), "border_mode": ("pad",), "dilations": ("dilation",),
    "dilation_rate": ("dilation",), "rate": ("p", "dilation"), "prob": ("p",), "drop_prob": ("p",),
    "filters": ("out",), "out_channels": ("out",), "channels": ("out",), "nout": ("out",), "num_filters": ("out",),
    "out_features": ("out",), "num_output": ("out",), "units": ("out", "hidden"), "neurons": ("out", "hidden"),
    "features": ("out", "dim"), "c": ("out",), "group": ("groups",), "num_groups": ("groups",), "use_bias": ("bias",),
    "elementwise_affine": ("bias",), "output_padding": ("output_pad",), "depth_multiplier": ("multiplier",),
    "ceil_mode": ("ceil",), "count_include_pad": ("count_pad",), "return_indices": ("indices",), "epsilon": ("eps",),
    "negative_slope": ("alpha",), "slope": ("alpha",), "leak": ("alpha",), "min": ("low",), "max": ("high", "rows", "keep"),
    "min_val": ("low",), "max_val": ("high",), "hidden_size": ("hidden",), "hidden_dim": ("hidden",),
    "num_hidden": ("hidden",), "num_layers": ("layers",), "return_sequences": ("return",), "nonlinearity": ("act",),
    "activation": ("act",), "num_heads": ("heads",), "n_heads": ("heads",), "nhead": ("heads",), "n_head": ("heads",),
    "is_causal": ("causal",), "use_causal_mask": ("causal",), "num_embeddings": ("vocab",), "vocab_size": ("vocab",),
    "input_dim": ("vocab",), "embedding_dim": ("dim",), "embed_dim": ("dim",), "output_dim": ("dim",),
    "scale_factor": ("scale",), "upscale_factor": ("scale",), "downscale_factor": ("scale",), "factor": ("scale", "by"),
    "block_size": ("scale",), "blocksize": ("scale",), "interpolation": ("mode",), "dim": ("axis", "axes"),
    "axes": ("axis",), "axis": ("axes",), "dims": ("axis", "perm"), "order": ("perm",), "target_shape": ("shape",),
    "keepdim": ("keepdims",), "keep_dims": ("keepdims",), "sections": ("parts",), "num_outputs": ("parts",),
    "chunks": ("parts",), "starts": ("start",), "ends": ("end",), "stop": ("end",), "start_dim": ("axis",), "steps": ("step",), "num_classes": ("classes",),
    "depth": ("classes",), "n_classes": ("classes",), "than": ("to",), "value": ("to", "other", "by"), "ratio": ("reduction",),
    "r": ("reduction", "scale"), "ord": ("p",), "spatial_scale": ("scale",), "output_size": ("size",),
    "pooled_shape": ("size",), "sampling_ratio": ("samples",), "iou_threshold": ("iou",), "score_threshold": ("score",),
    "max_output_boxes_per_class": ("keep",), "aspect_ratios": ("ratios",), "scales": ("sizes", "scale"),
    "max_len": ("rows",), "max_length": ("rows",), "number": ("rows",), "centers": ("rows",),
}  # fmt: skip

# Weights by names that they have elsewhere: how they are called here.
WEIGHTS: Mapping[str, str] = {
    "weight": "weight", "kernel": "weight", "w": "weight", "gamma": "weight", "bias": "bias", "b": "bias", "beta": "bias",
    "init": "weight", "initializer": "weight", "weight_init": "weight", "kernel_initializer": "weight",
    "bias_initializer": "bias", "running_mean": "running_mean", "running_var": "running_var", "moving_mean": "running_mean",
    "moving_variance": "running_var",
}  # fmt: skip
# Arguments of structures and blocks elsewhere.
STRUCTURE_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "times": ("n",), "count": ("n",), "number": ("n",), "num": ("n",), "repeats": ("n",), "body": ("of",), "steps": ("of", "body"),
    "net": ("of", "body"), "layers": ("of", "body"), "block": ("of",), "layer": ("of",), "do": ("of",), "mode": ("join",),
    "merge": ("join",), "branches": ("paths",), "parameters": ("args",), "params": ("args",), "arguments": ("args",),
    "input": ("inputs",), "output": ("outputs", "collect"), "outputs": ("collect",), "state": ("states",),
    "init": ("states",), "input_sequence": ("over",), "while": ("condition",), "cond": ("condition",), "max": ("at_most",),
    "max_iterations": ("at_most",), "limit": ("at_most",),
}  # fmt: skip

_FOLLOWS = "it follows from what comes in"
_TRAINING = "it changes nothing when a model runs"
# Arguments elsewhere that need none here, and why.
NEEDLESS: Mapping[str, str] = {
    **dict.fromkeys(("in_channels", "in_features", "in", "input_size", "input_shape", "num_features", "input_channels"), _FOLLOWS),
    **dict.fromkeys(("normalized_shape", "num_channels", "embed_dim", "d_model", "num_parameters"), _FOLLOWS),
    **dict.fromkeys(("momentum", "inplace", "training", "trainable", "affine", "track_running_stats"), _TRAINING),
    **dict.fromkeys(("kernel_regularizer", "bias_regularizer"), _TRAINING),
    **dict.fromkeys(("activation", "act", "act_layer", "nonlinearity"), "it is a step of its own behind this one"),
    "batch_first": "the batch is always first",
    "data_format": "channels are always axis 1",
    "padding_mode": "`pad: {mode: reflect}` is a step of its own before this one",
}  # fmt: skip


def squashed(name: str) -> str:
    """'nn.Conv2d', 'Conv2D' and 'conv_2d' are 'conv'."""
    bare = re.sub(r"[^a-z0-9]", "", name.rsplit(".", 1)[-1].lower())
    return re.sub(r"(?<=[a-z])[123]d(?=$|transpose$)", "", bare)


def layer_for(name: str) -> str | None:
    """What to write for a layer that is called so elsewhere."""
    made = _same(name)
    return LAYERS.get(squashed(name)) if made is None else _written(made)


def absent(name: str) -> str | None:
    """Why there is no layer here that is called so elsewhere."""
    return ABSENT.get(squashed(name))


def _same(name: str) -> LayerDefinition | None:
    """The layer that is called so elsewhere, if it is one and its name says all."""
    short = squashed(name)
    own = next((made for made in layers().values() if squashed(made.name) == short), None)
    return own or layers().get(LAYERS.get(short, ""))


def _written(made: LayerDefinition) -> str:
    """A step of that layer, with what it must have."""
    given = [f"{k}: …" for k in made.required]
    if made.operands is None and not given:
        given = ["from: [a, b]"]
    elif made.operands is not None and made.operands > 1:
        given.append(f"from: [{', '.join('abcd'[: made.operands])}]")
    return f"{made.name}: {{{', '.join(given)}}}" if given else made.name


def argument_for(made: LayerDefinition, key: str) -> str | None:
    """What is said of an argument that a layer has elsewhere: how it is called here, or why it is not needed."""
    what = f"'{made.name}' has no argument '{key}'"
    if key in ("input", "inputs", "bottom", "x", "operands"):
        return f"{what}: what it reads goes by `from`"
    if key in WEIGHTS and not (key == "kernel" and "k" in made.args):
        return f"{what}: its weights go into `weights: {{{WEIGHTS[key]}: …}}`"
    name = next((n for n in ARGUMENTS.get(key, ()) if n in made.args), None)
    if name is not None:
        return f"{what}: it is called `{name}`"
    return f"{what}: {NEEDLESS[key]}" if key in NEEDLESS else None


def structure_argument(what: str, known: Collection[str], key: str) -> str | None:
    """What is said of an argument of a structure or block that goes by another name here."""
    name = next((n for n in STRUCTURE_ARGUMENTS.get(key, ()) if n in known), None)
    return f"{what} has no '{key}': it is called `{name}`" if name else None


def renamed(made: LayerDefinition, keys: Mapping[str, object]) -> set[str]:
    """Arguments of the layer that are given under the names that they have elsewhere."""
    return {n for key in keys if key not in made.args for n in ARGUMENTS.get(key, ()) if n in made.args}


def bare_operator(operator: str, value: object) -> str | None:
    """What to write where an operator of ONNX with nearly a layer's name has one value behind its colon, as the layer may have."""
    made = _same(operator)
    return None if made is None or made.main is None else f"the layer is `{made.name}: {value}`"


def operator_for(operator: str, key: str) -> str | None:
    """What is said of an argument of a layer that an operator of ONNX with nearly its name does not have."""
    made = _same(operator)
    if made is None or not (key in made.args or any(n in made.args for n in ARGUMENTS.get(key, ()))):
        return None
    return f"operator '{operator}' of ONNX has no '{key}': the layer is `{_written(made)}`"
