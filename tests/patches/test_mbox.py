import contextlib
import gzip
import shutil
import subprocess
import time

import pytest

from kvmharness.errors import UsageError
from kvmharness.patches.apply import Overlay
from kvmharness.patches.diff import PatchError
from kvmharness.patches.mbox import read_patches
from kvmharness.system.reading import Kind, ReadError
from tests.folders import MAILS

DEMO = "arch/x86/kvm/demo.c"


def read(name):
    return read_patches([(name, (MAILS / name).read_bytes())]).patches


@pytest.fixture
def tree(tmp_path):
    (tmp_path / DEMO).parent.mkdir(parents=True)
    (tmp_path / DEMO).write_text("one\ntwo\nthree = 3\nfour\nfive\n")
    return tmp_path


def result(tree, patches):
    overlay = Overlay(tree)
    for patch in patches:
        overlay = overlay.applied(patch.changes)
    return overlay.files


def test_a_thread_from_lore(tree):
    """Cover letter, a reply that quotes and proposes code, an old version, base64, quoted-printable, out of order."""
    patches = read("lore-thread.mbox")
    assert [patch.title for patch in patches] == [
        "KVM: x86: Make three larger",
        "KVM: x86: Add a summer (été)",
        "KVM: x86: Add a file",
    ]
    assert result(tree, patches) == {
        DEMO: 'one\ntwo\nthree = 33\nfour\nfrom = "été"\nfive\n'.encode(),
        "arch/x86/kvm/new.c": b"first\nFrom the second line on\n",
    }


def test_the_same_gzipped_and_with_the_mails_the_other_way_round():
    content = (MAILS / "lore-thread.mbox").read_bytes()
    mails = content.split(b"From mboxrd@z")[1:]
    turned = b"".join(b"From mboxrd@z" + mail for mail in reversed(mails))
    expected = [patch.changes for patch in read("lore-thread.mbox")]
    assert [patch.changes for patch in read_patches([("t.mbox.gz", gzip.compress(turned))]).patches] == expected


def test_a_patch_in_an_attachment_with_mail_line_ends(tree):
    assert result(tree, read("attached.mbox")) == {DEMO: b"one\ntwo\nthree = 33\nfour\nfive\n"}


def test_the_code_keeps_its_bytes_whatever_the_charset(tree):
    (patch,) = read("latin1.mbox")
    assert patch.commit == "89ab" * 10
    (tree / DEMO).write_text("one\ntwo\nthree = 33\nfour\nfive\n")
    assert result(tree, [patch])[DEMO] == b'one\ntwo\nthree = 33\nfour\nfrom = "\xe9t\xe9"\nfive\n'


def test_a_missing_patch_is_named():
    with pytest.raises(PatchError, match="patch 2 of 3 is missing from version 3"):
        read("incomplete.mbox")


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", b"\x1f\x8bbroken", b"From: a\nSubject: [PATCH 0/2] x\n\nonly words\n"]
)
def test_nothing_in_it(content):
    with pytest.raises(UsageError, match=r"no patch in it|cannot unpack it"):
        read_patches([("file", content)])


def test_two_series_at_once_are_refused():
    one = b"From: a@b\nSubject: [PATCH 1/1] %s\n\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+%s\n"
    with pytest.raises(PatchError, match="two patches are number 1"):
        read_patches([("a", one % (b"first", b"b")), ("b", one % (b"second", b"c"))])
    with pytest.raises(PatchError, match="with a number in their subject"):
        read_patches([("a", one % (b"first", b"b")), ("b", (one % (b"second", b"c")).replace(b" 1/1", b""))])


def test_a_mail_that_is_there_twice_counts_once():
    one = b"From: a@b\nSubject: [PATCH 1/1] x\n\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n"
    assert len(read_patches([("a", one), ("b", one)]).patches) == 1


def test_a_bare_diff_is_named_by_its_file():
    (patch,) = read_patches([("some/fix.diff", b"--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n")]).patches
    assert (patch.title, patch.origin) == ("fix.diff", "some/fix.diff")


