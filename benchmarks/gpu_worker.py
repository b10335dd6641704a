"""One process on the GPU: gpu_worker.py TARGET FOLDER [--tiny]. Reads tasks as lines of JSON, answers each with one.

A kernel that fails takes the process's use of the GPU with it, one that hangs the process: gpu.py then starts another.
"""

from __future__ import annotations

import gc
import json
import sys
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

MARK = "answer "  # before each: libraries print things of their own
ROUNDS = 7


class Worker:
    def __init__(self, target: str, folder: Path, tiny: bool) -> None:
        from gpu_cases import cases
        from gpu_engines import Place

        self.target, self.folder = target, folder
        self.place = Place(target)
        self.cases = {c.key: c for c in cases(tiny)}
        self.small = tiny

    def answer(self, task: Mapping[str, Any]) -> dict[str, Any]:
        return getattr(self, f"_{task['kind']}")(task)

    def _device(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """What it is, and the pace of a copy."""
        from gpu_engines import installed_torch

        torch = installed_torch()
        found: dict[str, Any] = {
            "device": self.place.name,
            "copy": self.place.copy_rate(1 << (16 if self.small else 30)),
        }
        if torch is not None:
            found |= {"torch": torch.__version__, "cudnn": torch.backends.cudnn.version()}
        if not self.place.emulated:
            from graphc.backends.cuda.options import capability
            from graphc.backends.cuda.runtime.driver import call

            wanted = capability(task["arch"])
            if self.place.gpu.arch != wanted:
                return found | {
                    "failed": f"kernels are for {wanted}, {self.place.name} runs those for {self.place.gpu.arch}"
                }
            found |= {"driver": call("cuDriverGetVersion"), "multiprocessors": self.place.gpu.multiprocessors}
        return found

    def _operator(self, task: Mapping[str, Any]) -> dict[str, Any]:
        from gpu_checks import check_operator

        return check_operator(task["name"], self.target)

    def _example(self, task: Mapping[str, Any]) -> dict[str, Any]:
        from gpu_checks import check_example

        return check_example(task["name"], self.target, self.folder / "expected.npz")

    def _time(self, task: Mapping[str, Any]) -> dict[str, Any]:
        return self._timed(task, compiled=False)

    def _compiled(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """Beside torch.compile."""
        return self._timed(task, compiled=True)

    def _tuned(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """graphc alone, with tiles that are measured now; how long that took, and how many steps it changed."""
        from gpu_engines import Ours, difference, interleaved

        case = self.cases[task["name"]]
        feeds, start = case.feeds(), time.perf_counter()
        tuned = Ours(case, self.target, feeds, self.place.stream, tune=True)
        tuning = time.perf_counter() - start
        engines = {"tuned": tuned, "graphc": Ours(case, self.target, feeds, self.place.stream)}
        for engine in engines.values():
            engine.run()
        self.place.wait()
        results = [engine.results() for engine in engines.values()]
        times = interleaved(self.place, engines, task["seconds"], 1 if self.small else ROUNDS)
        found = {name: {"seconds": t.seconds, "host": t.host, "spread": t.spread} for name, t in times.items()}
        steps = [[s.algorithm for s in e.model.plan(case.shapes).steps if s.algorithm] for e in engines.values()]
        changed = sum((Counter(steps[0]) - Counter(steps[1])).values())
        return {**found, "tuning": tuning, "changed": changed, "difference": difference(*results)}

    def _timed(self, task: Mapping[str, Any], compiled: bool) -> dict[str, Any]:
        """Results compared, then both in turn. Without PyTorch graphc alone."""
        from gpu_cases import TOLERANCE
        from gpu_engines import Ours, Torch, difference, installed_torch, interleaved

        case = self.cases[task["name"]]
        if case.lacks:
            return {"note": case.lacks}
        feeds = case.feeds()
        engines: dict[str, Any] = {"graphc": Ours(case, self.target, feeds, self.place.stream)}
        found: dict[str, Any] = {"wrong": []}
        if installed_torch() is not None:
            try:
                engines["torch.compile" if compiled else "torch"] = Torch(case, feeds, self.place.torch, compiled)
            except Exception as error:  # noqa: BLE001  (graphc is timed without it)
                traceback.print_exc()
                found["note"] = f"PyTorch: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        del feeds
        for engine in engines.values():
            engine.run()
        self.place.wait()
        if len(engines) > 1:
            ours, theirs = (engine.results() for engine in engines.values())
            found["difference"] = difference(ours, theirs)
            if not found["difference"] < TOLERANCE[case.precision]:
                found["wrong"] = [f"differs from PyTorch by {found['difference']:.1e}"]
            del ours, theirs
        times = interleaved(self.place, engines, task["seconds"], 1 if self.small else ROUNDS)
        for name, t in times.items():
            found[name] = {"seconds": t.seconds, "host": t.host, "spread": t.spread}
        plan = engines["graphc"].model.plan(case.shapes)
        return found | {"steps": len(plan.steps)}

    def tidy(self) -> None:
        """Memory of one task is not there in the next."""
        gc.collect()
        if self.place.torch is not None:
            from gpu_engines import installed_torch

            installed_torch().cuda.empty_cache()


def main() -> None:
    target, folder, *flags = sys.argv[1:]
    worker: Worker | None = None
    for line in sys.stdin:
        fatal = False
        try:
            worker = worker or Worker(target, Path(folder), "--tiny" in flags)
            found = worker.answer(json.loads(line))
            worker.tidy()
        except Exception as error:  # noqa: BLE001  (any is the result of this task)
            traceback.print_exc()
            found = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"}
            fatal = worker is None or type(error).__name__ in ("DeviceError", "AcceleratorError", "RuntimeError")
        print(f"{MARK}{json.dumps(found | {'fatal': fatal})}", flush=True)
        if fatal:
            return


if __name__ == "__main__":
    main()
