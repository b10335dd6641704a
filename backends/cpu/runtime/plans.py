"""Plans on disk with their machine code: one shared object, or several, per model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from graphc.backends.cpu.runtime.entry import address_of
from graphc.backends.cpu.runtime.process import CpuRuntime, runtime_of
from graphc.backends.cpu.runtime.threads import Executor, runtime_kernels
from graphc.lower.plans import CompiledPlan, KernelName, PlanFolder

if TYPE_CHECKING:
    from graphc.backends.cpu.codegen.toolchain import Toolchain


class CpuPlanFolder(PlanFolder):
    """The kept plans of one model, and the shared objects of their kernels.

    threads: that run a plan at most; as many as it was made for where it is None
    """

    threads: int | None = None

    def load(self, key: str) -> tuple[CompiledPlan, list[int], Executor] | None:
        """A plan, the addresses of its program's kernels, and what runs it; None where it is not there, whole."""
        found = self.read(key)
        return None if found is None else self._loaded(*found)

    def load_many(self, prefix: str, arrays: Sequence[np.ndarray]) -> tuple[CompiledPlan, list[int], Executor] | None:
        """The same, of a plan for many sizes: the first of those under the prefix that is for inputs of these shapes."""
        for key in self.entry.plans(prefix):
            found = self.read(key)
            if found is not None and found[0].holds(arrays):
                return self._loaded(*found)
        return None

    def _loaded(self, plan: CompiledPlan, code: Sequence[str]) -> tuple[CompiledPlan, list[int], Executor] | None:
        runtime = runtime_of(plan.target)
        try:
            addresses = self._addresses(code, plan.kernels, runtime)
        except OSError:
            return None
        if addresses is None:
            return None
        made = runtime_kernels(plan.threads)
        count = len(plan.kernels) - len(made)
        at = {type(k): address for k, address in zip(made, addresses[count:])}
        threads = min(plan.threads, self.threads or plan.threads)
        executor = runtime.executor_at(threads, [at[type(k)] for k in runtime_kernels(threads)])
        return replace(plan, threads=threads), addresses[:count], executor

    def _addresses(self, code: Sequence[str], kernels: Sequence[KernelName], runtime: CpuRuntime) -> list[int] | None:
        """From the plan's shared objects, or else one by one from the kernel cache. Raises OSError."""
        if not code:
            return runtime.toolchain().kept(kernels)
        found: dict[str, int] = {}
        for name in code:
            facts = self.document["code"].get(name)
            fd = None if facts is None else self.entry.open_intact(name, facts)
            if fd is None:
                return None
            try:
                library = runtime.library(fd, facts["digest"])
            finally:
                os.close(fd)
            found.update((s, address_of(getattr(library, s))) for s in facts["symbols"])
        return [found[k.symbol] for k in kernels]

    def save(self, key: str, plan: CompiledPlan, tools: Toolchain) -> None:
        """Raises OSError."""
        self.write(key, plan, self._bundle(plan.kernels, tools))

    def _bundle(self, kernels: Sequence[KernelName], tools: Toolchain) -> list[str]:
        """Names of the shared objects that hold the kernels; what is in none yet makes a new one. [] where this machine's
        object files can't be linked."""
        from graphc.backends.cpu.runtime.object_file import CantLink
        from graphc.backends.cpu.runtime.shared_object import link

        missing = {k.symbol: k for k in kernels}
        names = []
        for name, facts in list(self.document["code"].items()):
            if not self.entry.intact(name, facts):
                del self.document["code"][name]
            elif not missing.keys().isdisjoint(facts["symbols"]):
                names.append(name)
                missing = {s: k for s, k in missing.items() if s not in facts["symbols"]}
        if missing:
            codes = {s: tools.cache.get(k.name, k.spec) for s, k in missing.items()}
            objects = {s: code for s, code in codes.items() if code is not None}
            if len(objects) < len(codes):
                return []
            try:
                image = link(objects)
            except CantLink:
                return []
            fd, path = self.entry.temporary()
            with os.fdopen(fd, "wb") as f:
                f.write(image)
            name, facts = self.entry.adopt(path, "code", ".so", hashlib.sha256(image).hexdigest())
            self.document["code"][name] = facts | {"symbols": list(objects)}
            names.append(name)
        return names
