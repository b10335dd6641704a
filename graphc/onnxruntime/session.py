"""InferenceSession: a compiled model behind the methods of ONNX Runtime's."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import graphc
from graphc.errors import GraphcError, Location
from graphc.onnxruntime import failures
from graphc.onnxruntime.binding import IOBinding, shared
from graphc.onnxruntime.failures import failure, of_loading, of_running
from graphc.onnxruntime.nodes import ModelMetadata, NodeArg, metadata, node_arg, tensor_text
from graphc.onnxruntime.options import CPU, RunOptions, SessionOptions, check_providers
from graphc.onnxruntime.values import OrtValue

SUFFIXES = (".onnx", ".pb", ".yaml", ".yml")  # that graphc reads; ONNX Runtime reads files of any name


class InferenceSession:
    """Results are those of `graphc.compile(path_or_bytes).run(feed)`. Safe to call from several threads.

    Raises ONNX Runtime's exceptions: NoSuchFile, InvalidProtobuf, InvalidGraph, NotImplemented for what graphc can't do, each
    with graphc's own error as its cause.
    """

    def __init__(
        self,
        path_or_bytes: str | bytes | os.PathLike[str],
        sess_options: SessionOptions | None = None,
        providers: Sequence[Any] | None = None,
        provider_options: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """providers: graphc has 'CPUExecutionProvider'; others are warned of. Further arguments change nothing, as in ONNX Runtime."""
        self._options = sess_options or SessionOptions()
        source = _source(path_or_bytes)
        check_providers(providers, provider_options)
        options = self._options.compile_options()
        try:
            self._model = graphc.compile(source, **options)
        except GraphcError as error:
            if source is not path_or_bytes and isinstance(source, bytes):  # of a file of any name
                error.located(source=Location(os.fspath(path_or_bytes)))  # type: ignore[arg-type]
            raise of_loading(error) from error
        self._describe()
        self._run = self._run_fixed if self._options.sizes else self._model.run

    def _describe(self) -> None:
        model, sizes = self._model, self._options.sizes
        described = model.described
        dims = described.get("dims", {})
        specs = [s for s in model.inputs if not s.optional]
        names = frozenset(
            d for s in model.inputs for d in dims.get(s.name, () if dims else s.shape or ()) if isinstance(d, str)
        )
        self._inputs = [node_arg(s, dims, names, sizes) for s in specs]
        self._initializers = [node_arg(s, dims, names, sizes) for s in model.inputs if s.optional]
        self._outputs = [node_arg(s, dims, names, sizes) for s in model.outputs]
        self._dtypes = {s.name: s.dtype for s in model.inputs if s.content is None}
        self._meta = metadata(described, model.name)

    # --- what it is --------------------------------------------------------------------------------------------------
    def get_inputs(self) -> list[NodeArg]:
        """Without those that have a default."""
        return [*self._inputs]

    def get_outputs(self) -> list[NodeArg]:
        return [*self._outputs]

    def get_overridable_initializers(self) -> list[NodeArg]:
        """The inputs that have a default."""
        return [*self._initializers]

    def get_modelmeta(self) -> ModelMetadata:
        return self._meta

    def get_session_options(self) -> SessionOptions:
        return self._options

    def get_providers(self) -> list[str]:
        return [CPU]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return {CPU: {}}

    def set_providers(self, providers: Any = None, provider_options: Any = None) -> None:
        check_providers(providers, provider_options)

    def enable_fallback(self) -> None:
        """There is one provider."""

    disable_fallback = enable_fallback

    def end_profiling(self) -> str:
        """The name of the profile's file, '' since there is none."""
        return ""

    # --- running -----------------------------------------------------------------------------------------------------
    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: RunOptions | None = None,
    ) -> list[Any]:
        """Results in the order of `output_names`, all where these are None or none.

        Raises ValueError for inputs that are missing, InvalidArgument for wrong names, types and shapes, Fail for what goes
        wrong on the way.
        """
        if run_options is not None:
            run_options.check()
        try:
            found = self._run(input_feed)
        except Exception as error:
            found = self._again(output_names, input_feed, error)
        if not output_names:
            return [*found.values()]
        try:
            return [found[name] for name in output_names] if type(output_names) is not str else _no_list(output_names)
        except KeyError as error:
            raise failure(failures.InvalidArgument, f"Invalid output name:{error.args[0]}") from None

    def _run_fixed(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """With dims whose sizes the options fix."""
        self._check(feeds)
        return self._model.run(feeds)

    def _again(self, output_names: Sequence[str] | None, feeds: Mapping[str, Any], error: Exception) -> dict[str, Any]:
        """Results of inputs that are given in ways that graphc does not take, else the error as ONNX Runtime has it."""
        if isinstance(output_names, str):
            _no_list(output_names)
        given = [*feeds.keys()]
        missing = [a.name for a in self._inputs if a.name not in feeds and not a.type.startswith("optional")]
        if missing:
            raise ValueError(f"Required inputs ({missing}) are missing from input feed ({given}).")
        self._check_names(output_names or (), given)
        if not isinstance(error, GraphcError):
            raise error
        arrays = {name: self._array(name, value) for name, value in feeds.items()}
        self._check(arrays)
        if all(arrays[name] is feeds[name] for name in arrays):
            raise of_running(error) from error
        try:
            return self._model.run(arrays)
        except GraphcError as found:
            raise of_running(found) from found

    def _check_names(self, output_names: Sequence[str], given: Sequence[str]) -> None:
        outputs = {a.name for a in self._outputs}
        inputs = {a.name for a in (*self._inputs, *self._initializers)}
        for kind, names, known in (("input name: ", given, inputs), ("output name:", output_names, outputs)):
            for name in names:
                if name not in known:
                    raise failure(failures.InvalidArgument, f"Invalid {kind}{name}")

    def _array(self, name: str, value: Any) -> Any:
        """Of an OrtValue what it holds, of a list the array, where its numbers are exact in the input's type."""
        if isinstance(value, OrtValue):
            return value.value
        want = self._dtypes.get(name)
        if want is None or not isinstance(value, (list, tuple)):
            return value
        try:
            exact = np.asarray(value)
            array = exact.astype(want)
            return (
                array if want.kind == "O" or np.array_equal(array, exact, equal_nan=exact.dtype.kind == "f") else value
            )
        except (ValueError, TypeError):
            raise RuntimeError("Could not create tensor from given input list") from None

    def _check(self, feeds: Mapping[str, Any]) -> None:
        """Raises InvalidArgument for arrays of other types or shapes than inputs have."""
        for arg in (*self._inputs, *self._initializers):
            a, want = feeds.get(arg.name), self._dtypes.get(arg.name)
            if not isinstance(a, np.ndarray) or want is None:
                continue
            if tensor_text(a.dtype) != tensor_text(want):
                text = f"Unexpected input data type. Actual: ({tensor_text(a.dtype)}) , expected: ({tensor_text(want)})"
                raise failure(failures.InvalidArgument, text)
            end = "Please fix either the inputs/outputs or the model."
            spec = next(s for s in self._model.inputs if s.name == arg.name)
            if spec.shape is None:
                continue
            if a.ndim != len(arg.shape):
                text = f"Invalid rank for input: {arg.name} Got: {a.ndim} Expected: {len(arg.shape)} {end}"
                raise failure(failures.InvalidArgument, text)
            wrong = [(k, n, d) for k, (n, d) in enumerate(zip(a.shape, arg.shape)) if isinstance(d, int) and d != n]
            if wrong:
                lines = "".join(f"\n index: {k} Got: {n} Expected: {d}" for k, n, d in wrong)
                text = f"Got invalid dimensions for input: {arg.name} for the following indices{lines}\n {end}"
                raise failure(failures.InvalidArgument, text)

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callable[[list[Any], Any, str], None],
        user_data: Any,
        run_options: RunOptions | None = None,
    ) -> None:
        """`run` in a thread of its own, which calls `callback(results, user_data, error)`: a text, '' where all went well."""

        def work() -> None:
            try:
                results, text = self.run(output_names, input_feed, run_options), ""
            except Exception as error:
                results, text = [], str(error)
            callback(results, user_data, text)

        threading.Thread(target=work, name="graphc.onnxruntime.run_async").start()

    def run_with_ort_values(
        self,
        output_names: Sequence[str] | None,
        input_dict_ort_values: Mapping[str, OrtValue],
        run_options: RunOptions | None = None,
    ) -> list[OrtValue]:
        """`run` with values in the place of arrays."""
        feeds = {name: v.value for name, v in input_dict_ort_values.items()}
        return [OrtValue(r) for r in self.run(output_names, feeds, run_options)]

    def io_binding(self) -> IOBinding:
        return IOBinding(self)

    def run_with_iobinding(self, iobinding: IOBinding, run_options: RunOptions | None = None) -> None:
        """Raises RuntimeError for what is not bound and what does not fit."""
        if run_options is not None:
            run_options.check()
        names = [*iobinding.buffers]
        if not names:
            raise RuntimeError("Error in execution: At least one output should be requested.")
        try:
            iobinding.results = self._run_into(names, iobinding.feeds, iobinding.buffers)
        except (*failures.ALL, GraphcError, ValueError) as error:
            raise RuntimeError(f"Error in execution: {error}") from error

    def _run_into(self, names: list[str], feeds: dict[str, Any], wanted: Mapping[str, np.ndarray | None]) -> list[Any]:
        buffers = {name: b for name, b in wanted.items() if b is not None}
        outputs = {a.name for a in self._outputs}
        if buffers and outputs.issuperset(names) and not shared(feeds, buffers):
            try:
                return [self._model.run(feeds, out=buffers)[name] for name in names]
            except GraphcError:
                pass  # said below as ONNX Runtime says it, where it is the inputs' fault
        results = self.run(names, feeds)
        for i, name in enumerate(names):
            if name not in buffers:
                continue
            buffer, made = buffers[name], results[i]
            if buffer.shape != made.shape or buffer.dtype != made.dtype:
                what = f"{tensor_text(buffer.dtype)} of shape {buffer.shape}"
                raise ValueError(
                    f"the memory bound for output '{name}' is for {what}, the result is {tensor_text(made.dtype)} of shape {made.shape}"
                )
            buffer[...] = made
            results[i] = buffer
        return results


def _source(given: Any) -> str | bytes:
    """What `graphc.compile` takes. Raises TypeError, NoSuchFile, NotImplemented for files in ONNX Runtime's own format."""
    if isinstance(given, bytes):
        if not given:
            raise failure(failures.InvalidArgument, "No graph was found in the protobuf.")
        return given
    if not isinstance(given, (str, os.PathLike)):
        raise TypeError(f"Unable to load from type '{type(given)}'")
    path = os.fspath(given)
    if path.startswith("zoo:"):
        return path
    if not os.path.exists(path):
        text = f"Load model from {path} failed:Load model {path} failed. File doesn't exist"
        raise failure(failures.NoSuchFile, text)
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".ort":
        raise failure(
            failures.NotImplemented, f"{path} is in ONNX Runtime's own format\n  give the ONNX file that it was made of"
        )
    if suffix in SUFFIXES or os.path.isdir(path):
        return path
    with open(path, "rb") as f:
        return f.read()


def _no_list(name: str) -> list[Any]:
    raise TypeError(f"run(): output_names is a list of names, not the text '{name}': run(['{name}'], …)")