def test_what_was_taken_of_a_thread_and_what_was_not():
    found = read_patches([("t", (MAILS / "lore-thread.mbox").read_bytes())])
    assert found.cover == "KVM: x86: Demo"
    assert found.notes == (
        "version 2 of the series is taken, 3 patches",
        "ignored (a reply): 'Re: [PATCH v2 1/3] KVM: x86: Make three larger'",
        "ignored (a cover letter): 'KVM: x86: Demo'",
        "ignored (of version 1): 'KVM: x86: Make three larger, old version'",
    )


def mail(subject):
    return b"From: a@b\nSubject: %s\n\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n" % subject


def test_a_lone_patch_has_nothing_to_be_said_of():
    assert read_patches([("a", mail(b"[PATCH] x"))]).notes == ()


def test_many_mails_that_are_ignored_are_counted():
    files = [("a", mail(b"[PATCH 1/1] x"))] + [(str(i), mail(b"Re: [PATCH 1/1] x%d" % i)) for i in range(5)]
    assert read_patches(files).notes == (
        "ignored (a reply): 'Re: [PATCH 1/1] x0', 'Re: [PATCH 1/1] x1', 'Re: [PATCH 1/1] x2' and 2 more",
    )


def test_a_mail_that_is_there_twice_is_said():
    assert read_patches([("a", mail(b"[PATCH 1/1] x"))] * 2).notes == ("ignored (there twice): 'x'",)


def test_the_letter_of_an_older_version_does_not_name_the_series():
    letter = b"From: a@b\nSubject: [PATCH v%d 0/1] letter %d\n\nwords\n"
    files = [("1", letter % (1, 1)), ("2", letter % (2, 2)), ("3", mail(b"[PATCH v2 1/1] x")), ("4", letter % (3, 3))]
    assert read_patches(files).cover == "letter 2"


def test_a_title_commands_no_terminal():
    (patch,) = read_patches([("a", mail(b"[PATCH] x =?utf-8?q?=1b[2J?=y"))]).patches
    assert patch.title == "x \ufffd[2Jy"


def test_a_small_file_that_unpacks_to_anything(monkeypatch):
    packed = gzip.compress(b"\0" * 100_000)
    monkeypatch.setattr("kvmharness.patches.mbox.MAILS", Kind("", 1000))
    with pytest.raises(ReadError, match="file: it is larger than"):
        read_patches([("file", packed)])


def test_a_file_that_was_not_packed_to_its_end():
    with pytest.raises(ReadError, match="cannot unpack it"):
        read_patches([("file", gzip.compress(mail(b"[PATCH] x"))[:-10])])


def cost_s(make, size):
    """What reading something of a size takes, at the best of three."""
    content, best = make(size), float("inf")
    for _ in range(3):
        started = time.perf_counter()
        with contextlib.suppress(UsageError):
            read_patches([("file", content)])
        best = min(best, time.perf_counter() - started)
    return best


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda n: b"From a " + b"00:00:00 " * n + b"\n" + mail(b"[PATCH] x"),
        lambda n: b"From a " + b"1:" * n + b"\n" + mail(b"[PATCH] x"),
        lambda n: b"From a 00:00:00 " + b"1970 " * n + b"x\n" + mail(b"[PATCH] x"),
        lambda n: b"From a 00:00:00 1970" + b" " * n + b"x\n" + mail(b"[PATCH] x"),
        lambda n: b"From " + b"a " * n + b"\n" + mail(b"[PATCH] x"),
        lambda n: b"From a 00:00:00 1970\n\n" * (n // 40),
        lambda n: b">" * n + b"From \n" + mail(b"[PATCH] x"),
        lambda n: mail(b" " * n + b"x"),
        lambda n: mail(b"[PATCH] " * n),
        lambda n: mail(b"=?utf-8?q?" * n),
        lambda n: b"a" * n + b": \n",
        lambda n: b"--- a/x\n+++ b/x\n" * n,
        lambda n: b'diff --git "' + b'\\"' * n + b"\n",
        lambda n: b"From: a\nSubject: [PATCH] x\n" + b"Content-Type: a;\n" + b" b=c;\n" * n + b"\n--- a\n",
    ],
)
def test_what_it_takes_grows_with_the_size_and_not_faster(make):
    """Sixteen times as much may take forty times as long, not 256 times."""
    small = cost_s(make, 4_000)
    assert cost_s(make, 64_000) < 40 * small + 0.05


