import io
import os

import pytest

from kvmharness.errors import UsageError
from kvmharness.patches.diff import PatchError
from kvmharness.patches.series import load, shipped
from kvmharness.system.reading import Kind, ReadError
from tests.folders import FAULTS, MAILS

PATCH = "From: a@b.example\nSubject: [PATCH] KVM: x86: {}\n\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-{}\n+{}\n"


@pytest.fixture
def folder(tmp_path):
    for number, (title, old, new) in enumerate([("First", "a", "b"), ("Second", "b", "c")], 1):
        (tmp_path / f"{number:04}-x.patch").write_text(PATCH.format(title, old, new))
    (tmp_path / "0000-cover-letter.patch").write_text("From: a@b.example\nSubject: [PATCH 0/2] Both\n\nWords.\n")
    (tmp_path / "notes.txt").write_text("nothing\n")
    return tmp_path


def titles(series):
    return [patch.title for patch in series.sets[0].patches]


def test_the_shipped_series():
    assert shipped() == ("fast-cr3-switch",)
    series = load("fast-cr3-switch")
    assert [candidate.label for candidate in series.sets] == ["6.1", "6.12"]
    for candidate in series.sets:
        assert [patch.title for patch in candidate.patches] == [
            "KVM: x86/mmu: Ignore guest CR3 on fast root switch for direct MMU",
            "KVM: x86/mmu: Reuse the current root if possible for fast switch",
        ]
    assert series.oracle == "root-cache"
    assert series.claims


def test_a_folder_of_patches_claims_nothing_itself(folder):
    series = load(str(folder))
    assert titles(series) == ["KVM: x86: First", "KVM: x86: Second"]
    assert series.oracle == "root-cache"
    assert (series.claims, series.waivers) == ((), ())


def test_quilts_order_counts(folder):
    (folder / "series").write_text("# order\n0002-x.patch -p1\n\n0001-x.patch\n")
    assert titles(load(str(folder))) == ["KVM: x86: Second", "KVM: x86: First"]


def test_one_file(folder):
    assert titles(load(str(folder / "0002-x.patch"))) == ["KVM: x86: Second"]


CLAIM = '[[claim]]\nname = "{}"\ntext = "{}"\n'


def test_claims_instead_of_the_series_own(folder):
    series = load(str(folder), claims="fast-cr3-switch", claims_only=True)
    assert series.oracle == "root-cache"
    assert series.claims == load("fast-cr3-switch").claims
    assert series.notes == ()
    (folder / "mine.toml").write_text(CLAIM.format("mine", "x"))
    mine = load(str(folder), claims=str(folder / "mine.toml"), claims_only=True)
    assert mine.claims == ({"name": "mine", "text": "x"},)
    assert mine.claims_path == str(folder / "mine.toml")


def test_claims_besides_the_series_own(folder):
    (folder / "series.toml").write_text(CLAIM.format("own", "x") + CLAIM.format("same", "x") + CLAIM.format("both", ""))
    mine = folder / "mine.toml"
    mine.write_text(CLAIM.format("mine", "x") + CLAIM.format("same", "y") + CLAIM.format("both", ""))
    series = load(str(folder), claims=str(mine))
    assert [(claim["name"], claim["text"]) for claim in series.claims] == [
        ("own", "x"),
        ("mine", "x"),
        ("same", "y"),
        ("both", ""),
    ]
    assert series.notes == (f"claim 'same' is that of {mine}, not the series' own",)
    assert series.claims_path == f"{folder / 'series.toml'} and {mine}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[claims]]\nname = 'x'\n", "unknown key 'claims'"),
        ("", "claims nothing"),
        ("oracle = 'root-cache'\n", "claims nothing"),
        ("claim = 3\n", "no list of tables"),
        ("[claim]\nname = 'x'\n", "no list of tables"),
    ],
)
def test_a_file_of_claims_without_claims(folder, text, message):
    (folder / "mine.toml").write_text(text)
    with pytest.raises(PatchError, match=message):
        load(str(folder), claims=str(folder / "mine.toml"))


def stdin(monkeypatch, content):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_mails_on_the_standard_input(monkeypatch):
    stdin(monkeypatch, (MAILS / "lore-thread.mbox").read_bytes())
    series = load("-")
    assert len(titles(series)) == 3
    assert series.name == series.title == "KVM: x86: Demo"
    stdin(monkeypatch, PATCH.format("First", "a", "b").encode())
    assert load("-").name == "KVM: x86: First"


def test_a_standard_input_that_is_no_series(monkeypatch):
    stdin(monkeypatch, b"")
    with pytest.raises(PatchError, match="standard input: no patch in it"):
        load("-")
    monkeypatch.setattr("kvmharness.patches.series.MAILS", Kind("", 1 << 20))
    stdin(monkeypatch, bytes(1 + (1 << 20)))
    with pytest.raises(ReadError, match="standard input: it is larger than 1 MiB"):
        load("-")
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ReadError, match="there is no standard input"):
        load("-")


