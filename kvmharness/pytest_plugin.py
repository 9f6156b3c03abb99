"""Hardware tests in pytest: markers, fixtures, and tests run inside an emulated host.

This module is loaded by every pytest session of an environment that has the package, so it imports nothing but pytest.
What a session with tests for KVM needs comes from :mod:`kvmharness.testing` when the first such test is found.
"""

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmharness.kvm.system import Kvm
    from kvmharness.kvm.vcpu import Vcpu
    from kvmharness.kvm.vm import Vm
    from kvmharness.testing.emulated.spread import Share
    from kvmharness.testing.fixtures.counts import Count, ExitCounts, RootLoads, Statistics
    from kvmharness.testing.fixtures.guests import Guests
    from kvmharness.testing.fixtures.inline import Assemble
    from kvmharness.testing.fixtures.litmus import Litmus
    from kvmharness.testing.fixtures.pairs import Nested
    from kvmharness.testing.fixtures.programs import Guest
    from kvmharness.testing.fixtures.timing import Timing
    from kvmharness.testing.fixtures.watched import Watched
    from kvmharness.testing.needs import Place

_MARKERS = (
    "needs(*names): what the host must offer, by the names that `kvmharness doctor` shows; also "
    '"kernel>=6.1" and "kvm.tdp_mmu=Y"',
    "kvm: the test needs /dev/kvm",
    "nested_vmx: the test needs nested VMX",
    "nested_svm: the test needs nested SVM",
    "kvm_hosts(*hosts): the test runs once in each of these emulated hosts, for example vmx:penryn",
)

# What tells cheaply that a test may need something of its host.
_MARKS = frozenset({"needs", "kvm", "nested_vmx", "nested_svm", "kvm_hosts"})
_FIXTURE_NEEDS = {"kvm": "kvm", "nested": "nested", "exit_counts": "perf", "root_loads": "kprobes", "count": "kprobes"}

_PLACE: "pytest.StashKey[Place]" = pytest.StashKey()
_SHARE: "pytest.StashKey[Share]" = pytest.StashKey()
_WATCHED: "pytest.StashKey[Watched]" = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options, all of which begin with --kvm."""
    group = parser.getgroup("kvmharness", "tests for KVM (kvmharness)")
    group.addoption(
        "--kvm-host",
        metavar="HOST",
        default="",
        help="run the tests whose needs this machine lacks in an emulated host: vmx or svm, or with a CPU vmx:penryn",
    )
    group.addoption(
        "--kvm-require",
        metavar="NAME,...",
        action="append",
        default=[],
        help="fail instead of skipping where the host lacks one of these",
    )
    group.addoption(
        "--kvm-timeout",
        metavar="SECONDS",
        type=float,
        default=60.0,
        help="how long a test in the emulated host may take (default: %(default)s)",
    )
    group.addoption(
        "--kvm-kernel", metavar="BZIMAGE", default="", help="what the emulated host boots (default: one built for it)"
    )
    group.addoption(
        "--kvm-emulator",
        metavar="PATH",
        default="",
        help="the Bochs or QEMU to emulate it with, in the place of the installed one (also: KVMHARNESS_EMULATOR)",
    )
    group.addoption(
        "--kvm-no-snapshot",
        action="store_true",
        help="boot the emulated host, where it would be restored from a snapshot",
    )
    group.addoption("--kvm-modules", metavar="FOLDER", default="", help="the modules of --kvm-kernel")
    parser.addini("kvm_require", "as --kvm-require", type="args", default=[])
    parser.addini("kvm_files", "files that tests read in an emulated host, as patterns below the rootdir", type="args")
    parser.addini("kvm_packages", "packages that tests need there besides those they import", type="args")


def pytest_configure(config: pytest.Config) -> None:
    """Registers the markers, so that --strict-markers knows them."""
    for line in _MARKERS:
        config.addinivalue_line("markers", line)
    distributed = getattr(config.option, "dist", "no") != "no" and not hasattr(config, "workerinput")
    if distributed and config.getoption("kvm_host"):
        from kvmharness.testing.emulated.spread import check

        check(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Makes a test with the marker kvm_hosts one test for each host."""
    if (mark := metafunc.definition.get_closest_marker("kvm_hosts")) is None:
        return
    from kvmharness.errors import UsageError
    from kvmharness.hosts import catalogue

    try:
        hosts = [catalogue.named(spec).name for spec in mark.args]
    except UsageError as error:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: {error} {error.hint}") from error
    if "kvm_host" not in metafunc.fixturenames:
        metafunc.fixturenames.append("kvm_host")
    metafunc.parametrize("kvm_host", hosts, ids=hosts, indirect=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, object, object]:
    """Says by markers what the plugin's fixtures need, then decides where each selected test runs, once."""
    for item in items:
        _mark_needs(item)
    result = yield
    chosen = [item for item in items if any(mark.name in _MARKS for mark in item.iter_markers())]
    if chosen or config.getoption("kvm_host") or config.getoption("kvm_emulator") or _required(config):
        _place(config, chosen)
    if hasattr(config, "workerinput") and any(_PLACE in item.stash and item.stash[_PLACE].host for item in items):
        _share_out(config, items)
    return result


