"""This machine's own KVM modules: which are loaded and how, other ones in their place, and all back as it was."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIG_BLOCK, SIG_SETMASK, SIGHUP, SIGINT, SIGTERM, pthread_sigmask

from kvmharness.errors import HostRequirementError
from kvmharness.lab.inside.execute import execute
from kvmharness.lab.inside.modules import ModuleError, insertions
from kvmharness.lab.steps import Exec
from kvmharness.system.programs import find
from kvmharness.vendors.names import NAMES

Saved = dict[str, dict[str, str]]
"""Module -> its parameters, as they were; dependencies first."""

_VENDORS = tuple(vendor.module for vendor in NAMES)
_KVM = ("kvm", *_VENDORS)
# What KVM's modules depend on: other drivers use these too, so they stay, unless it was a variant that brought them.
_BELOW = ("irqbypass", "ccp")
_TOOLS = ("insmod", "modprobe", "rmmod")


def tool(*command: str) -> None:
    """Runs one of the programs that load and unload modules.

    Raises:
        ModuleError: it failed; with what it said.
        MissingToolError: it is not installed.
    """
    printed: list[str] = []
    if execute(Exec((find(command[0]), *command[1:])), printed.append).status != 0:
        raise ModuleError(f"{' '.join(command)}: {''.join(printed).strip() or 'failed'}")


class OwnModules:
    """KVM's modules of the running kernel.

    Args:
        sys: where the kernel shows its modules.
        run: runs insmod, rmmod and modprobe, as :func:`tool` does.
    """

    def __init__(self, sys: Path = Path("/sys/module"), run: Callable[..., None] = tool) -> None:
        self._sys = sys
        self._run = run

    def check_idle(self) -> None:
        """Makes sure that the modules can be taken out and put back, before one is touched.

        Raises:
            HostRequirementError: a VM is running, something else uses a module, or KVM is not made of modules.
            MissingToolError: a program for modules is not installed.
        """
        for name in _TOOLS:
            find(name)
        for name in _KVM:
            if (self._sys / name).exists() and not self._loaded(name):
                raise HostRequirementError(
                    f"{name} is built into this kernel, or it cannot unload modules",
                    "Boot each kernel by itself, `kvmharness run --json` under it, then `kvmharness compare`.",
                )
            self._check_users(name)

    def _check_users(self, name: str) -> None:
        users, others = 0, ""
        with suppress(OSError):
            users = int((self._sys / name / "refcnt").read_text())
            holders = sorted(path.name for path in (self._sys / name / "holders").iterdir())
            users -= sum(holder in _KVM for holder in holders)
            others = ", ".join(holder for holder in holders if holder not in _KVM)
        if users > 0:
            raise HostRequirementError(
                f"{name} is in use ({users} users): {others or 'a VM is running'}",
                f"Take out {others} first." if others else "Stop all VMs on this machine first.",
            )

    def loaded(self) -> Saved:
        """Those that are loaded, with their parameters."""
        return {name: self._parameters(name) for name in (*_BELOW, *_KVM) if self._loaded(name)}

    def _loaded(self, name: str) -> bool:
        return (self._sys / name / "refcnt").exists()  # what is built in has a folder, and no users

    def _parameters(self, name: str) -> dict[str, str]:
        found: dict[str, str] = {}
        if name in _BELOW:
            return found
        for path in sorted((self._sys / name / "parameters").glob("*")):
            with suppress(OSError):  # some can only be written
                found[path.name] = path.read_text().strip()
        return found

    def insert(self, order: Sequence[Path], params: Mapping[str, str]) -> list[str]:
        """Inserts module files, with nested=1 for the vendor's; returns the names of those that were not there.

        Args:
            order: see :func:`kvmharness.lab.kernels.modulefiles.load_order`.
            params: ``{"kvm.tdp_mmu": "N"}``; those of the other vendor's module are left out.

        Raises:
            ModuleError: the kernel refuses one.
        """
        inserted = []
        for name, path, options in insertions([str(path) for path in order], params):
            if name not in _KVM and (self._sys / name).exists():
                continue
            self._run("insmod", path, *options)
            inserted.append(name)
        return inserted

    def unload_all(self) -> list[str]:
        """Takes KVM's modules out, users first; returns their names.

        Raises:
            ModuleError: one is in use.
        """
        gone = [name for name in reversed(_KVM) if self._loaded(name)]
        for name in gone:
            self._run("rmmod", name)
        return gone

    def restore(self, saved: Saved) -> None:
        """Loads the host's own modules again, with the parameters that they had.

        Parameters are given only where the host's own configuration leads to other ones: not everything that the
        kernel shows as a parameter's value does it also take.

        Raises:
            ModuleError: one could not be taken out or loaded, or has another parameter than before.
        """
        try:
            self._reload(saved, {})
            if wrong := self._differences(saved):
                self._reload(saved, wrong)
        except OSError as e:
            raise ModuleError(str(e)) from e
        if wrong := self._differences(saved):
            shown = " ".join(f"{name}.{key}={value}" for name, keys in wrong.items() for key, value in keys.items())
            raise ModuleError(f"they are loaded, but not with {shown}")

    def _reload(self, saved: Saved, params: Saved) -> None:
        self.unload_all()
        for name in reversed(_BELOW):
            if self._loaded(name) and name not in saved:
                self._run("rmmod", name)
        for name in saved:
            self._run("modprobe", name, *(f"{key}={value}" for key, value in params.get(name, {}).items()))

    def _differences(self, saved: Saved) -> Saved:
        """The parameters that are not as they were."""
        now = self.loaded()
        different = {
            name: {key: value for key, value in keys.items() if now.get(name, {}).get(key) != value}
            for name, keys in saved.items()
        }
        return {name: keys for name, keys in different.items() if keys}


def by_hand(saved: Saved) -> str:
    """The commands that do what :meth:`OwnModules.restore` does, but for the parameters."""
    unload = f"modprobe -r {' '.join(_VENDORS)} kvm"
    return " && ".join([unload, *(f"modprobe {name}" for name in saved if name in _KVM)])


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Signals that end a program wait until the block is done: what it does must not be done by half."""
    before = pthread_sigmask(SIG_BLOCK, {SIGINT, SIGTERM, SIGHUP})
    try:
        yield
    finally:
        pthread_sigmask(SIG_SETMASK, before)
