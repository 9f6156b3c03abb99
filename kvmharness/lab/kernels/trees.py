"""Kernel trees made of links: what another tree has, with some files replaced and some folders of its own."""

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from kvmharness.system.programs import disk_errors

Overlay = Mapping[str, bytes | None]
"""Content by path relative to a tree; None removes the file."""

KVM_FOLDERS = ("arch/x86/kvm/", "virt/kvm/")
"""Where KVM's modules are made."""

_OWN = tuple(folder.rstrip("/") for folder in KVM_FOLDERS)


def link_tree(base: Path, target: Path, overlay: Overlay, own: tuple[str, ...] = _OWN) -> None:
    """Make *target* look like *base* with *overlay* on it, sharing all but the folders *own*, which are copied."""
    base = base.resolve()  # by its own name, whoever follows the links
    real = {str(parent) for path in (*overlay, *own) for parent in Path(path).parents}

    def link(folder: str) -> None:
        (target / folder).mkdir()
        for child in sorted(os.listdir(base / folder)):
            path = child if folder == "." else f"{folder}/{child}"
            if path in own:
                # With the objects and their times, so that make only does again what must be.
                shutil.copytree(base / path, target / path, symlinks=True)
            elif path in real:
                link(path)
            else:
                (target / path).symlink_to(base / path)

    with disk_errors(target):
        link(".")
        write_overlay(target, overlay)


def write_overlay(tree: Path, overlay: Overlay) -> None:
    """Puts the overlay's files into a tree, whatever was there."""
    with disk_errors(tree):
        for path, data in overlay.items():
            place = tree / path
            # Not through a link: that would write to what it points at.
            with contextlib.suppress(FileNotFoundError):
                place.unlink()
            if data is not None:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
