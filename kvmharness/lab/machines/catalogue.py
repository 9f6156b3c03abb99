"""An emulated host by its short names: the one call that most callers need."""

from kvmharness.errors import UsageError
from kvmharness.lab.image.initramfs import ImageParts
from kvmharness.lab.job import Machine
from kvmharness.lab.kernels import build
from kvmharness.lab.machines.bochs import CPUS as VMX_CPUS
from kvmharness.lab.machines.bochs import DEFAULT_CPU, Bochs
from kvmharness.lab.machines.qemu import CPUS as SVM_CPUS
from kvmharness.lab.machines.qemu import Qemu
from kvmharness.system.programs import Progress, silent

CPUS = (*VMX_CPUS, *SVM_CPUS)


def emulated_host(
    cpu: str = DEFAULT_CPU,
    kernel: build.Kernel | None = None,
    *,
    parts: ImageParts | None = None,
    progress: Progress = silent,
) -> Machine:
    """A machine to run jobs on.

    Args:
        cpu: a CPU model's short name; it also chooses the emulator: Bochs for VMX, QEMU for SVM.
        kernel: what it boots; the default kernel, built if need be, when None.
        parts: what its image holds besides a job.
        progress: takes a line about once a second while a kernel is built.

    Raises:
        UsageError: no such CPU model.
        MissingToolError, KernelBuildError, OptionLostError, DiskFullError: as
            :func:`kvmharness.lab.kernels.build.kernel`.
    """
    if cpu not in CPUS:
        raise UsageError(f"no emulated host has a CPU model {cpu!r}", f"choose one of: {', '.join(CPUS)}")
    image = (kernel or build.kernel(progress=progress)).image
    parts = parts or ImageParts()
    if cpu in SVM_CPUS:
        return Qemu(image, cpu, parts)
    return Bochs(image, cpu, parts)