@pytest.mark.slow
def test_a_series_of_1500_patches():
    one = b"From a 00:00:00 1970\n" + mail(b"[PATCH %d/1500] x%d") + b"\n"
    started = time.perf_counter()
    mails = read_patches([("file", b"".join(one % (n, n) for n in range(1, 1501)))])
    assert [patch.title for patch in mails.patches] == [f"x{n}" for n in range(1, 1501)]
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("word", [b"1/1000000000", b"999999999999/1", b"1/" + b"9" * 1500, b"v" + b"9" * 1500])
def test_a_subject_that_counts_too_far(word):
    with pytest.raises(PatchError, match=r"its subject counts to .*; the limit is 9999"):
        read_patches([("a", mail(b"[PATCH " + word + b"] x"))])


def test_many_missing_patches_are_counted():
    with pytest.raises(PatchError, match="patch 2, 3, 4 and 9995 more of 9999 is missing"):
        read_patches([("a", mail(b"[PATCH 1/9999] x"))])


@pytest.mark.parametrize("charset", ["idna", "undefined", "punycode", "a\0b", "rot13", "zip", "nonsense", "x" * 3000])
def test_a_charset_that_is_none(charset):
    (patch,) = read_patches([("a", mail(f"[PATCH] =?{charset}?q?x?=".encode()))]).patches
    assert patch.title


@pytest.mark.parametrize("text", ["A", "====", "////A", "\xff"])
def test_a_broken_encoded_word_stays_as_it_is(text):
    (patch,) = read_patches([("a", mail(f"[PATCH] =?utf-8?b?{text}?=".encode()))]).patches
    assert patch.title


@pytest.mark.parametrize(
    "head",
    [
        b"From: a\nSubject: x\nContent-Type: message/rfc822\n\n",
        b"From: a\nContent-Type:\n multipart/mixed; boundary=b\n\n--b\n",
        b"From: a\rContent-Type: multipart/mixed; boundary=b\r\r--b\r",
    ],
)
def test_mails_in_mails_without_end(head):
    assert read_patches([("a", b"From: a\nSubject: x\nContent-Type: message/rfc822\n\n" + mail(b"[PATCH] x"))])
    with pytest.raises(ReadError, match="nested more than 32 deep, which is the limit"):
        read_patches([("a", head * 3000 + mail(b"[PATCH] x"))])


@pytest.mark.skipif(not shutil.which("git"), reason="git: apt install git")
@pytest.mark.slow
def test_git_am_makes_the_same_of_the_encodings(tree):
    """Each of the thread's patches by itself, in its order, through git's own mail reader."""
    content = (MAILS / "lore-thread.mbox").read_bytes()
    mails = [b"From mboxrd@z" + mail for mail in content.split(b"From mboxrd@z")[1:]]
    chosen = [mails[i] for i in (3, 5, 0)]
    git = ["git", "-C", str(tree), "-c", "user.name=t", "-c", "user.email=t@example.org"]

    def run(*arguments, data=None):
        return subprocess.run([*git, *arguments], input=data, check=True, capture_output=True)

    patches = read("lore-thread.mbox")
    expected = result(tree, patches)
    run("init", "-q")
    run("add", "-A")
    run("commit", "-q", "-m", "base")
    run("am", "-q", data=b"".join(chosen))
    assert {path: (tree / path).read_bytes() for path in expected} == expected
