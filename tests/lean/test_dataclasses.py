"""The cheap dataclasses against the standard library's: every class is made by both and must behave alike."""

import copy
import dataclasses
import pickle
import subprocess
import sys
from typing import ClassVar

import pytest

from kvmharness.lean import dataclasses as values


def both(make):
    return pytest.mark.parametrize("made", [make(dataclasses), make(values)], ids=["standard", "ours"])


def points(kind):
    @kind.dataclass(frozen=True, slots=True)
    class Point:
        """A point."""

        x: int
        y: int = 2
        tags: dict = kind.field(default_factory=dict)
        zero: ClassVar[int] = 0

        def __post_init__(self):
            if self.x < 0:
                raise ValueError("negative")

        @property
        def sum(self):
            return self.x + self.y

    return Point


def open_points(kind):
    @kind.dataclass
    class Open:
        x: int
        y: list = kind.field(default_factory=list)
        z: int = 3

    return Open


def derived(kind):
    @kind.dataclass(frozen=True, slots=True)
    class Base:
        x: int
        y: int = 1

    @kind.dataclass(frozen=True, slots=True)
    class Derived(Base):
        z: int = 2

    return Derived


@both(points)
def test_frozen(made):
    point = made(1, tags={"a": 1})
    assert (point.x, point.y, point.tags, point.zero, point.sum) == (1, 2, {"a": 1}, 0, 3)
    assert point == made(x=1, y=2, tags={"a": 1})
    assert point != made(2, tags={"a": 1})
    assert point != (1, 2, {"a": 1})
    assert repr(point).endswith("points.<locals>.Point(x=1, y=2, tags={'a': 1})")
    assert made.__match_args__ == ("x", "y", "tags")
    assert made.__doc__ == "A point."
    assert made(1).tags is not made(1).tags
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.x = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        del point.x
    assert not hasattr(point, "__dict__")
    assert hash(made(1, 2, ())) == hash(made(1, 2, ()))
    with pytest.raises(ValueError, match="negative"):
        made(-1)


@both(points)
def test_the_standard_functions_take_it(made):
    point = made(1)
    assert dataclasses.is_dataclass(made)
    assert dataclasses.asdict(point) == {"x": 1, "y": 2, "tags": {}}
    assert dataclasses.replace(point, y=5) == made(1, 5)
    assert [entry.name for entry in dataclasses.fields(made)] == ["x", "y", "tags"]
    assert [entry.default for entry in dataclasses.fields(point)][1] == 2


@both(points)
def test_wrong_arguments(made):
    for args, given in [((), {}), ((1, 2, {}, 4), {}), ((1,), {"x": 1}), ((1,), {"w": 1})]:
        with pytest.raises(TypeError):
            made(*args, **given)


@both(points)
def test_copies(made):
    point = made(1, 2, {"a": []})
    assert copy.copy(point) == copy.deepcopy(point) == point
    assert copy.deepcopy(point).tags["a"] is not point.tags["a"]


@both(open_points)
def test_open(made):
    point = made(1)
    point.x, point.extra = 5, 6
    point.y.append(1)
    assert point == made(5, [1])
    assert made(1).y == []
    assert made.z == 3
    with pytest.raises(TypeError, match="unhashable"):
        hash(point)


def without_slots(kind):
    @kind.dataclass
    class Plain:
        x: int = kind.field(default=4)

    return Plain


def unevaluated(kind):
    namespace = {"dataclass": kind.dataclass, "ClassVar": ClassVar, "__name__": __name__}
    exec(
        "from __future__ import annotations\n@dataclass(slots=True)\nclass Later:\n"
        "    x: list[Unknown]\n    y: ClassVar[int] = 3\n",
        namespace,
    )
    return namespace["Later"]


@both(without_slots)
def test_a_default_given_by_field_is_the_classs_too(made):
    assert (made.x, made().x) == (4, 4)


@both(unevaluated)
def test_annotations_may_be_text(made):
    assert made.__match_args__ == ("x",)
    assert (made(1).x, made.y) == (1, 3)


@both(derived)
def test_fields_of_the_base_come_first(made):
    assert made(1, z=5) == made(1, 1, 5)
    assert made.__match_args__ == ("x", "y", "z")
    assert [entry.name for entry in dataclasses.fields(made)] == ["x", "y", "z"]


@values.dataclass(frozen=True, slots=True)
class Pickled:
    x: int


def test_pickled():
    assert pickle.loads(pickle.dumps(Pickled(1))) == Pickled(1)


def test_own_replace_and_fields():
    assert values.replace(Pickled(1), x=2) == Pickled(2)
    assert [entry.name for entry in values.fields(Pickled)] == ["x"]
    with pytest.raises(TypeError, match="'y'"):
        values.replace(Pickled(1), y=2)


def test_a_bases_own_repr_is_kept():
    class Base:
        def __repr__(self):
            return "<base>"

    @values.dataclass
    class Derived(Base):
        x: int = 0

    assert repr(Derived()) == "<base>"


def test_matched_by_position():
    match Pickled(7):
        case Pickled(x):
            assert x == 7


@pytest.mark.parametrize(
    ("module", "not_loaded"),
    [
        ("kvmharness.cells.execute", {"dataclasses", "inspect"}),
        ("kvmharness.lab.inside.agent", {"dataclasses", "inspect", "typing", "traceback", "subprocess"}),
    ],
)
def test_what_runs_inside_an_emulated_host_loads_no_standard_dataclasses(module, not_loaded):
    """They bring inspect, ast and tokenize along, half a second each time a host is booted."""
    script = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not_loaded & set(done.stdout.split()) == set()
