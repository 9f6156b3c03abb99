"""The session's loop when tests run in emulated hosts: what runs here first, then one host after the other."""

from collections.abc import Iterable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from kvmharness.errors import KvmHarnessError, LostMachineError
from kvmharness.guest import shipped as programs
from kvmharness.hosts import catalogue
from kvmharness.lab.image.initramfs import ImageParts
from kvmharness.lab.job import Job
from kvmharness.lab.kernels import build
from kvmharness.lab.machines.own import OwnEmulator, chosen_emulator
from kvmharness.lab.steps import Call, Load, Step, Unload
from kvmharness.system.shown import shown
from kvmharness.testing.emulated.heartbeat import SILENCE_S
from kvmharness.testing.emulated.replay import Replay, Teller
from kvmharness.testing.emulated.suite import ROOT, Suite, suite
from kvmharness.testing.names import INI
from kvmharness.testing.needs import Params, Place
from kvmharness.validation.snapshots import emulated_host

VARIANT = "stock"
BOOT_S = 60.0
"""Wall seconds for a boot and the start of pytest, on a machine that is busy with other things too."""
_SLOWDOWN = 2.0  # wall seconds for one of the emulated host's, at most

# Options that are about the session outside, or that are given to the inside in another way.
_OWN_OPTIONS = """
    basetemp cacheclear cacheshow capture collectonly confcutdir continue_on_collection_errors deselect
    disable_plugin_autoload durations durations_min failedfirst file_or_dir help ignore ignore_glob importmode
    inifilename invert keepduplicates keyword last_failed_no_failures lf log_file markers markexpr maxfail newfirst
    noconftest override_ini pastebin plugins pyargs pythonwarnings rootdir show_fixtures_per_test showfixtures
    stepwise stepwise_reset stepwise_skip strict strict_config strict_markers trace traceconfig version xmlpath
    kvm_emulator kvm_host kvm_kernel kvm_modules kvm_no_snapshot kvm_timeout
"""
# Settings that are about finding tests, plugins and files outside.
_OWN_SETTINGS = """
    addopts cache_dir faulthandler_timeout kvm_files kvm_packages log_file markers minversion norecursedirs
    required_plugins strict strict_config strict_markers testpaths
"""


def run(session: pytest.Session, places: Mapping[pytest.Item, Place]) -> bool:
    """Runs all tests of the session.

    Raises:
        pytest.Session.Failed, pytest.Session.Interrupted: as pytest's own loop.
        pytest.UsageError: the emulated host cannot be had.
    """
    if session.testsfailed and not session.config.option.continue_on_collection_errors:
        raise session.Interrupted(f"{session.testsfailed} errors during collection")
    own = own_emulator(session.config, [place.host for place in places.values()])
    here = [item for item in session.items if not places.get(item, Place()).host]
    for item, following in zip_longest(here, here[1:]):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
    hosts: dict[str, dict[pytest.Item, Params]] = {}
    for item in session.items:
        if (place := places.get(item, Place())).host:
            hosts.setdefault(place.host, {})[item] = place.params
    for host, params in hosts.items():
        HostRun(session, host, params, own).run()
    return True


def own_emulator(config: pytest.Config, hosts: Iterable[str]) -> OwnEmulator | None:
    """The user's own emulator, None without one.

    Raises:
        pytest.UsageError: it is none, or cannot emulate one of the hosts.
    """
    named = map(catalogue.named, dict.fromkeys(filter(None, hosts)))
    try:
        return chosen_emulator(str(config.getoption("kvm_emulator")), named)
    except KvmHarnessError as error:
        raise pytest.UsageError(shown(f"{error} {error.hint}")) from error


