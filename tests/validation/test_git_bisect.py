"""`git bisect run` over a small history of the KVM folder, each commit judged in an emulated host."""

import shutil
import subprocess
import sys

import pytest

from kvmharness.lab.kernels import build
from kvmharness.lab.kernels.source import debian
from kvmharness.validation.bisect import KVM_FOLDERS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("emulated_vmx"),
    pytest.mark.skipif(not shutil.which("git"), reason="git: apt install git"),
]
MMU = "arch/x86/kvm/mmu/mmu.c"
USABLE = "	return (role.direct || pgd == root->pgd) &&\n"


def test_the_commit_that_loses_the_root_cache_is_found(tmp_path):
    base = build.kernel(debian()).tree
    tree = tmp_path / "linux"
    for folder in KVM_FOLDERS:
        shutil.copytree(base / folder, tree / folder, ignore=shutil.ignore_patterns("*.o", "*.ko", "*.cmd", "*.mod*"))

    def git(*arguments):
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
        return subprocess.run(command, cwd=tree, check=False, capture_output=True, text=True)

    def commit(title, change):
        text = (tree / MMU).read_text()
        changed = change(text)
        assert changed != text
        (tree / MMU).write_text(changed)
        git("add", "-A")
        assert git("commit", "-q", "-m", title).returncode == 0

    git("init", "-q")
    commit("good", lambda text: text + "\n/* the last good state */\n")
    commit("a comment", lambda text: text + "\n/* one */\n")
    commit("does not build", lambda text: text + "\nthis is no C\n")
    commit(
        "never reuse a root", lambda text: text.replace("\nthis is no C\n", "").replace(USABLE, "\treturn false &&\n")
    )
    commit("another comment", lambda text: text + "\n/* two */\n")

    assert git("bisect", "start", "HEAD", "HEAD~4").returncode == 0
    verdict = "import sys; from kvmharness.cli.main import main; sys.exit(main())"
    done = git("bisect", "run", sys.executable, "-c", verdict, "bisect", "a:1x1", "loads", "0")
    log = git("bisect", "log").stdout
    # The commit that does not build cannot be told from the guilty one, so git names both.
    assert "never reuse a root" in log, done.stdout + done.stderr
    assert "a:1x1: loads 2, above 0" in done.stdout, done.stdout + done.stderr
    suspects = [line for line in log.splitlines() if "possible first bad commit" in line]
    assert [line.rpartition("] ")[2] for line in suspects] == ["never reuse a root", "does not build"]
