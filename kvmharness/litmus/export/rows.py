"""What is done and what it may answer, as C tables."""

from collections.abc import Iterator, Mapping
from struct import Struct

from kvmharness.guest.image import Image
from kvmharness.guest.layout import Act
from kvmharness.litmus.export.ctext import COLUMNS, initializer, noted, number, string
from kvmharness.litmus.model.answers import NOT_RUN, Answers
from kvmharness.litmus.plan import STREAMS, Planned
from kvmharness.litmus.program import Row
from kvmharness.litmus.protocol import END, HOST, INTERRUPT, SWITCH
from kvmharness.litmus.world import gva_of
from kvmharness.x86.vmcs import Field

_ACTION = Struct("<4Q32x")
_RUNG = {END: "RUNG_END", HOST: "RUNG_HOST", SWITCH: "RUNG_SWITCH", INTERRUPT: "RUNG_INTERRUPT"}
_KINDS = {
    **dict.fromkeys(("read", "uread"), "READ"),
    **dict.fromkeys(("fetch", "ufetch"), "FETCH"),
    "peek": "PEEK",
    "look": "LOOK",
    "elook": "ELOOK",
}


def kind(row: Row) -> str:
    """How its answer is read: a name of ``enum answer``."""
    if row.who == "host":
        return "DIRTY" if row.text == "host dirty get" else "HOST"
    return _KINDS.get(row.verb, "NOTHING")


def expected(allowed: Answers) -> str:
    """The allowed answers in one string."""
    return "did not run" if allowed is NOT_RUN else "|".join(sorted(allowed))


def checks(planned: Planned) -> str:
    """The table of rows with their allowed answers."""
    lines = []
    for row, (gpa, allowed) in zip(planned.program.rows, planned.answers, strict=True):
        probe = row.get("probe")
        values = [
            string(row.text),
            string(expected(allowed)),
            kind(row),
            number(gpa or 0),
            number(gva_of(probe)) if probe else "0",
        ]
        line = f"\t{initializer(values)}"
        if len(line.expandtabs()) > COLUMNS:  # which answers there are may be a long story
            line = f"\t{{ {values[0]},\n\t  {initializer(values[1:]).removeprefix('{ ')}"
        lines.append(line)
    return "\n".join(lines)


def actions(planned: Planned, programs: Mapping[str, Image]) -> str:
    """The guest's rows, and the names of the code that does them.

    Args:
        planned: the test.
        programs: of L1, L2 and V1.
    """
    texts = {gpa: row.text for row, (gpa, _) in zip(planned.program.rows, planned.answers, strict=True) if gpa}
    names: dict[str, int] = {}
    tables = []
    for who, data in planned.rows.items():
        lines = [f"static const struct action {who.lower()}_actions[] = {{"]
        level = "L2" if who == "L2" else "L1"
        labels = {address: label for label, address in programs[who].symbols.items()}
        for at, (code, *operands) in enumerate(_ACTION.iter_unpack(data)):
            name = f"{level}_{labels[code].upper()}"
            names[name] = code
            note = texts.get(STREAMS[who][0] + at * Act.BYTES, "")
            lines.append(noted(initializer([name, *_operands(name, operands)]), note or _note(name, operands)))
        tables.append("\n".join([*lines, "};\n\n"]))
    if any(name == "L1_ENTER" for name in names) and "write_field" in programs["L1"].symbols:
        names["L1_WRITE_FIELD"] = programs["L1"].symbols["write_field"]
    return "".join([_enum(names), *tables])


def fill(planned: Planned) -> Iterator[str]:
    """Statements that put the rows into the guest's memory."""
    for who in planned.rows:
        name = f"{who.lower()}_actions"
        yield f"\tfill_actions({STREAMS[who][0]:#x}, {name}, ARRAY_SIZE({name}));"


def _operands(name: str, operands: list[int]) -> list[str]:
    if name.endswith("_RING"):
        return [_RUNG[operands[0]]]
    return [number(value) for value in operands]


def _note(name: str, operands: list[int]) -> str:
    return Field(operands[0]).name if name == "L1_WRITE_FIELD" else ""


def _enum(names: Mapping[str, int]) -> str:
    lines = [f"\t{name} = {gpa:#x}," for name, gpa in sorted(names.items(), key=lambda item: item[1])]
    return "\n".join(["/* Where the instructions of each action are. */", "enum {", *lines, "};\n\n"])
