"""Which kernel an emulated host boots, as the user chose it."""

from dataclasses import dataclass
from pathlib import Path

from kvmharness.errors import UsageError
from kvmharness.lab.kernels import build, parameters, source
from kvmharness.lab.kernels.config import MINIMAL, Recipe
from kvmharness.system.programs import Progress, silent


@dataclass(frozen=True, slots=True)
class KernelChoice:
    """A kernel to build, or one that is there; Debian's when nothing is chosen.

    Attributes:
        source: builds this: a source tree or a tarball.
        kernel: boots this bzImage as it is, with *modules*.
        modules: folder of KVM's modules for *kernel*.

    Raises:
        UsageError: they contradict each other.
    """

    source: Path | None = None
    kernel: Path | None = None
    modules: Path | None = None

    def __post_init__(self) -> None:
        if (self.kernel is None) != (self.modules is None):
            raise UsageError("--kernel and --modules belong together", "Name both, or neither.")
        if self.kernel is not None and self.source is not None:
            raise UsageError("--kernel boots a kernel as it is, --source builds one", "Name one of them.")

    def check(self) -> None:
        """Refuses what is not there, or not what it has to be, before anything is done.

        Raises:
            UsageError: naming it.
        """
        if self.source is not None:
            source.at(self.source)
        if self.kernel is not None and self.modules is not None:
            build.given(self.kernel, self.modules)

    def parameters(self, progress: Progress = silent) -> frozenset[str]:
        """The parameters that its KVM modules have, found out without building it."""
        if self.kernel is not None and self.modules is not None:
            return parameters.of_modules(self.modules)
        return parameters.of_source(source.chosen(self.source), progress)

    def get(self, progress: Progress = silent, recipe: Recipe = MINIMAL) -> build.Kernel:
        """The kernel, built if it has to be.

        Args:
            progress: takes a line about once a second.
            recipe: how it is built, unless it is there as it is.

        Raises:
            UsageError: what is named is not there, or not what it has to be.
            MissingToolError, KernelBuildError, OptionLostError, DiskFullError: as
                :func:`kvmharness.lab.kernels.build.kernel`.
        """
        if self.kernel is not None and self.modules is not None:
            return build.given(self.kernel, self.modules)
        return build.kernel(source.chosen(self.source), recipe=recipe, progress=progress)
