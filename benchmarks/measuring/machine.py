"""The machine: what it is, what a process took of it."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def facts(device: str = "cpu") -> dict[str, Any]:
    """Describe the machine and the versions."""
    found: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "processor": _processor(),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16_matrix_units": "amx_bf16" in _flags(),
    }
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        found["gpu"] = properties.name
        found["gpu_memory_gb"] = round(properties.total_memory / 1e9, 1)
    return found


def _processor() -> str:
    lines = [line for line in _cpuinfo() if line.startswith("model name")]
    return lines[0].partition(":")[2].strip() if lines else platform.processor()


def _flags() -> set[str]:
    lines = [line for line in _cpuinfo() if line.startswith("flags")]
    return set(lines[0].split()) if lines else set()


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def peak_memory() -> int:
    """Peak resident bytes of this process.

    ``ru_maxrss`` of a child also counts what its parent held when it was started, so Linux's own
    high-water mark is used where there is one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def traffic() -> dict[str, int]:
    """Bytes that this process has asked files for and given to files; Linux only."""
    path = Path("/proc/self/io")
    if not path.exists():
        return {}
    pairs = (line.split(":") for line in path.read_text().splitlines())
    counts = {key: int(value) for key, value in pairs}
    return {"read": counts["rchar"], "written": counts["wchar"]}


def forget_peak() -> None:
    """Give freed memory back and let the peak begin anew from what is in use; Linux only."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        ctypes.CDLL(None).malloc_trim(0)
        clear.write_text("5")


class Watch:
    """Seconds (wall and processor), traffic and peak memory of a ``with`` block."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.result: dict[str, Any] = {}

    def __enter__(self) -> Watch:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            self._events[0].record()
        forget_peak()
        self._memory, self._traffic = peak_memory(), traffic()
        self._wall, self._processor = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.startswith("cuda"):
            self._events[1].record()
            torch.cuda.synchronize()
            self.result["gpu_seconds"] = round(
                self._events[0].elapsed_time(self._events[1]) / 1e3, 3
            )
            self.result["gpu_peak_bytes"] = torch.cuda.max_memory_allocated()
        self.result["seconds"] = round(time.perf_counter() - self._wall, 3)
        self.result["processor_seconds"] = round(time.process_time() - self._processor, 3)
        self.result["peak_bytes"] = peak_memory()
        self.result["peak_bytes_before"] = self._memory
        self.result["io"] = {key: value - self._traffic[key] for key, value in traffic().items()}


def matrix_peak(device: str, dtype: torch.dtype, side: int) -> float:
    """FLOP per second of a large matrix product, the best of several."""
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return max(2 * side**3 / seconds(lambda: a @ b, device) for _ in range(5))


def seconds(call: Callable[[], object], device: str) -> float:
    """Wall seconds of one call, device work included."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start