class HostRun:
    """The tests of one emulated host: one boot, and another one after each crash.

    Args:
        session: of this side.
        host: the emulated host's name.
        params: the tests, with the module parameters that each wants.
        own: the user's own emulator.
        tell: is told what happens to each test.
    """

    def __init__(
        self,
        session: pytest.Session,
        host: str,
        params: Mapping[pytest.Item, Params],
        own: OwnEmulator | None,
        tell: Teller | None = None,
    ) -> None:
        self._tell = tell
        self._session, self._config, self._host, self._own = session, session.config, host, own
        self._params = params
        self._timeout_s = float(self._config.getoption("kvm_timeout"))

    def run(self) -> None:
        """Runs them.

        Raises:
            pytest.UsageError: the host cannot be had.
        """
        try:
            carried = suite(self._config, self._params)
            kernel = self._kernel()
            parts = ImageParts(carried.packages, imports=carried.imports)
            snapshot = not self._config.getoption("kvm_no_snapshot")
            own = self._own and self._own.for_host(catalogue.named(self._host))
            machine = emulated_host(self._host, kernel, parts=parts, say=self._say, snapshot=snapshot, own=own)
        except KvmHarnessError as error:
            raise pytest.UsageError(shown(f"{error} {error.hint}".strip())) from error
        left = [item for items in self._groups(self._params).values() for item in items]
        self._say(f"booting {self._host}")
        while left:
            replay = Replay(self._session, left, self._host, self._tell)
            try:
                machine.run(self._job(left, carried, kernel), replay.on_event)
            except LostMachineError as error:
                replay.lost(error)
                if not replay.started:
                    replay.give_up("\n".join([str(error), *error.last_lines]))
            except KvmHarnessError as error:
                replay.give_up(f"{error} {error.hint}")
            else:
                replay.give_up(f"{self._host} ended its job without this test")
            if left := replay.left:
                self._say(f"booting {self._host} again, for the {len(left)} tests that are left")

    def _groups(self, items: Iterable[pytest.Item]) -> dict[Params, list[pytest.Item]]:
        """Those that are run one after the other, by what KVM is loaded with for them."""
        groups: dict[Params, list[pytest.Item]] = {}
        for item in items:
            groups.setdefault(self._params[item], []).append(item)
        return groups

    def _kernel(self) -> build.Kernel:
        image, modules = (str(self._config.getoption(name)) for name in ("kvm_kernel", "kvm_modules"))
        if bool(image) != bool(modules):
            raise pytest.UsageError("--kvm-kernel and --kvm-modules go together")
        return build.given(Path(image), Path(modules)) if image else build.kernel(progress=self._say)

    def _job(self, items: list[pytest.Item], carried: Suite, kernel: build.Kernel) -> Job:
        steps: list[Step] = []
        for params, chosen in self._groups(items).items():
            steps.append(Load(VARIANT, dict(params)))
            steps.append(Call("kvmharness.testing.emulated.heartbeat:run", self._arguments(chosen, carried)))
            steps.append(Unload())
        return Job(
            tuple(steps),
            files={**carried.files, f"{ROOT}/{INI}": b"[pytest]\n"},
            modules={VARIANT: kernel.modules},
            timeout_s=BOOT_S + _SLOWDOWN * self._timeout_s * len(items),
            silence_s=SILENCE_S,
        )

    def _arguments(self, items: list[pytest.Item], carried: Suite) -> dict[str, Any]:
        root = self._config.rootpath
        invoked_in = self._config.invocation_params.dir
        return {
            "folder": f"/{ROOT}",
            "invoked_in": str(invoked_in.relative_to(root)) if (invoked_in / "x").is_relative_to(root) else "",
            "files": list(dict.fromkeys(str(item.path.relative_to(root)) for item in items)),
            "nodeids": [item.nodeid for item in items],
            "arguments": _pytest_arguments(self._config),
            "options": _options(self._config),
            "plugins": list(carried.plugins),
            "timeout_s": self._timeout_s,
            "images": programs.pack(),
        }

    def _say(self, line: str) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and self._config.get_verbosity() >= 0:
            reporter.ensure_newline()
            reporter.write_line(f"kvm: {shown(line)}")


def _pytest_arguments(config: pytest.Config) -> list[str]:
    """Settings and options that pytest reads before any plugin could set them."""
    # Public in pytest 8, deprecated in 9, where the values are wrapped.
    raw = config._inicfg if hasattr(config, "_inicfg") else config.inicfg
    own = _OWN_SETTINGS.split()
    settings = {name: getattr(value, "value", value) for name, value in raw.items() if name not in own}
    settings["markers"] = config.getini("markers")  # those of plugins that stay outside, too
    words = []
    for name, value in settings.items():
        lines = "\n".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        words += ["-o", f"{name}={lines}"]
    for setting in config.getoption("override_ini") or ():
        words += ["-o", setting]
    for warning in config.getoption("pythonwarnings") or ():
        words += ["-W", warning]
    return [*words, "--capture", config.getoption("capture"), "--import-mode", config.getoption("importmode")]


def _options(config: pytest.Config) -> dict[str, Any]:
    """The values of options, those of conftests included, as far as they can travel."""
    own = _OWN_OPTIONS.split()
    return {name: value for name, value in vars(config.option).items() if name not in own and _travels(value)}


def _travels(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_travels, value))
    return value is None or isinstance(value, bool | int | float | str)
