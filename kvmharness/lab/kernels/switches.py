"""KVM's module parameters that are switches, and which code hangs on them, as its source says.

A parameter has a variable, and functions read that: by its name, through another variable that is set to it, or by
calling a small function or macro that does.

Source: include/linux/moduleparam.h: the macros take name, variable (if it has another name), type and permissions.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from kvmharness.lab.kernels.parameters import module_of
from kvmharness.oracle.csource import without_comments
from kvmharness.patches.functions import Definition, definitions
from kvmharness.vendors.names import NAMES

_ARGUMENTS = r"\(((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)"
_PARAMETER = re.compile(rf"\bmodule_param(?P<kind>\w*)\s*{_ARGUMENTS}\s*;")
_CALL = re.compile(rf"\b(\w+)\s*(?={_ARGUMENTS})")
_WORD = re.compile(r"\w+")
_SET = re.compile(r"^\t(\w+) = (\w+);", re.MULTILINE)
# The definition of a variable outside of functions.
_VARIABLE = re.compile(r"^(?P<head>\w[\w \t]*)(?:=\s*(?P<value>[\w-]+)\s*)?;", re.MULTILINE)
# What a function or a macro that only stands for what it reads has in its body, at the most.
_SMALL = 200
_DEPTH = 2
_SHARED = module_of("")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A module parameter, as it is declared.

    Attributes:
        name: with its module: ``kvm_intel.ept``.
        path: of the file that declares it.
        variable: behind it; empty where there is none.
        type: as the macro has it; empty where functions of its own set it.
        initial: its initial value as the source writes it; ``0`` where it writes none.
        static: the variable is known in that file only.
    """

    name: str
    path: str
    variable: str
    type: str
    initial: str
    static: bool

    @property
    def own(self) -> str:
        """The name without its module."""
        return self.name.partition(".")[2]

    @property
    def other(self) -> str:
        """The value other than that which it has by default; empty when it is no switch."""
        on = {"true": True, "1": True, "false": False, "0": False}.get(self.initial)
        if on is None or self.type not in ("bool", "int") or (self.type == "int" and self.initial == "1"):
            return ""
        if self.type == "int" or any(self.name == vendor.tdp for vendor in NAMES):
            return str(int(not on))
        return "N" if on else "Y"


