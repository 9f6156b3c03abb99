import difflib
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmharness.patches.apply import Overlay
from kvmharness.patches.diff import PatchError, parse

LINES = [f"line {n}\n" for n in range(1, 41)]


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "f.c").write_text("".join(LINES))
    return tmp_path


def diff(old, new, path="f.c", context=3):
    """A unified diff by the standard library, as another pair of eyes."""
    return "".join(difflib.unified_diff(old, new, f"a/{path}", f"b/{path}", n=context)).encode()


def changed(at, to, lines=LINES):
    return [*lines[: at - 1], *to, *lines[at:]]


def test_a_patch_applies_in_memory_only(tree):
    new = changed(20, ["twenty\n"])
    after = Overlay(tree).applied(parse(diff(LINES, new)))
    assert after.files == {"f.c": "".join(new).encode()}
    assert after.notes == ()
    assert (tree / "f.c").read_text() == "".join(LINES)


def test_a_hunk_that_has_moved_is_found(tree):
    patch = parse(diff(LINES, changed(20, ["twenty\n"])))
    (tree / "f.c").write_text("".join(["new\n"] * 7 + LINES))
    after = Overlay(tree).applied(patch)
    assert after.files["f.c"] == "".join(["new\n"] * 7 + changed(20, ["twenty\n"])).encode()
    assert [str(note) for note in after.notes] == ["hunk #1 of f.c applied +7 lines away"]


@pytest.mark.parametrize("start", [0, 999_999_999_999, 10**18 - 1])
def test_a_hunk_that_says_to_be_far_away_is_found_or_not_at_once(tree, start):
    patch = diff(LINES, changed(20, ["twenty\n"])).replace(b"@@ -17,7", b"@@ -%d,7" % start)
    assert Overlay(tree).applied(parse(patch)).files["f.c"] == "".join(changed(20, ["twenty\n"])).encode()
    with pytest.raises(PatchError, match=r"hunk #1 of f\.c"):
        Overlay(tree).applied(parse(patch.replace(b"line 20", b"line 2x")))


def test_line_ends_of_another_system_are_said(tree):
    patch = diff(LINES, changed(20, ["twenty\n"]))
    whole = patch.replace(b"\n", b"\r\n")
    assert Overlay(tree).applied(parse(whole)).files["f.c"] == "".join(changed(20, ["twenty\n"])).encode()
    with pytest.raises(PatchError, match="its lines end in CRLF, and those of the file in LF"):
        Overlay(tree).applied(parse(b"A letter.\n" + whole))


def test_the_nearest_of_two_places_is_taken(tree):
    block = [f"same {n}\n" for n in range(7)]
    old = block + LINES + block
    (tree / "f.c").write_text("".join(old))
    target = len(block) + len(LINES) + 4  # the fourth line of the second block
    new = changed(target, ["changed\n"], old)
    assert Overlay(tree).applied(parse(diff(old, new))).files["f.c"] == "".join(new).encode()


def test_outer_context_may_differ_but_never_the_innermost(tree):
    patch = parse(diff(LINES, changed(20, ["twenty\n"])))  # context: lines 17 to 23
    (tree / "f.c").write_text("".join(changed(17, ["other\n"])))
    after = Overlay(tree).applied(patch)
    assert after.files["f.c"] == "".join(changed(20, ["twenty\n"], changed(17, ["other\n"]))).encode()
    assert after.notes[0].fuzz == 1
    with pytest.raises(PatchError):
        Overlay(tree).applied(patch, fuzz=0)
    (tree / "f.c").write_text("".join(changed(19, ["other\n"])))
    with pytest.raises(PatchError, match=r"hunk #1 of f\.c"):
        Overlay(tree).applied(patch)


def test_the_failing_hunk_and_its_file_are_named(tree):
    new = changed(35, ["x\n"], changed(5, ["y\n"]))
    patch = parse(diff(LINES, new))
    (tree / "f.c").write_text("".join(changed(35, ["something else\n"])))
    with pytest.raises(PatchError) as caught:
        Overlay(tree).applied(patch)
    assert (caught.value.path, caught.value.hunk) == ("f.c", 2)
    assert "hunk #2 of f.c does not apply: around line 35 there is no line 'line 35'" in str(caught.value)


def test_create_delete_rename_and_copy(tree):
    patch = parse(
        b"--- /dev/null\n+++ b/new.c\n@@ -0,0 +1 @@\n+hello\n"
        b"diff --git a/f.c b/g.c\nrename from f.c\nrename to g.c\n"
        b"diff --git a/g.c b/h.c\ncopy from g.c\ncopy to h.c\n"
        b"--- a/new.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-hello\n"
    )
    start = Overlay(tree)
    after = start.applied(patch)
    content = "".join(LINES).encode()
    assert after.files == {"f.c": None, "g.c": content, "h.c": content}
    assert after.undone(patch).files == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"--- a/none.c\n+++ b/none.c\n@@ -1 +1 @@\n-a\n+b\n", "none.c is not in"),
        (b"--- /dev/null\n+++ b/f.c\n@@ -0,0 +1 @@\n+hello\n", "f.c exists already"),
        (b"--- a/f.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-line 1\n", "has other content"),
    ],
)
def test_files_that_should_not_be_or_should(tree, text, message):
    with pytest.raises(PatchError, match=message):
        Overlay(tree).applied(parse(text))


def test_no_patch_goes_through_a_symbolic_link(tree, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret").write_text("line 1\n")
    (tree / "linked").symlink_to(outside)
    (tree / "file").symlink_to(tree / "f.c")
    for path in ("linked/secret", "file"):
        with pytest.raises(PatchError, match="symbolic link"):
            Overlay(tree).applied(parse(f"--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-line 1\n+x\n".encode()))


texts = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "{\n", "}\n", "\n", "\tx\r\n", "é\n"]), max_size=30)


@given(old=texts, new=texts, context=st.integers(0, 4))
def test_difflib_and_the_applier_agree_both_ways(old, new, context):
    tree = _PlainTree({"f.c": "".join(old).encode()})
    patch = parse(diff(old, new, context=context))
    after = tree.applied(patch, fuzz=0)
    assert after.read("f.c") == "".join(new).encode()
    assert after.undone(patch).read("f.c") == "".join(old).encode()


class _PlainTree(Overlay):
    """An overlay over no tree at all: all its files are in memory."""

    def __init__(self, files):
        super().__init__("", files, originals=dict.fromkeys(files))


@pytest.mark.skipif(not shutil.which("git"), reason="git: apt install git")
@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(old=texts, new=texts, ends=st.tuples(st.booleans(), st.booleans()))
def test_git_and_the_applier_agree(tmp_path_factory, old, new, ends):
    folder = tmp_path_factory.mktemp("git")
    contents = ["".join(lines).encode() for lines in (old, new)]
    contents = [text.removesuffix(b"\n") if cut else text for text, cut in zip(contents, ends, strict=True)]
    for name, text in zip(("a", "b"), contents, strict=True):
        (folder / name).mkdir()
        (folder / name / "f.c").write_bytes(text)
    command = ["git", "-c", "core.autocrlf=false", "diff", "--no-index", "--no-prefix", "a/f.c", "b/f.c"]
    text = subprocess.run(command, cwd=folder, capture_output=True, check=False).stdout
    patch = parse(text)
    after = Overlay(folder / "a").applied(patch)
    assert after.read("f.c") == contents[1]
    assert after.undone(patch).files == {}
