"""Options that several verbs share, and the types that read them."""

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from kvmharness.cells.params import Params
from kvmharness.cli.errors import shortened
from kvmharness.cli.output import Output
from kvmharness.errors import UsageError
from kvmharness.hosts import catalogue
from kvmharness.kvm.memory import BACKINGS
from kvmharness.lab.kernels.choice import KernelChoice
from kvmharness.measure.watch import ANY, QUIETEST, Watch
from kvmharness.system.shown import shown
from kvmharness.validation.host import HERE, Emulated, emulated, resolve_all
from kvmharness.validation.hostbase import Host

if TYPE_CHECKING:
    from kvmharness.fleet.client import Fleet

Request = TypeVar("Request")

Verbs = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What `add_subparsers` gives; argparse has no public name for it."""


class Parser(argparse.ArgumentParser):
    """Takes options and positional words in any order, unless some of the words belong to somebody else."""

    def error(self, message: str) -> NoReturn:
        """See argparse; what it says repeats words that were given, which have any length."""
        super().error(shown(shortened(message)))

    _words_alone = False  # while the words between the options are read: that calls the method below once more

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See argparse."""
        foreign = any(action.nargs in (argparse.PARSER, argparse.REMAINDER) for action in self._actions)
        if foreign or self._words_alone:
            return super().parse_known_args(args, namespace)
        self._words_alone = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._words_alone = False


_JOBS_MAX = 64
_DIGITS_MAX = 20
_LONGEST_S = 7 * 24 * 3600


class Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults where they say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_nothing = action.default is None or isinstance(action.default, bool) or action.default in ([], "")
        return action.help if says_nothing else super()._get_help_string(action)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(_EXAMPLES) else super()._fill_text(text, width, indent)


_EXAMPLES = "examples:\n"


def shown_examples(examples: Iterable[str]) -> str:
    """Command lines as the end of a command's help."""
    return _EXAMPLES + "\n".join(f"  {example}" for example in examples)


def verb(
    verbs: Verbs,  # type: ignore[valid-type]
    name: str,
    read: Callable[[argparse.Namespace], Request],
    act: Callable[[Request, Output], int],
    summary: str,
    details: str = "",
    *,
    examples: Iterable[str],
) -> argparse.ArgumentParser:
    """A new verb with the options that all of them have.

    Args:
        verbs: where it is registered.
        name: of the verb.
        read: makes the verb's request of its options, or refuses them with a UsageError; nothing has happened by then.
        act: does what is requested; gives the exit code.
        summary: one line, for the list of verbs.
        details: more, for its own help.
        examples: command lines that work as they are, for its own help.
    """
    made: argparse.ArgumentParser = verbs.add_parser(  # type: ignore[attr-defined]
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}. {details}".strip(),
        epilog=shown_examples(examples),
        formatter_class=Formatter,
    )
    made.set_defaults(handler=lambda options, output: act(read(options), output), verbosity=0, bisect=False)
    loud = made.add_mutually_exclusive_group()
    loud.add_argument(
        "-v", "--verbose", dest="verbosity", action="store_const", const=1, default=argparse.SUPPRESS, help="say more"
    )
    loud.add_argument(
        "-q",
        "--quiet",
        dest="verbosity",
        action="store_const",
        const=-1,
        default=argparse.SUPPRESS,
        help="say nothing on the way",
    )
    return made


def add_host_option(
    parser: argparse.ArgumentParser, *, default: str = "", here: bool = False, several: bool = False
) -> None:
    """The option that says where to run.

    Args:
        parser: of the verb.
        default: what it says without the option; the first emulated host when empty.
        here: this machine can be chosen too.
        several: the option may be given several times; it is None without it, and the verb says what is meant then.
    """
    choices = f"{HERE}, {catalogue.choices()}" if here else catalogue.choices()
    default = default or catalogue.first().spec
    if several:
        more = f"{choices}; may be given several times, for one verdict on all of them (default: a host of each vendor "
        more += "whose code the series changes; one where cells are named)"
        parser.add_argument("--host", metavar="HOST", action="append", help=more)
    else:
        parser.add_argument("--host", metavar="HOST", default=default, help=choices)
    if here:
        parser.add_argument(
            "--jobs",
            metavar="N",
            type=number(_JOBS_MAX),
            help="how many emulated hosts may be at work at the same time; by default as many as there are cores",
        )
    parser.add_argument(
        "--emulator",
        metavar="PATH",
        default="",
        help="a Bochs (for vmx) or a QEMU (for svm) of your own, in the place of the installed one; also by the "
        "environment variable KVMHARNESS_EMULATOR",
    )
    parser.add_argument(
        "--no-snapshot",
        dest="snapshot",
        action="store_false",
        help="boot an emulated host for each job; otherwise one that has been booted is restored",
    )


def add_tls_option(parser: "argparse._ActionsContainer") -> None:
    """The option that names a fleet's certificates."""
    parser.add_argument(
        "--tls",
        metavar="FOLDER",
        default=os.environ.get("KVMHARNESS_TLS", ""),
        help="ca.pem, cert.pem and key.pem of a fleet, without which it is not talked to but on the loopback; also by "
        "the environment variable KVMHARNESS_TLS",
    )


def add_fleet_options(parser: argparse.ArgumentParser) -> None:
    """The options that have emulated hosts run on other machines."""
    group = parser.add_argument_group("a fleet", "Emulated hosts run on the machines of a fleet; see `worker`.")
    group.add_argument(
        "--fleet",
        metavar="ADDRESS",
        default="",
        help="the fleet's scheduler, tls://HOST:8786, or `local`: processes on this machine, started for this run",
    )
    add_tls_option(group)