def test_a_pipe_belongs_on_the_standard_input():
    reader, writer = os.pipe()
    os.close(writer)
    with pytest.raises(ReadError, match="it is a pipe, not a regular file") as caught:
        load(f"/dev/fd/{reader}")
    assert "`-` reads a pipe" in caught.value.hint
    os.close(reader)


def test_a_described_folder(folder):
    (folder / "series.toml").write_text('title = "Two"\noracle = "none"\nwithout = "fast-cr3-switch"\n')
    series = load(str(folder))
    assert (series.title, series.oracle) == ("Two", "none")
    assert series.without is not None
    assert series.without.name == "fast-cr3-switch"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("titel = 1\n", "unknown key 'titel'"),
        ("oracle = ['root-cache']\n", r"oracle = \['root-cache'\], a list is none"),
        ("oracle = 'p1'\n", "oracle = 'p1' is none"),
        ("title = \n", "it is not TOML"),
        ("claims-of = 'nowhere'\n", "cannot read"),
        ("without = 'nowhere'\n", "without = 'nowhere': no series of that name, and no path"),
        ("without = 3\n", "without = 3, an integer: a text is expected"),
        ("name = ['x']\n", "name = .* a text is expected"),
        ("claim = 'x'\n", "no list of tables"),
    ],
)
def test_a_wrong_description_is_said(folder, text, message):
    (folder / "series.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        load(str(folder))


def test_a_series_that_takes_itself_out(folder, monkeypatch):
    (folder / "series.toml").write_text(f"without = '{folder}'\n")
    with pytest.raises(PatchError, match="the series names itself"):
        load(str(folder))


def test_what_is_not_there(tmp_path):
    with pytest.raises(PatchError, match="no series 'nowhere'") as caught:
        load("nowhere")
    assert "fast-cr3-switch" in caught.value.hint
    with pytest.raises(PatchError, match="no patch in"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    "word", ["-", "--output=x", "--output=x..y", "HEAD~1..HEAD", "/dev/null/x", "x" * 5000, "a\\u0000b"]
)
def test_what_is_taken_out_is_a_shipped_series_or_a_path(folder, word, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)  # a dash would read it
    (folder / "series.toml").write_text(f'without = "{word}"\n')
    with pytest.raises(PatchError, match="no series of that name, and no path"):
        load(str(folder))


def test_what_is_taken_out_may_be_another_folder(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.patch").write_text(PATCH.format("Other", "a", "b"))
    (folder / "series.toml").write_text(f'without = "{other}"\n')
    series = load(str(folder))
    assert series.without is not None
    assert series.without.name == "other"
    (other / "series.toml").write_text('without = "fast-cr3-switch"\n')
    with pytest.raises(PatchError, match="is itself without another one"):
        load(str(folder))


@pytest.mark.parametrize("word", ["-", "--output=x"])
def test_claims_are_not_those_of_an_option(folder, word):
    (folder / "series.toml").write_text(f'claims-of = "{word}"\n')
    with pytest.raises(PatchError, match="a shipped series or a path is expected"):
        load(str(folder))


DEEP = "a." * 50_000 + "b"


@pytest.mark.parametrize("text", [f"{DEEP} = 1", f"x = {{{DEEP} = 1}}", f"[{DEEP}]", "a = " + "[" * 50_000])
def test_tables_in_tables_without_end(folder, text):
    (folder / "series.toml").write_text(text)
    with pytest.raises(ReadError, match="nested more than 32 deep, which is the limit"):
        load(str(folder))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 1979-05-27", "name = datetime.date.*, a date or a time: a text is expected"),
        ("title = 1.5", "title = 1.5, a number: a text is expected"),
        ("oracle = [[]]", r"oracle = \[\[\]\], a list is none"),
        ("claims-of = {a = 1}", "claims-of = {'a': 1}, a table: a text is expected"),
        ("claim = true", "claim = True, a truth value: no list of tables"),
        ("waive = [1]", "waive = 1, an integer: no list of tables"),
        (f"name = {[0] * 1000}", r"name = \[0, .*\.\.\., a list: a text"),
        ("name = " + "9" * 5000, "it is not TOML"),
    ],
)
def test_a_wrong_type_is_named_with_what_is_expected(folder, text, message):
    (folder / "series.toml").write_text(text + "\n")
    with pytest.raises(UsageError, match=message):
        load(str(folder))


@pytest.mark.parametrize("name", sorted(path.parent.name for path in FAULTS.glob("*/series.toml")))
def test_seeded_faults_are_judged_by_the_true_claims(name):
    series = load(str(FAULTS / name))
    assert series.claims == load("fast-cr3-switch").claims
    assert series.oracle == "root-cache"
    assert len(series.sets[0].patches) == 2
