"""A series as two revisions of a kernel's git repository."""

import os
import subprocess
from pathlib import Path

from kvmharness.patches.diff import PatchError
from kvmharness.patches.mbox import Mails, read_patches

# Each option pins down what the user's own git configuration could change.
_FORMAT = (
    "format-patch",
    "--stdout",
    "--no-attach",
    "--no-cover-letter",
    "--no-signature",
    "--no-renames",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--full-index",
    "--unified=3",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--subject-prefix=PATCH",
    "--numbered",
)


_END = "--end-of-options"  # what follows is a revision, whatever it looks like


def is_range(spec: str) -> bool:
    """Whether a series is given as ``A..B``."""
    first, dots, last = spec.partition("..")
    return bool(dots and first and last) and not last.startswith((".", "/")) and not os.path.exists(spec)


def patches_between(repository: Path, spec: str) -> Mails:
    """The commits of ``A..B``, oldest first. The repository and its working tree are only read.

    Raises:
        PatchError: no such revisions, a merge between them, nothing between them, or git is not installed.
    """
    first, _, last = spec.partition("..")
    if first.startswith("-") or last.startswith("-") or "\0" in spec:
        raise PatchError(f"{spec!r} names no revisions: none begins with a dash or holds NUL", "Give A..B.")
    merges = _git(repository, "rev-list", "--merges", _END, spec, "--").split()
    if merges:
        raise PatchError(
            f"{spec} contains the merge {merges[0].decode()[:12]}, which is not a patch",
            "Give a linear range, or the merge's own branch.",
        )
    return read_patches([(spec, _git(repository, *_FORMAT, _END, spec, "--"))])


def checked_out(tree: Path) -> str:
    """The commit that a tree is at, as "abbreviated hash (title)"; empty where git does not say."""
    try:
        return _git(tree, "log", "-1", "--format=%h (%s)", _END, "HEAD", "--").decode("utf-8", "replace").strip()
    except PatchError:
        return ""


def _git(repository: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(repository), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    except FileNotFoundError as e:
        raise PatchError("git is not installed, and the series is given as git revisions", "apt install git") from e
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise PatchError(
            f"`{' '.join(command[:3])} {arguments[0]}` failed for {arguments[-2]}: {said[0] if said else 'no message'}",
            f"Are both revisions in {repository}? Give the kernel's git repository as the source.",
        )
    return done.stdout