def _fleet(options: argparse.Namespace) -> "Fleet | None":
    """The fleet that :func:`add_fleet_options` read, connected to until the command ends; None for none.

    Raises:
        UsageError: no such address, or certificates are missing.
        HostRequirementError: Dask is not installed.
        LostMachineError: nobody answers there.
    """
    if not getattr(options, "fleet", ""):
        return None
    from kvmharness.fleet.connect import connected

    fleet: Fleet = options.closing.enter_context(connected(options.fleet, Path(options.tls) if options.tls else None))
    Output(options.verbosity).say(str(fleet))
    return fleet


def emulated_host(options: argparse.Namespace) -> Emulated:
    """The emulated host that :func:`add_host_option` read.

    Raises:
        UsageError: there is none of that name, or the emulator does not fit it.
    """
    return emulated(options.host, snapshot=options.snapshot, emulator=options.emulator)


def hosts(options: argparse.Namespace, usual: tuple[str, ...] = ()) -> tuple[Host, ...]:
    """The hosts that :func:`add_host_option` read, where there may be several, or this machine among them.

    Args:
        options: as argparse gives them.
        usual: those that are meant where none is named.

    Raises:
        UsageError: as :func:`kvmharness.validation.host.resolve_all`.
    """
    texts = options.host or usual
    texts = [texts] if isinstance(texts, str) else texts
    how = {"snapshot": options.snapshot, "jobs": options.jobs, "emulator": options.emulator, "watch": _watch(options)}
    found = resolve_all(texts, **how)
    if (fleet := _fleet(options)) is None:
        return found
    if options.emulator:
        raise UsageError(
            "--emulator is of this machine, and a fleet's emulators are its own", "Leave one of them away."
        )
    return resolve_all(texts, **how, elsewhere=fleet)


def add_silicon_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Options that say how cells run on this machine."""
    group = parser.add_argument_group("on this machine", "None of its settings are changed.")
    group.add_argument(
        "--cpu",
        metavar="N",
        type=_cpu,
        help=f"the CPU on which the vCPU's thread stays; {ANY}: it is not pinned (default: {QUIETEST})",
    )
    group.add_argument(
        "--memory",
        metavar=",".join(BACKINGS),
        type=_backing,
        help="beyond touching all of a guest's memory before it starts, have it in huge pages, locked, or both",
    )
    return group


def _watch(options: argparse.Namespace) -> Watch | None:
    """What :func:`add_silicon_options` read; None for the usual, and for verbs without them. Raises: UsageError."""
    cpu, memory = (getattr(options, name, None) for name in ("cpu", "memory"))
    return Watch(cpu or QUIETEST, memory or ()) if cpu or memory else None


def _cpu(text: str) -> str:
    if text not in (ANY, QUIETEST) and not (text.isascii() and text.isdecimal() and len(text) < 6):
        raise argparse.ArgumentTypeError(f"{text!r} is no CPU: a number, {QUIETEST} or {ANY}")
    return text


def _backing(text: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(text.split(",")))
    if unknown := [word for word in words if word not in BACKINGS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(BACKINGS)}")
    return words


def add_kernel_options(parser: argparse.ArgumentParser) -> None:
    """Options that say which kernel the emulated host runs."""
    group = parser.add_argument_group("the emulated host's kernel", "By default Debian's linux-source-6.1, built once.")
    group.add_argument(
        "--source", metavar="PATH", type=Path, help="build this kernel: a source tree (left as it is) or a tarball"
    )
    group.add_argument("--kernel", metavar="BZIMAGE", type=Path, help="boot this kernel as it is, with --modules")
    group.add_argument("--modules", metavar="FOLDER", type=Path, help="KVM's modules for --kernel")


def kernel_choice(options: argparse.Namespace) -> KernelChoice:
    """What :func:`add_kernel_options` read.

    Raises:
        UsageError: the options contradict each other, or name what is not there.
    """
    choice = KernelChoice(options.source, options.kernel, options.modules)
    choice.check()
    return choice


def percent(text: str) -> float:
    """Reads a percentage as a fraction, as an argparse type."""
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0 to 100")
    return value / 100


def seconds(text: str) -> float:
    """Reads a length of time, as an argparse type."""
    number, unit = text.rstrip("smh"), text[len(text.rstrip("smh")) :] or "s"
    factors = {"s": 1, "m": 60, "h": 3600}
    if not 0 < whole_number(number) * factors.get(unit, 0) <= _LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time such as 60s, 10m or 2h")
    return float(whole_number(number) * factors[unit])


def parameter(text: str) -> tuple[str, str]:
    """Reads ``module.name=value``, as an argparse type."""
    name, equals, value = text.partition("=")
    if not equals or name.count(".") != 1 or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form module.name=value, such as kvm.tdp_mmu=N")
    return name, value


def setting(text: str) -> Params:
    """Reads a set of module parameters, as an argparse type: ``kvm.tdp_mmu=N,kvm_intel.ept=0``, or ``default``."""
    return () if text == "default" else tuple(map(parameter, text.split(",")))


def add_parameter_option(parser: argparse.ArgumentParser) -> None:
    """The option that sets KVM's module parameters."""
    parser.add_argument(
        "--param",
        metavar="MODULE.NAME=VALUE",
        type=parameter,
        action="append",
        default=[],
        help="load KVM with this parameter, for example kvm.tdp_mmu=N; may be given several times",
    )


def whole_number(text: str) -> int:
    """What a few digits say; 0 for anything else, such as digits of other scripts, which Python would take."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS_MAX else 0


def number(limit: int) -> Callable[[str], int]:
    """An argparse type: a whole number from 1 to *limit*."""

    def read(text: str) -> int:
        value = whole_number(text)
        if not 0 < value <= limit:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {limit}")
        return value

    return read