def _mark_needs(item: pytest.Item) -> None:
    """Before -m selects: a test that asks for one of the plugin's fixtures needs what that needs."""
    fixtures = _FIXTURE_NEEDS.keys() & getattr(item, "fixturenames", ())
    if not fixtures:
        return
    own = [name for name in sorted(fixtures) if _is_own(item, name)]
    if own:
        item.add_marker(pytest.mark.needs(*(_FIXTURE_NEEDS[name] for name in own)))


def _is_own(item: pytest.Item, fixture: str) -> bool:
    """Whether a fixture is this plugin's: a suite may have one of its own by the same name, on top of it or instead."""
    definitions = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    for definition in reversed(definitions.get(fixture, ())):
        if definition.func.__module__ == __name__:
            return True
        if fixture not in definition.argnames:
            return False
    return False


def _place(config: pytest.Config, items: list[pytest.Item]) -> None:
    from kvmharness.errors import UsageError
    from kvmharness.testing.needs import Session

    where = ""
    try:
        session = Session(config, _required(config))
        for item in items:
            where = f"{item.nodeid}: "
            item.stash[_PLACE] = session.place(item)
    except UsageError as error:
        raise pytest.UsageError(f"{where}{error} {error.hint}") from error


def _share_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a worker of pytest-xdist: which tests of the emulated hosts are run together."""
    from kvmharness.testing.emulated.spread import share_out
    from kvmharness.testing.needs import Place

    places = [item.stash.get(_PLACE, Place()) for item in items]
    shares = share_out(items, places, min(config.workerinput["workercount"], len(items)))  # type: ignore[attr-defined]
    for item, share in zip(items, shares, strict=True):
        if share is not None:
            item.stash[_SHARE] = share


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Has pytest-xdist give each worker a share of the tests that is fixed from the beginning."""
    if not config.getoption("kvm_host"):
        return None
    from kvmharness.testing.emulated.spread import scheduler

    return scheduler(config, log)


def _required(config: pytest.Config) -> list[str]:
    options = [name.strip() for option in config.getoption("kvm_require") for name in option.split(",")]
    return [*filter(None, options), *config.getini("kvm_require")]


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """Shows the facts of this host, in a session that has tests for KVM."""
    places = [item.stash[_PLACE] for item in items if _PLACE in item.stash]
    if not places or config.get_verbosity() < 0:
        return []
    from kvmharness.testing.needs import header

    return header(config, places)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Runs what runs here first, then what runs in emulated hosts; pytest's own loop when there is no such test."""
    places = {item: item.stash[_PLACE] for item in session.items if _PLACE in item.stash}
    elsewhere = session.config.option.collectonly or hasattr(session.config, "workerinput")
    if elsewhere or not any(place.host for place in places.values()):
        return None
    from kvmharness.testing.emulated.loop import run

    return run(session, places)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """In a worker of pytest-xdist: a test of an emulated host is told of, rather than run."""
    if (share := item.stash.get(_SHARE, None)) is None:
        return None
    share.tell(item)
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test that cannot run, with the reason and the way out, or fails it where the need is required."""
    place = item.stash.get(_PLACE, None)
    if place is None or not place.why_not:
        return
    from kvmharness.testing.needs import skip_or_fail

    skip_or_fail(place.lacks, place.why_not, _required(item.config))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the guests' state to the report of a test that failed, while they are still there."""
    report = yield
    if report.failed and (watched := item.stash.get(_WATCHED, None)) is not None:
        from kvmharness.testing.failure import add_sections
        from kvmharness.testing.names import INSIDE

        add_sections(report, watched, emulated=item.config.pluginmanager.hasplugin(INSIDE))
    return report


@pytest.fixture
def kvm(request: pytest.FixtureRequest) -> "Iterator[Kvm]":
    """The open /dev/kvm."""
    from kvmharness.kvm.system import Kvm
    from kvmharness.testing.fixtures.watched import Watched

    with Watched() as watched, Kvm.open() as device:
        request.node.stash[_WATCHED] = watched
        yield device