@dataclass(frozen=True)
class KvmSource:
    """The source of KVM's modules.

    Attributes:
        files: its C files by path, without comments.
    """

    files: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> "KvmSource":
        """The same of files as they are."""
        return cls({path: without_comments(text.decode("utf-8", "replace")) for path, text in files.items()})

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """All parameters."""
        return tuple(each for path, text in self.files.items() for each in self._declared(path, text))

    @cached_property
    def _definitions(self) -> Mapping[str, list[tuple[str, Definition]]]:
        """Functions and macros by name, each with the file that it is in."""
        found: dict[str, list[tuple[str, Definition]]] = {}
        for path, text in self.files.items():
            for each in definitions(text):
                found.setdefault(each.name, []).append((path, each))
        return found

    @cached_property
    def _set_to(self) -> Mapping[str, frozenset[str]]:
        """For each variable, those that are set to it: ``tdp_enabled`` to ``enable_ept``, handed over in a call."""
        found: dict[str, set[str]] = {}
        every = [each for same in self._definitions.values() for _, each in same if not each.macro]
        takers: dict[str, dict[int, str]] = {}
        for each in every:
            places = {name: place for place, name in enumerate(each.parameters)}
            for variable, value in _SET.findall(each.body):
                if value in places and self._is_global(variable):
                    takers.setdefault(each.name, {})[places[value]] = variable
                elif self._is_global(variable) and self._is_global(value):
                    found.setdefault(value, set()).add(variable)
        for each in every:
            if each.words.isdisjoint(takers):
                continue
            for call in _CALL.finditer(each.body):
                if call[1] in takers:
                    given = [word.strip() for word in _split(call[2])]
                    for place, variable in takers[call[1]].items():
                        if place < len(given):
                            found.setdefault(given[place], set()).add(variable)
        return {value: frozenset(variables) for value, variables in found.items()}

    def named(self, name: str) -> list[tuple[str, Definition]]:
        """The functions and macros of a name, each with the file that it is in."""
        return self._definitions.get(name, [])

    def using(self, name: str) -> list[str]:
        """The files that have a name anywhere."""
        return [path for path, words in self._words.items() if name in words]

    @cached_property
    def _words(self) -> Mapping[str, frozenset[str]]:
        return {path: frozenset(_WORD.findall(text)) for path, text in self.files.items()}

    def how_read(self, function: Definition, path: str, parameter: Parameter) -> tuple[int, str]:
        """How a function reads a parameter.

        Args:
            function: of the series, as it is or as it was.
            path: of its file.
            parameter: the parameter.

        Returns:
            Over how many others, and in words: "reads tdp_enabled"; (0, "") when it does not.
        """
        if len({module_of(path), module_of(parameter.path)} - {_SHARED}) == 2:
            return 0, ""  # each vendor's code knows its own only
        variables = {parameter.variable, *self._set_to.get(parameter.variable, ())}
        seen = {function.name}
        callers = [(function, path, "")]
        for depth in range(_DEPTH + 1):
            following = []
            for each, where, chain in callers:
                for variable in sorted(variables & each.words, key=lambda name: name != parameter.variable):
                    if variable != parameter.variable or is_meant(parameter, where, each.body):
                        return depth, f"{chain}reads {variable}"
                for name in sorted(each.words & self._definitions.keys() - seen):
                    seen.add(name)
                    through = f"{chain}calls {name}{'' if self._definitions[name][0][1].macro else '()'}, which "
                    following += [
                        (definition, place, through)
                        for place, definition in self._definitions[name]
                        if len(definition.body) <= _SMALL and module_of(place) in (module_of(path), _SHARED)
                    ]
            callers = following
        return 0, ""

    def _declared(self, path: str, text: str) -> Iterator[Parameter]:
        for found in _PARAMETER.finditer(text):
            words = [word.strip() for word in _split(found[2])]
            name, variable, kind = words[0], words[0], words[1]
            if "named" in found["kind"]:
                variable, kind = words[1], words[2]
            elif "cb" in found["kind"]:
                variable, kind = words[2].lstrip("&") if words[2] != "NULL" else "", ""
            static, initial = self._initial(variable, path)
            yield Parameter(f"{module_of(path)}.{name}", path, variable, kind, initial, static)

    def _initial(self, variable: str, path: str) -> tuple[bool, str]:
        """Whether a variable is static, and its initial value, from wherever it is defined."""
        for variables in (self._variables[path], *self._variables.values()):
            if variable in variables:
                return variables[variable]
        return False, ""

    @cached_property
    def _variables(self) -> Mapping[str, Mapping[str, tuple[bool, str]]]:
        """For each file its variables: whether they are static, and their initial values."""
        return {path: dict(_variables(text)) for path, text in self.files.items()}

    @cached_property
    def _globals(self) -> frozenset[str]:
        return frozenset(name for variables in self._variables.values() for name in variables)

    def _is_global(self, name: str) -> bool:
        return name in self._globals


def _variables(text: str) -> Iterator[tuple[str, tuple[bool, str]]]:
    seen = set()
    for found in _VARIABLE.finditer(text):
        words = found["head"].split()
        while words and words[-1].startswith("__"):  # an attribute, such as __read_mostly
            words.pop()
        if len(words) > 1 and words[0] not in ("extern", "typedef") and words[-1] not in seen:
            seen.add(words[-1])
            yield words[-1], ("static" in words, found["value"] or "0")


def _split(arguments: str) -> list[str]:
    """At the commas that are not in brackets."""
    parts, depth = [""], 0
    for piece in re.split(r"([(),])", arguments):
        depth += (piece == "(") - (piece == ")")
        if piece == "," and not depth:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def is_meant(parameter: Parameter, path: str, text: str) -> bool:
    """Whether a parameter's variable is meant where the text of a file has its name.

    A short name may be that of a field, and a static one's may be something else in other files. One such as
    ``tdp_mmu_enabled`` is not: a field of that name is what the parameter is kept in.
    """
    if "_" in parameter.variable:
        return True
    alone = path == parameter.path or not parameter.static
    return alone and re.search(rf"(?<![.>])\b{parameter.variable}\b", text) is not None
