"""The language of cells, read and explained: ``a:3x3/pcid``, ``c:3/AABB``, ``d:12``, ``e:3x3/tdp_mmu=N``.

A set-up's letter, its shape, then marks and module parameters. The table of set-ups and marks is the grammar; what is
written in it is :attr:`kvmharness.cells.cell.Cell.id`.
"""

import re
from typing import Any

from kvmharness.cells import params
from kvmharness.cells.setups import MARKS, MOST, PLACEHOLDERS, Order, SetupRow, by_letter
from kvmharness.errors import UsageError

WILDCARDS = frozenset("*?[")  # of patterns; no id has one

_NUMBER = "[1-9][0-9]{0,3}"  # up to MOST, which making the cell checks
_PATTERNS = {name: f"(?P<{name}>{_NUMBER})" for name in PLACEHOLDERS} | {"order": f"(?P<order>{'|'.join(Order)})"}
_EXPECTED = f"{', '.join(mark.form for mark in MARKS)}, or parameter=value"


def read(text: str) -> dict[str, Any]:
    """The fields of the cell that *text* names.

    Raises:
        UsageError: says where it goes wrong, and what is expected there. The fields may still contradict each other.
    """
    letters = by_letter()
    letter, colon, rest = text.partition(":")
    if letter not in letters:
        raise UsageError(f"it begins with {letter!r}, where a set-up is expected: {', '.join(letters)}")
    setup = letters[letter].setup
    form = f"{letter}:{setup.row.form}"
    if not colon:
        raise UsageError(f"{form} is expected")
    words = rest.split("/")
    found: dict[str, Any] = {"setup": setup, **setup.row.fixed, **_shape(setup.row, words, form)}
    wanted: dict[str, str] = {}
    for word in words:
        field, value = _mark(word)
        if field in found or field in wanted:
            raise UsageError(f"{word!r}: it is said twice")
        (wanted if "." in field or field == params.TDP else found)[field] = value
    if not letters[letter].l0_tdp and not params.tdp_off(wanted):
        wanted |= [params.TDP_OFF]
    return found | {"params": tuple(sorted(wanted.items()))}


def _shape(row: SetupRow, words: list[str], form: str) -> dict[str, Any]:
    """Takes the shape from the front of the words."""
    found: dict[str, Any] = {}
    for number, part in enumerate((*row.parts, row.optional)):
        match = re.fullmatch(part.format(**_PATTERNS), words[0], re.ASCII) if part and words else None
        if match is not None:
            del words[0]
            found |= {name: Order(it) if name == "order" else int(it) for name, it in match.groupdict().items()}
        elif number < len(row.parts):
            given = repr(words[0]) if words and words[0] else "nothing"
            place = part.format(**PLACEHOLDERS)
            kind = f"one of {', '.join(Order)}" if "order" in part else f"numbers from 1 to {MOST}"
            raise UsageError(f"{given} stands where {place} of {form} is expected, {kind}")
    return found


def _mark(word: str) -> tuple[str, Any]:
    """The field and the value that a mark says, or the name and the value of a parameter."""
    if "=" in word:
        return params.read(word)
    for mark in MARKS:
        if mark.value is not None and word == mark.name:
            return mark.field, mark.value
        if mark.value is None and re.fullmatch(mark.name + _NUMBER, word, re.ASCII):
            return mark.field, int(word.removeprefix(mark.name))
    raise UsageError(f"{word!r} stands where a mark is expected: {_EXPECTED}")


def explain() -> str:
    """How cells are written, for people."""
    names = {"tdp": "EPT (NPT)", "root": "EPTP"}
    forms = [(f"{letter}:{meant.setup.row.form}", meant.words.format(**names)) for letter, meant in by_letter().items()]
    forms += [(f"/{mark.form}", mark.words) for mark in MARKS]
    forms += [
        ("/parameter=value", "KVM is loaded with it: /tdp_mmu=N, /ept=0, and less common ones as /kvm.halt_poll_ns=0"),
        ("/tdp=0", "L0 uses no EPT (NPT): a:3x3/tdp=0 is e:3x3"),
    ]
    width = max(len(form) for form, _ in forms)
    return "\n".join(
        [
            "A cell is written as a set-up and what may follow it, such as a:7x1/pcid:",
            *(f"  {form:{width}}  {words}" for form, words in forms),
            f"N1 host CR3s of L1, N2 guest CR3s for L2, E EPTPs, each from 1 to {MOST}; ORDER is {' or '.join(Order)}:",
            "in turn, or each twice in a row. A letter alone stands for a whole set-up, and shell patterns choose, of",
            "the default ones.",
        ]
    )
