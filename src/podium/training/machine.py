"""What the machine can do: device, threads, precision. Recorded with every result, never part of its identity."""

from __future__ import annotations

import platform
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch

from podium.cores import cores, cpu_field, processor
from podium.errors import UserError

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Machine:
    """Where a job runs. precision: ``fp32``, ``bf16``, or ``fp16`` with a gradient scaler. source: where training images
    are kept, ``resident`` on the device or ``streamed``; ``auto`` keeps what has room. compile: ``on`` or ``off``.
    micro_batch: most images that may go through a net in training at once, None where memory has room for all."""

    device: str
    name: str
    threads: int
    precision: str
    source: str = "auto"
    compile: str = "off"
    micro_batch: int | None = None

    @property
    def torch_device(self) -> torch.device:
        """The device to put tensors on."""
        return torch.device(self.device)

    def autocast(self) -> Any:
        """A context in which matrix products and convolutions run in the reduced precision, if any."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.torch_device.type, _DTYPES[self.precision])

    def describe(self) -> dict[str, Any]:
        """For the records: the fields and the versions."""
        return asdict(self) | {"torch": torch.__version__, "python": platform.python_version()}


def detect(
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    source: str = "auto",
    compile: str = "off",
    micro_batch: int | None = None,
) -> Machine:
    """Choose the device and precision that this machine really has.

    bf16 only where the hardware computes in it: GPUs from compute capability 8 (torch counts the emulation of older ones
    as support), CPUs with avx512_bf16 or amx_bf16. Older GPUs with tensor cores (capability 7) get fp16.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            f"--device {device}: torch {torch.__version__} sees no CUDA GPU here; use --device cpu or repair the driver"
        )
    threads = threads or cores()
    if device.startswith("cuda"):
        index = device.partition(":")[2] or "0"
        if device not in ("cuda", f"cuda:{index}") or not index.isdecimal() or int(index) >= torch.cuda.device_count():
            there = ", ".join(f"cuda:{i}" for i in range(torch.cuda.device_count()))
            raise UserError(f"--device {device}: there is no such GPU; allowed: auto, cpu, cuda, {there}")
        name = torch.cuda.get_device_name(device)
        major = torch.cuda.get_device_capability(device)[0]
        best = "bf16" if major >= 8 else "fp16" if major == 7 else "fp32"
    elif device == "cpu":
        name = _cpu_name()
        best = "bf16" if _cpu_flags() & {"avx512_bf16", "amx_bf16"} else "fp32"
    else:
        raise UserError(f"--device {device}: not a device; allowed: auto, cpu, cuda, cuda:0, ...")
    return Machine(device, name, threads, best if precision == "auto" else precision, source, compile, micro_batch)


def _cpu_name() -> str:
    return processor() or platform.processor() or platform.machine()


def _cpu_flags() -> set[str]:
    return set(cpu_field("flags").split())
