"""The cheap enums against the standard library's: every class is made by both and must behave alike."""

import copy
import enum
import json
import pickle

import pytest

from kvmharness.lean import enum as enums


def words(kind):
    class Word(kind.IntEnum):
        """Words."""

        ONE = 1
        TWO = 2
        ALSO_TWO = 2
        FIVE = 5

        @property
        def double(self):
            return self * 2

    return Word


def bits(kind):
    class Bit(kind.IntFlag):
        A = 1 << 0
        C = 1 << 2
        B = 1 << 1
        AB = 3
        HIGH = 1 << 40

    return Bit


both_words = pytest.mark.parametrize("Word", [words(enum), words(enums)], ids=["standard", "ours"])
both_bits = pytest.mark.parametrize("Bit", [bits(enum), bits(enums)], ids=["standard", "ours"])


@both_words
def test_members(Word):
    assert [member.name for member in Word] == ["ONE", "TWO", "FIVE"]
    assert list(Word.__members__) == ["ONE", "TWO", "ALSO_TWO", "FIVE"]
    assert len(Word) == 3
    assert Word(2) is Word.TWO is Word.ALSO_TWO is Word["TWO"]
    assert (Word.FIVE, Word.FIVE.value, Word.FIVE.double) == (5, 5, 10)
    assert type(Word.FIVE.value) is int
    assert isinstance(Word.ONE, Word)
    assert isinstance(Word.ONE, int)
    assert Word.ONE in Word
    assert Word.__doc__ == "Words."
    assert {Word.ONE: "x"}[1] == "x"
    assert Word.ONE < Word.TWO
    assert max(Word) is Word.FIVE
    with pytest.raises(ValueError, match=r"3 is not a valid .*Word"):
        Word(3)
    with pytest.raises(KeyError):
        Word["THREE"]
    with pytest.raises(AttributeError):
        Word.THREE  # noqa: B018


@both_words
def test_text(Word):
    assert repr(Word.FIVE) == "<Word.FIVE: 5>"
    assert (str(Word.FIVE), f"{Word.FIVE}", f"{Word.FIVE:#x}", f"{Word.FIVE!r}") == ("5", "5", "0x5", "<Word.FIVE: 5>")
    assert json.dumps([Word.FIVE]) == "[5]"


@both_words
def test_arithmetic_gives_plain_integers(Word):
    assert Word.ONE + Word.ONE == 2
    assert type(Word.ONE + 1) is int
    assert type(Word.ONE | 4) is int
    assert Word.FIVE.to_bytes(4, "little") == b"\5\0\0\0"


@both_words
def test_copies_are_the_member(Word):
    assert copy.copy(Word.ONE) is copy.deepcopy(Word.ONE) is Word.ONE


@both_words
def test_matched(Word):
    match 5:
        case Word.ONE | Word.TWO:
            pytest.fail("matched another member")
        case Word.FIVE:
            pass


@both_bits
def test_flags_combine(Bit):
    both = Bit.A | Bit.C
    assert (both, type(both)) == (5, Bit)
    assert both is Bit(5) or both == Bit(5)
    assert Bit.A in both
    assert Bit.B not in both
    assert both & Bit.C == Bit.C
    assert type(both & 4) is type(4 & both) is Bit
    assert both ^ Bit.A == 4
    assert Bit.A | Bit.B is Bit.AB
    assert not Bit(0)
    assert Bit.A | 1 << 20 == 0x10_0001
    assert type(8 | Bit.A) is Bit
    assert [bit.name for bit in both] == ["A", "C"]
    assert [bit.name for bit in Bit] == ["A", "C", "B", "HIGH"]


@both_bits
@pytest.mark.parametrize("value", [0, 1, 3, 5, 1 << 40, (1 << 40) + 7])
def test_complements(Bit, value):
    assert ~Bit(value) == (1 << 41) - 1 - value
    assert (Bit.HIGH | Bit.A) & ~Bit.A == Bit.HIGH


@both_bits
def test_text_of_flags(Bit):
    assert repr(Bit.A) == "<Bit.A: 1>"
    assert repr(Bit.A | Bit.C) == "<Bit.A|C: 5>"
    assert (Bit.A | Bit.C).name == "A|C"
    assert repr(Bit(0)) == "<Bit: 0>"
    assert repr(Bit.A | 8) == "<Bit.A|8: 9>"
    assert str(Bit.A | Bit.C) == "5"
    assert f"{Bit.C:#x}" == "0x4"


class Pickled(enums.IntFlag):
    A = 1
    B = 2


def test_pickled():
    assert pickle.loads(pickle.dumps(Pickled.A)) is Pickled.A
    combined = pickle.loads(pickle.dumps(Pickled(7)))
    assert (combined, type(combined), combined.name) == (7, Pickled, "A|B|4")
