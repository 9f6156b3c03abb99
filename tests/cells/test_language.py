"""The language of cells: every cell has a name of its own that can be typed back, and what is no cell says where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmharness.cells.cell import Cell, Order, Setup
from kvmharness.cells.language import explain
from kvmharness.errors import UsageError

COUNT = st.integers(1, 4095)
NAME = st.text("abcdefghijklmnopqrstuvwxyzAZ_0189", min_size=1, max_size=8)
OTHER_PARAMS = st.dictionaries(
    st.builds(
        "{}.{}".format,
        st.sampled_from(["kvm", "kvm_intel", "kvm_amd"]),
        st.sampled_from(["tdp_mmu", "ept", "npt", "vpid", "nested", "tdp", "vls"]) | NAME,
    ),
    st.text("abcXYZ019_+,-.:", min_size=1, max_size=6),
    max_size=3,
)


@st.composite
def cells(draw):
    """Any cell that makes sense, by what a set-up is: nothing here is taken from the table."""
    setup = draw(st.sampled_from(["a", "b", "c", "d"]))
    fields = {"host_cr3s": draw(COUNT), "guest_cr3s": 0, "pcid": draw(st.booleans())}
    if setup != "d":
        fields |= {"guest_cr3s": draw(COUNT), "vpid": draw(st.booleans()), "l2_moves_cr3": draw(st.booleans())}
    if setup in ("b", "c"):
        fields |= {"eptps": 1, "invept_every": draw(st.integers(0, 4095))}
    if setup == "c":
        fields |= {"eptps": draw(COUNT), "order": draw(st.sampled_from(list(Order)))}
        if draw(st.booleans()):
            fields |= {"host_cr3s": 1, "guest_cr3s": 1}  # which ids leave out
    params = draw(OTHER_PARAMS)
    if draw(st.booleans()):
        params = {name: value for name, value in params.items() if name not in ("kvm_intel.ept", "kvm_amd.npt")}
        params["tdp"] = "0"
    return Cell(setup=Setup(setup), params=tuple(sorted(params.items())), **fields)


@given(cells())
def test_every_cell_can_be_typed_back(cell):
    """And so two cells never share an id."""
    assert Cell.parse(cell.id) == cell
    assert Cell.from_json(cell.to_json()) == cell
    assert not set(cell.id) & set("*?[]{}")


@given(st.text("abcdez:0123x/ABpcidnovinetl2r=.*_", max_size=20) | st.text(max_size=20))
def test_any_text_is_a_cell_or_refused_in_one_message(text):
    try:
        cell = Cell.parse(text)
    except UsageError as e:
        refused = e
    else:
        assert Cell.parse(cell.id) == cell
        return
    assert repr(text) in str(refused)
    assert refused.hint


@pytest.mark.parametrize(
    ("text", "id_"),
    [
        ("a:3x3/novpid/pcid", "a:3x3/pcid/novpid"),
        ("a:3x3/tdp_mmu=N/pcid", "a:3x3/pcid/tdp_mmu=N"),
        ("a:3x3/kvm.tdp_mmu=N", "a:3x3/tdp_mmu=N"),
        ("c:3/AABB/1x1", "c:3/AABB"),
        ("a:3x3/tdp=0", "e:3x3"),
        ("e:3x3/tdp=0", "e:3x3"),
        ("e:3x3/ept=0", "a:3x3/ept=0"),  # the label of a cell that ran, and what it was called
        ("e:3x3/npt=N/novpid", "a:3x3/novpid/npt=N"),
    ],
)
def test_the_same_cell_written_otherwise(text, id_):
    assert Cell.parse(text).id == id_


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("z:3", "it begins with 'z', where a set-up is expected: a, b, c, d, e"),
        ("a", "a:N1xN2 is expected"),
        ("a:", "nothing stands where N1xN2 of a:N1xN2 is expected, numbers from 1 to 4095"),
        ("e:3", "'3' stands where N1xN2 of e:N1xN2 is expected"),
        ("a:03x3", "'03x3' stands where N1xN2"),
        ("a:99999x1", "'99999x1' stands where N1xN2"),
        ("a:5000x1", "host_cr3s = 5000: a number from 1 to 4095"),
        ("c:3", "nothing stands where ORDER of c:E/ORDER[/N1xN2] is expected, one of ABAB, AABB"),
        ("c:3/BABA", "'BABA' stands where ORDER"),
        ("d:3x3", "'3x3' stands where N1 of d:N1 is expected"),
        ("a:3x3/", "'' stands where a mark is expected: pcid, novpid, inveptN, l2cr3, or parameter=value"),
        ("a:3x3/3x3", "'3x3' stands where a mark is expected"),
        ("b:3x3/invept0", "'invept0' stands where a mark is expected"),
        ("a:3x3/pcid/pcid", "'pcid': it is said twice"),
        ("b:3x3/invept3/invept4", "'invept4': it is said twice"),
        ("a:3x3/tdp_mmu=N/kvm.tdp_mmu=Y", "'kvm.tdp_mmu=Y': it is said twice"),
        ("a:3x3/vls=0", "which module has the parameter 'vls'?"),
        ("a:3x3/=0", "'=0' stands where parameter=value is expected"),
        ("a:3x3/ept=", "kvm_intel.ept = ''"),
        ("d:5/novpid", "vpid = False: there is no L2 in set-up (d)"),
        ("a:3x3/invept8", "invept_every = 8: L1 gives L2 no EPT in set-up (a)"),
        ("e:3x3/ept=1", "tdp=0 stands for the other one"),
    ],
)
def test_where_it_goes_wrong(text, says):
    with pytest.raises(UsageError) as caught:
        Cell.parse(text)
    assert f"{text!r} is no cell: " in str(caught.value)
    assert says in str(caught.value)
    assert caught.value.hint


def test_the_explanation_names_every_set_up_and_mark():
    lines = [line.split() for line in explain().splitlines()]
    forms = [words[0] for words in lines if words[0][1:2] == ":" or words[0][0] == "/"]
    assert forms[:5] == ["a:N1xN2", "b:N1xN2", "c:E/ORDER[/N1xN2]", "d:N1", "e:N1xN2"]
    assert forms[5:] == ["/pcid", "/novpid", "/inveptN", "/l2cr3", "/parameter=value", "/tdp=0"]
