"""A guest's memory as runs of 64-bit words, which is what page tables, descriptor tables and tagged pages are."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

_WORD = 8
_MASK = (1 << 64) - 1
_LEAST = 3  # two words make a run of anything
_STRIDE_MAX = 0x1000


class Run(NamedTuple):
    """Words at equal distances, each the one before plus a constant, modulo 2**64."""

    gpa: int
    value: int
    length: int = 1
    stride: int = 0
    step: int = 0

    def words(self) -> Iterator[tuple[int, int]]:
        """(gpa, value) of each."""
        for number in range(self.length):
            yield self.gpa + number * self.stride, self.value + number * self.step & _MASK


def words(pages: Mapping[int, bytes]) -> dict[int, int]:
    """gpa -> each 64-bit word that is not zero.

    Raises:
        ValueError: pieces do not begin on a word, or overlap.
    """
    found: dict[int, int] = {}
    for gpa, data in pages.items():
        if gpa % _WORD:
            raise ValueError(f"{gpa:#x} is not the address of a word")
        for start in range(0, len(data), _WORD):
            value = int.from_bytes(data[start : start + _WORD], "little")
            if value and found.setdefault(gpa + start, value) != value:
                raise ValueError(f"two words for {gpa + start:#x}")
    return dict(sorted(found.items()))


def runs(all_words: Mapping[int, int], title: Callable[[int], str]) -> Iterable[tuple[str, list[Run]]]:
    """The words as few runs, under the titles of what they lie in."""
    groups: dict[str, list[tuple[int, int]]] = {}
    for gpa, value in all_words.items():
        groups.setdefault(title(gpa), []).append((gpa, value))
    return [(name, list(_runs(group))) for name, group in groups.items()]


def _runs(left: Sequence[tuple[int, int]]) -> Iterator[Run]:
    at = 0
    while at < len(left):
        run = _longest(left[at:])
        yield run
        at += run.length


def _longest(left: Sequence[tuple[int, int]]) -> Run:
    gpa, value = left[0]
    if len(left) < _LEAST or left[1][0] - gpa > _STRIDE_MAX:
        return Run(gpa, value)
    stride, step = left[1][0] - gpa, left[1][1] - value & _MASK
    count = 1
    while count < len(left) and left[count] == (gpa + count * stride, value + count * step & _MASK):
        count += 1
    return Run(gpa, value, count, stride, step) if count >= _LEAST else Run(gpa, value)