@pytest.fixture
def vm(kvm: "Kvm", request: pytest.FixtureRequest) -> "Iterator[Vm]":
    """A new VM without memory."""
    with kvm.create_vm() as made:
        request.node.stash[_WATCHED].add(made)
        yield made


@pytest.fixture
def vcpu(vm: "Vm") -> "Vcpu":
    """A vCPU of that VM, with the CPUID that KVM supports; it is in the state that it has after a reset."""
    from kvmharness.kvm.nested import guest_cpuid

    made = vm.create_vcpu()
    made.set_cpuid2(guest_cpuid(vm.kvm))
    return made


@pytest.fixture
def assemble() -> "Assemble":
    """Assembles a guest program that stands in the test: ``assemble("entry: hlt")`` gives an image."""
    from kvmharness.testing.fixtures.inline import assemble_inline

    return assemble_inline


@pytest.fixture
def _guests(kvm: "Kvm", request: pytest.FixtureRequest) -> "Iterator[Guests]":
    """What makes the guests of the two fixtures below, and takes them down."""
    from kvmharness.testing.fixtures.guests import Guests
    from kvmharness.testing.needs import host_capabilities, host_facts

    config = request.config
    offered, facts, required = host_capabilities(config, kvm), host_facts(config), _required(config)
    with Guests(kvm, offered, facts, request.node.stash[_WATCHED], required) as guests:
        yield guests


@pytest.fixture
def guest(_guests: "Guests") -> "Callable[..., Guest]":
    """Puts a program into a VM of its own: ``guest("hello")`` by name, or ``guest(image)``; then ``.run()``."""
    return _guests.make


@pytest.fixture
def nested(_guests: "Guests") -> "Callable[..., Nested]":
    """Makes an L1 with its L2: ``nested("c:3/AABB")`` or ``nested(host_cr3s=3)``; then ``.run(round_trips)``."""
    return _guests.make_nested


@pytest.fixture
def litmus(kvm: "Kvm", request: pytest.FixtureRequest) -> "Litmus":
    """Runs a litmus test: ``litmus("edit-l1-invlpg")`` by name, or its rows, one a line."""
    from kvmharness.testing.fixtures.litmus import Litmus
    from kvmharness.testing.needs import host_capabilities

    return Litmus(kvm, host_capabilities(request.config, kvm))


@pytest.fixture
def exit_counts(request: pytest.FixtureRequest) -> "Callable[..., ExitCounts]":
    """Counts this thread's VM exits by reason: ``with exit_counts("CPUID") as exits:``, then ``exits["CPUID"]``."""
    from kvmharness.testing.fixtures.counts import ExitCounts
    from kvmharness.testing.needs import host_facts

    svm = host_facts(request.config).svm
    return lambda *reasons: ExitCounts(reasons, svm=svm)


@pytest.fixture
def root_loads() -> "type[RootLoads]":
    """Counts the root switches of KVM's MMU: ``with root_loads() as roots:``, then ``roots.loads``."""
    from kvmharness.testing.fixtures.counts import RootLoads

    return RootLoads


@pytest.fixture
def count() -> "type[Count]":
    """Counts calls of kernel functions and hits of tracepoints, by this thread.

    ``with count("nested_vmx_run") as entries:``, then ``int(entries)``; of several, ``count("kvm_mmu_load",
    "kvm:kvm_exit")``, each by its name: ``found["kvm:kvm_exit"]``.
    """
    from kvmharness.testing.fixtures.counts import Count

    return Count


@pytest.fixture
def kvm_stats() -> "type[Statistics]":
    """What KVM's statistics gain: ``with kvm_stats(pair.vcpu) as stats:``, then ``stats["nested_run"]``."""
    from kvmharness.testing.fixtures.counts import Statistics

    return Statistics


@pytest.fixture
def timing(request: pytest.FixtureRequest) -> "Timing":
    """Takes samples, ``timing("name", pair, batches=10, round_trips=20)``; no test can pass or fail by them."""
    from kvmharness.testing.fixtures.timing import Timing
    from kvmharness.testing.needs import host_facts

    return Timing(request.node.user_properties, emulated=host_facts(request.config).emulated is not None)


@pytest.fixture
def kvm_host(request: pytest.FixtureRequest) -> str:
    """The emulated host that the test runs in, as the marker kvm_hosts names it; empty on a host that is none."""
    from kvmharness.testing.needs import host_facts

    return getattr(request, "param", None) or host_facts(request.config).emulated or ""
