"""graphc: a neural-network graph compiler. `graphc.compile("model.onnx")` gives a callable model."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Union

if TYPE_CHECKING:
    from graphc.errors import CheckError, GraphcError, InputError
    from graphc.graph import Graph
    from graphc.model import Model
    from graphc.quantizer import QuantizedModel
    from graphc.shrinker import ShrunkModel

__version__ = "0.1.0"
__all__ = [
    "CheckError",
    "Graph",
    "GraphcError",
    "InputError",
    "Model",
    "__version__",
    "build",
    "compile",
    "load",
    "quantize",
    "shrink",
]


class ModelProto(Protocol):
    """What an onnx.ModelProto is to a type checker that does not see the onnx package."""

    @property
    def graph(self) -> Any: ...

    def SerializeToString(self) -> bytes: ...  # noqa: N802  (protobuf's name)


ModelSource = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, ModelProto, "Graph"]


def compile(  # noqa: A001  (the field's name)
    source: ModelSource,
    *,
    target: str = "cpu",
    threads: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    states: Mapping[str, str] | None = None,
    params: Mapping[str, bool | int | float | str] | None = None,
    net: str | None = None,
    preprocess: bool = True,
    cache: bool = True,
    disabled: Collection[str] = (),
    winograd: int = 6,
    tune: bool = False,
    host: bool = False,
    arch: str | None = None,
    precision: str | None = None,
    device: int | None = None,
    progress: Callable[[str, int, int], None] | bool | None = None,
) -> Model:
    """Compile a model.

    source    path of an .onnx or .yaml file, bytes of an ONNX file, an onnx ModelProto, a Graph, or 'zoo:NAME' for one of the
              networks that `graphc zoo` lists
    target    'cpu' (the best instruction set of this machine), 'cpu:avx512', 'cpu:avx2', 'cpu:portable', 'cuda' and
              'cuda:emulate' (docs/cuda.md), or 'reference'
    threads   how many threads an inference uses on the CPU; default: the CPUs that this process may use
    shapes    input shapes by name to plan for at once, where the model leaves dims open
    states    {input: output} that a session carries from one step to the next (see `Model.session`), each pair of one dtype and rank
    params    values of a YAML file's `params`, by name, in the place of those that it has
    net       the name of one of a YAML file's `nets`; default: the first
    preprocess with the steps of a YAML file's `preprocess`; without, inputs are what these would give, and the caller prepares them
    cache     keep machine code, packed weights and plans on disk for the next process
    disabled  names of passes to leave out, and of parts of the backend: 'strassen', 'fusion' … (see docs/how-it-works.md)
    winograd  largest output tile of Winograd convolutions, 6, 4 or 2: larger ones multiply less and round more; 0 for none
    tune      choose algorithms by measuring them on this machine, or its GPU, instead of by a model of their cost; what was
              measured is kept on disk. Plans for other numbers of threads may then choose, and round, differently
    host      let nodes that target 'cuda' has no kernel for run on the CPU (other targets do so anyway)
    arch      with target 'cuda': compile for this GPU ahead, 'sm_80', 'sm_90', 'sm_90a' …
    precision of products of float32: 'float32' (the default); on a CPU with AVX512_BF16 'bf16': convolutions, products, recurrent
              layers and attention of bfloat16 (8 digits of 24), summed in float32; on any CPU 'bf16-weights': weights in bfloat16,
              products in float32; with target 'cuda' 'tf32', which has 11 digits
    device    with target 'cuda': the number of the GPU, from 0 on
    progress  called with (stage, done, total) during long work; by default a bar on stderr tells of it, where that is a terminal and
              the work takes more than a second. False, or GRAPHC_PROGRESS=0 in the environment: nothing does

    Raises LoadError, CheckError, UnsupportedError, TypeRuleError, InputError: each names the file, the node and the remedy.
    """
    from graphc.compiler import compile as run
    from graphc.progress import chosen

    return run(
        source,
        target=target,
        threads=threads,
        shapes=shapes,
        states=states,
        params=params,
        net=net,
        preprocess=preprocess,
        cache=cache,
        disabled=disabled,
        winograd=winograd,
        tune=tune,
        progress=chosen(progress),
        **({"host": host} if host else {}),
        **({} if arch is None else {"arch": arch}),
        **({} if precision is None else {"precision": precision}),
        **({} if device is None else {"device": device}),
    )


def build(
    source: ModelSource,
    path: str | os.PathLike[str],
    *,
    targets: Sequence[str] = ("cpu",),
    shapes: Sequence[Mapping[str, Sequence[int | range]]] = (),
    samples: Sequence[Mapping[str, Any]] = (),
    coded: bool = False,
    params: Mapping[str, bool | int | float | str] | None = None,
    net: str | None = None,
    preprocess: bool = True,
    threads: int | None = None,
    winograd: int = 6,
    precision: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Compile a model into one file, which `graphc.load` runs where there is no compiler (docs/deploy.md).

    path      of the file: plans, packed weights, machine code, names and types of inputs and outputs
    targets   'cpu' for CPUs with all that this one has, 'cpu:avx512', 'cpu:avx2' and 'cpu:portable' for any with these instructions;
              several are kept beside each other, and the fastest is taken that a machine can run
    shapes    sets of input shapes by name, or of sizes by the names of dims, where the model leaves dims open; an entry may be a range
    samples   sets of inputs by name, where data decides shapes inside the model or what runs: it runs with each while it is built
    coded     store weights of few different numbers, as `shrink` with a codebook leaves them, in Huffman codes: a smaller file, whose
              weights each process decodes into memory of its own, where others are mapped
    threads   of an inference, at most; default: the CPUs that this process may use
    source, params, net, preprocess, winograd, precision, progress  as of `graphc.compile`

    Raises UnsupportedError for a model with nodes that no kernel computes, inputs that are no tensors, or shapes that follow from
    data without samples of it; InputError where shapes stay open; and what `graphc.compile` raises.
    """
    from graphc.artefact.build import build as run
    from graphc.compiler import reading_of

    run(
        source,
        path,
        targets=targets,
        shapes=shapes,
        samples=samples,
        coded=coded,
        reading=reading_of(params, net, preprocess),
        progress=progress,
        threads=threads,
        winograd=winograd,
        **({} if precision is None else {"precision": precision}),
    )


