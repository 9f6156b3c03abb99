"""KVM's module parameters as cells name them: common ones short, any other one with its module.

``tdp=0`` stands for the parameter by which either vendor's module leaves EPT or NPT alone, until the host is known.
"""

from collections.abc import Mapping
from string import ascii_letters, digits

from kvmharness.errors import UsageError
from kvmharness.vendors.names import NAMES

Params = tuple[tuple[str, str], ...]

TDP = "tdp"
TDP_OFF = (TDP, "0")
_TDP_OF = {vendor.module: vendor.tdp for vendor in NAMES}

# Module of each parameter that is written without. A name that two modules have cannot be among them.
_MODULE_OF = {
    "tdp_mmu": "kvm",
    **{name: vendor.module for vendor in NAMES for name in vendor.short},
}

_NAME = frozenset(ascii_letters + digits + "_")
_VALUE = _NAME | frozenset("+,-.:")  # neither a slash, which ends it in an id, nor a shell's wildcards


def shown(name: str, value: str) -> str:
    """A parameter as ids have it: ``tdp_mmu=N`` for ("kvm.tdp_mmu", "N"), ``kvm_amd.vls=0`` for one less common."""
    module, _, own = name.rpartition(".")
    return f"{own if _MODULE_OF.get(own) == module else name}={value}"


def read(text: str) -> tuple[str, str]:
    """The inverse of :func:`shown`.

    Raises:
        UsageError: not of that form, or a short name that does not say its module.
    """
    name, _, value = text.partition("=")
    if name != TDP and "." not in name:
        if not name:
            raise UsageError(f"{text!r} stands where parameter=value is expected")
        if name not in _MODULE_OF:
            raise UsageError(
                f"{text!r}: which module has the parameter {name!r}?",
                f"Write module.{name}={value}; short are {', '.join([TDP, *_MODULE_OF])}.",
            )
        name = f"{_MODULE_OF[name]}.{name}"
    check(name, value)
    return name, value


def check(name: str, value: str) -> None:
    """Refuses what cannot be a parameter, or could not be read back from an id.

    Raises:
        UsageError: naming it.
    """
    module, dot, own = name.partition(".")
    if name == TDP:
        if value != TDP_OFF[1]:
            raise UsageError(f"{name}={value}: it can only be switched off, by {TDP}=0")
    elif not (module == "kvm" or module.startswith("kvm_")) or not dot or not own or not _NAME.issuperset(module + own):
        raise UsageError(f"{name!r} is no parameter of KVM's modules", "The form is module.name, such as kvm.tdp_mmu.")
    if not value or not _VALUE.issuperset(value):
        raise UsageError(f"{name} = {value!r}: letters, digits and +,-.:_ are expected")


def check_all(params: Params) -> None:
    """Refuses parameters that are not in order, said twice, or as :func:`check`.

    Raises:
        UsageError: naming them.
    """
    names = [name for name, _ in params]
    if names != sorted(set(names)):
        raise UsageError(f"params = {params!r}: each name once, in order, is expected", "Use with_params().")
    for name, value in params:
        check(name, value)
    if TDP in names and not set(names).isdisjoint(_TDP_OF.values()):
        raise UsageError(
            f"{', '.join(shown(*pair) for pair in params)}: {TDP}=0 stands for the other one", "Say only one of them."
        )


def tdp_off(params: Mapping[str, str]) -> bool:
    """Whether L0 leaves EPT or NPT alone because of these parameters."""
    return any(params.get(name) in ("0", "N", "n") for name in (TDP, *_TDP_OF.values()))


def for_vendor(params: Params, vendor_module: str) -> Params:
    """The parameters under the names that one vendor's modules have.

    Raises:
        UsageError: one is of another vendor's module.
    """
    named = tuple((_TDP_OF[vendor_module] if name == TDP else name, value) for name, value in params)
    for name, _ in named:
        if name.partition(".")[0] not in ("kvm", vendor_module):
            raise UsageError(
                f"{name} is no parameter of kvm and {vendor_module}, which this host has",
                f"{TDP}=0 switches EPT or NPT off, whichever the host has.",
            )
    return tuple(sorted(named))
