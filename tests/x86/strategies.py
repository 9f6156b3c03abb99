"""Hypothesis strategies and helpers for the table builders."""

from hypothesis import strategies as st

PAGE_SIZES = (1 << 12, 1 << 21, 1 << 30)


def reader(base: int, image: bytes):
    """Physical memory that holds only `image` at `base`; any other read fails the test."""

    def read_u64(gpa: int) -> int:
        assert base <= gpa <= base + len(image) - 8, f"read outside of the tables: {gpa:#x}"
        return int.from_bytes(image[gpa - base : gpa - base + 8], "little")

    return read_u64


@st.composite
def mappings(draw, input_bits: int = 47):
    """Distinct, non-overlapping (address, target, page_bytes, flag index): e.g. [(0x40000000, 0x1000, 4096, 2)].

    Each lies in a 1 GiB region of its own, so that pages of different size never overlap.
    """
    regions = draw(st.lists(st.integers(0, (1 << input_bits - 30) - 1), unique=True, min_size=1, max_size=6))
    result = []
    for region in regions:
        size = draw(st.sampled_from(PAGE_SIZES))
        offset = draw(st.integers(0, (1 << 30) // size - 1)) * size
        target = draw(st.integers(0, (1 << 46) // size - 1)) * size
        result.append((region << 30 | offset, target, size, draw(st.integers(0, 7))))
    return result
