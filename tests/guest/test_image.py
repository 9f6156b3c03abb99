"""Images: places in words, and the journey to another machine."""

import json

import pytest

from kvmharness.errors import UsageError
from kvmharness.guest import shipped as programs
from kvmharness.guest.image import Image, Line

IMAGE = Image(
    name="some",
    origin=0x1000,
    code=bytes(0x20),
    symbols={"entry": 0x1000, "loop": 0x1008, "alias": 0x1008},
    header={"mode": "long64"},
    lines=(Line(0x1000, 8, "some.asm", 1, "entry: nop"),),
)


@pytest.mark.parametrize(
    ("address", "words"),
    [(0x1000, "entry"), (0x1007, "entry+0x7"), (0x1010, "loop+0x8"), (0x1020, "0x1020"), (0xFFF, "0xfff")],
)
def test_addresses_in_words(address, words):
    assert IMAGE.symbol_at(address) == words


def test_everything_but_the_listing_travels():
    again = Image.from_json(json.loads(json.dumps(IMAGE.to_json())))
    assert again == Image(IMAGE.name, IMAGE.origin, IMAGE.code, IMAGE.symbols, IMAGE.header)


def test_unpacked_images_need_no_assembler(monkeypatch):
    packed = json.loads(json.dumps(programs.pack()))
    assert set(packed) == set(programs.names())
    monkeypatch.setattr(programs, "_unpacked", {})
    monkeypatch.setattr(programs, "assemble_file", None)
    try:
        programs.unpack(packed)
        for name in programs.names():
            assert programs.image(name).to_json() == packed[name]
    finally:
        programs.image.cache_clear()


def test_an_unknown_program_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="l3") as caught:
        programs.image("l3")
    assert "mov_cr3" in caught.value.hint
