import os
import shutil
import subprocess

import pytest

from kvmharness.patches.apply import Overlay
from kvmharness.patches.diff import PatchError
from kvmharness.patches.gitrange import is_range, patches_between

pytestmark = [
    pytest.mark.skipif(not shutil.which("git"), reason="git: apt install git"),
    pytest.mark.slow,
]
FILE = "arch/x86/kvm/x86.c"


@pytest.fixture
def git(tmp_path, monkeypatch):
    """A repository with three commits, and a user's configuration that would change what git prints."""
    config = tmp_path / "config"
    config.write_text(
        "[user]\nname = t\nemail = t@example.org\n[diff]\nnoprefix = true\nrenames = copies\n"
        "[format]\nattach = true\nsubjectPrefix = FOO\nnumbered = false\ncoverLetter = true\nsignature = --- a/x\n"
        "[core]\nquotePath = true\n[color]\nui = always\n[init]\ndefaultBranch = main\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    tree = tmp_path / "linux"
    (tree / FILE).parent.mkdir(parents=True)

    def run(*arguments):
        return subprocess.run(
            ["git", "-C", str(tree), *arguments], check=True, capture_output=True, env=os.environ
        ).stdout.decode()

    run("init", "-q")
    for number in range(3):
        lines = [f"line {n}\n" if n != 10 * number else f"é changed {n}\n" for n in range(40)]
        (tree / FILE).write_text("".join(lines))
        run("add", "-A")
        run("commit", "-q", "-m", f"KVM: x86: Step {number}")
    return tree, run


def test_commits_become_patches_oldest_first(git):
    tree, run = git
    patches = patches_between(tree, "HEAD~2..HEAD").patches
    assert [patch.title for patch in patches] == ["KVM: x86: Step 1", "KVM: x86: Step 2"]
    assert patches[1].commit == run("rev-parse", "HEAD").strip()
    overlay = Overlay(tree)
    for patch in reversed(patches):
        overlay = overlay.undone(patch.changes)
    assert overlay.files[FILE].decode() == run("show", f"HEAD~2:{FILE}")
    assert run("status", "--porcelain") == ""


@pytest.mark.parametrize("spec", ["--output=x..HEAD", "HEAD..--output=x", "-x..-y", "HEAD\0..HEAD"])
def test_a_revision_is_never_an_option(git, tmp_path, monkeypatch, spec):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PatchError, match="names no revisions: none begins with a dash"):
        patches_between(git[0], spec)
    assert not (tmp_path / "x").exists()


def test_a_merge_is_refused(git):
    tree, run = git
    run("checkout", "-q", "-b", "side", "HEAD~1")
    (tree / "other").write_text("x\n")
    run("add", "-A")
    run("commit", "-q", "-m", "side")
    run("merge", "-q", "--no-edit", "main")
    with pytest.raises(PatchError, match="contains the merge"):
        patches_between(tree, "main~1..HEAD")


@pytest.mark.parametrize(
    ("spec", "message"),
    [("nowhere..HEAD", "failed for nowhere..HEAD: fatal: bad revision"), ("HEAD..HEAD", "no patch in it")],
)
def test_revisions_that_are_no_series(git, spec, message):
    with pytest.raises(PatchError, match=message):
        patches_between(git[0], spec)


def test_a_folder_that_is_no_repository(tmp_path):
    with pytest.raises(PatchError, match="not a git repository"):
        patches_between(tmp_path, "a..b")


def test_what_is_a_range(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_range("v6.1..kvm/next")
    for spec in ("../patches", "..", "a..", "..b", "series", "x/../y", "a...b"):
        assert not is_range(spec)