def load(path: str | os.PathLike[str], threads: int | None = None, target: str | None = None) -> Model:
    """The model that `build` wrote to a file. Of other packages it needs NumPy alone. The file is mapped, and compared with its
    digests; it holds machine code, so load only what you trust.

    threads   of an inference, at most those that it was built for; default: the CPUs that this process may use
    target    one of those that it was built for; default: the fastest that this CPU can run

    Raises LoadError for a file that is damaged, or of another format; UnsupportedError for a CPU that none of its targets is for.
    """
    from graphc.artefact.load import load as run

    return run(path, threads, target)


def quantize(
    source: ModelSource,
    data: Any = None,
    *,
    weights: str = "int8",
    per_channel: bool = True,
    reduce_range: bool = False,
    activations: str = "uint8",
    symmetric: bool = False,
    method: str = "minmax",
    percentile: float = 99.99,
    block: int = 32,
    nbits: bool = False,
    keep: Sequence[str] = (),
    max_error: float | None = None,
    sensitivity: bool = False,
    batch: int = 32,
    samples: int | None = None,
    params: Mapping[str, bool | int | float | str] | None = None,
    net: str | None = None,
    preprocess: bool = True,
    threads: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> QuantizedModel:
    """Quantise a model after training (docs/quantize.md). The result has `save(path)`, a standard ONNX file, `graph`, which
    `graphc.compile` takes, and `report`, what each layer loses.

    source       as of `graphc.compile`
    data         samples to calibrate with: arrays by the names of inputs, an array for the only one, or several of these one after
                 the other. The first axis are samples. None for weights of 4 bits, which want none
    weights      'int8'; 'int4' and 'uint4': those of products of matrices, in blocks of `block`, and activations in float. nbits:
                 as MatMulNBits of com.microsoft, not in standard operators
    per_channel  a scale for each output channel of int8 weights, else one for a tensor. reduce_range: they lie between -64 and 64,
                 which is faster without AVX-512 VNNI, and exact in any runtime
    activations  'uint8' or 'int8'; symmetric: with the zero point 0 (of uint8: 128)
    method       of ranges: 'minmax', 'percentile' (`percentile` % of all values lie within) or 'entropy'
    keep         layers to keep in float: names, patterns of names, or operators
    max_error    keep the most sensitive layers in float until the results' relative error is at most this
    sensitivity  also quantise each layer alone, to rank them
    batch        samples of a run, where the model leaves its first dims open; samples: how many to take, all where it is None
    params, net, preprocess, threads, progress  as of `graphc.compile`

    Raises InputError for data that does not fit and for options that make no sense, UnsupportedError for a model without anything to
    quantise, and what `graphc.compile` raises.
    """
    from graphc.compiler import load
    from graphc.quantizer import Scheme
    from graphc.quantizer import quantize as run

    return run(
        load(source, params=params, net=net, preprocess=preprocess),
        data,
        scheme=Scheme(weights, per_channel, reduce_range, activations, symmetric, method, percentile, block, nbits),
        keep=keep,
        max_error=max_error,
        sensitivity=sensitivity,
        batch=batch,
        samples=samples,
        options={"threads": threads},
        progress=progress,
    )


def shrink(
    source: ModelSource,
    data: Any = None,
    *,
    channels: float | None = None,
    low_rank: float | None = None,
    sparse: float | None = None,
    block: tuple[int, int] | str | None = None,
    codebook: int | None = None,
    signs: str | None = None,
    keep: Sequence[str] = (),
    batch: int = 32,
    samples: int | None = None,
    params: Mapping[str, bool | int | float | str] | None = None,
    net: str | None = None,
    preprocess: bool = True,
    threads: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> ShrunkModel:
    """Make a model smaller without training (docs/shrink.md). The result has `save(path)`, a standard ONNX file, `graph`, which
    `graphc.compile` takes, and `report`, what each layer loses. Methods follow each other in this order:

    channels  remove this part of every layer's output channels
    low_rank  factor layers, with this relative error of their weights at most
    sparse    set this part of the weights to zero, in blocks of `block` rows and columns: by default (16, 1), which kernels of
              products leave out, and of convolutions (1, 16)
    codebook  store weights as indices of 1 to 8 bits into numbers that a layer's weights share
    signs     or as 'binary' or 'ternary' codes, with a scale for each output channel

    source    as of `graphc.compile`
    data      samples to measure the error of results over, as of `graphc.quantize`; batch, samples: as there
    keep      layers to keep as they are: names, patterns of names, or operators
    params, net, preprocess, threads, progress  as of `graphc.compile`

    Raises InputError for data that does not fit and for options that make no sense, UnsupportedError for a model without anything to
    make smaller, and what `graphc.compile` raises.
    """
    from graphc.compiler import load
    from graphc.shrinker import methods_of
    from graphc.shrinker import shrink as run

    methods = methods_of(
        channels=channels, low_rank=low_rank, sparse=sparse, block=block, codebook=codebook, signs=signs
    )
    return run(
        load(source, params=params, net=net, preprocess=preprocess),
        methods,
        data,
        keep=keep,
        batch=batch,
        samples=samples,
        options={"threads": threads},
        progress=progress,
    )


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:  # the rest is loaded when first used, so that `import graphc` stays light
    if name == "Model":
        from graphc.model import Model

        return Model
    if name == "Graph":
        from graphc.graph import Graph

        return Graph
    if name in ("GraphcError", "CheckError", "InputError"):
        from graphc import errors

        return getattr(errors, name)
    raise AttributeError(f"module 'graphc' has no attribute '{name}'")
