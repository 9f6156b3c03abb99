"""kvm-unit-tests as tests of a suite: a built tree, or a folder of images."""

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from kvmharness.cells.params import Params
from kvmharness.errors import UsageError
from kvmharness.suites.unittests import config, multiboot, options, shortened
from kvmharness.suites.unittests.config import Entry
from kvmharness.suites.unittests.entry import DATE, Image, UnitTest
from kvmharness.suites.unittests.multiboot import NotBootableError
from kvmharness.system.programs import Progress, silent
from kvmharness.system.reading import UNIT_TEST_IMAGE, UNIT_TESTS, ReadError, read

_CONFIG = "unittests.cfg"
_FOLDER = "x86"
_SUFFIX = ".flat"
_NODEFAULT = "nodefault"
_NOT_HERE = {"migration": "migration to another VMM", "panic": "a panic device", "pv-host": "a protected host"}
_FIRMWARE = (
    ("s3.flat", "", "ACPI's sleep states, and a firmware that wakes up from them"),
    ("vmexit.flat", "inl_from_pmtimer", "ACPI's power management timer"),
    ("hpet_read_test.flat", "", "a high precision event timer"),
)
_FORCED = "kvm.force_emulation_prefix"
_FORCED_ARGS = "*force*emulation*"


def read_tree(path: Path, patterns: Sequence[str] = (), say: Progress = silent) -> tuple[UnitTest, ...]:
    """The tests of a tree.

    Args:
        path: of a built tree, of its folder ``x86``, or of any folder with images, each of which is a test then.
        patterns: what the user named; a test of the group "nodefault" runs only if one of them matches it.
        say: takes what is left out of account, a line each.

    Raises:
        UsageError: there is nothing of that kind, or nothing of it is built.
    """
    folder = path / _FOLDER if (path / _FOLDER / _CONFIG).is_file() else path
    if not folder.is_dir():
        raise UsageError(f"{path} is no folder", "Name a built tree of kvm-unit-tests, or a folder of .flat files.")
    images = sorted(file.name for file in folder.glob(f"*{_SUFFIX}"))
    if (folder / _CONFIG).is_file():
        entries = config.read(_text(folder / _CONFIG))
    else:
        entries = [Entry(name.removesuffix(_SUFFIX), name) for name in images]
    if not images:
        what = "is not built: it has no .flat file" if entries else "holds neither unittests.cfg nor a .flat file"
        if any(folder.glob("*.efi")):
            what = "is built for EFI, whose images are not run here"
        raise UsageError(f"{folder} {what}", "In the tree, run ./configure (without --enable-efi) and make.")
    arch = _arch(folder.parent)
    known = {name: _image(folder / name) if name else "it names no image" for name in {e.file for e in entries}}
    tests = [_test(entry, folder, known[entry.file], arch, patterns) for entry in entries]
    for entry in entries:
        for note in entry.notes:
            say(f"{entry.name}: {note}")
    return tuple(tests)


def _text(path: Path) -> str:
    return read(path, UNIT_TESTS).decode("utf-8", "replace")


def _arch(tree: Path) -> str:
    """What the tree was built for, as its configuration says."""
    configured = tree / "config.mak"
    if configured.is_file():
        for line in _text(configured).splitlines():
            if line.startswith("ARCH="):
                return line.partition("=")[2].strip()
    return "x86_64"


def _image(path: Path) -> Image | str:
    """The image, or why there is none."""
    if not os.path.lexists(path):
        return f"{path.name} has not been built"
    try:
        data = read(path, UNIT_TEST_IMAGE)
        return Image(multiboot.read(data), shortened.patches(path.name, data))
    except NotBootableError as error:
        return f"{path.name} is no multiboot image: {error}"
    except ReadError as error:
        return str(error)


def _test(entry: Entry, folder: Path, image: Image | str, arch: str, patterns: Sequence[str]) -> UnitTest:
    wanted = options.read(entry.options)
    entry.notes += wanted.notes
    args = entry.args if wanted.append is None else " ".join(filter(None, (wanted.append, entry.args)))
    there = image if isinstance(image, Image) else None
    why = _too_large(there.boot.end, wanted.memory_mb) if there else str(image)
    missing = _missing(entry, arch, patterns) or why or wanted.missing or _substitution(args) or _nowhere(entry, args)
    return UnitTest(entry, folder / entry.file, there, wanted, args, missing, _params(entry, args))


def _missing(entry: Entry, arch: str, patterns: Sequence[str]) -> str:
    """Why an entry cannot be run, whatever its image is."""
    if entry.wrong:
        return entry.wrong
    if entry.arch and entry.arch != arch:
        return f"it is for {entry.arch}, and the tree was built for {arch}"
    if entry.accel and entry.accel.partition(",")[0] != "kvm":
        return f"it is for the accelerator {entry.accel}"
    for group in entry.groups:
        if group in _NOT_HERE:
            return f"{_NOT_HERE[group]} (group {group})"
    if _NODEFAULT in entry.groups and not any(fnmatchcase(entry.name, pattern) for pattern in patterns):
        return "it runs only when it is named (group nodefault)"
    return ""


def _too_large(end: int, memory_mb: int) -> str:
    return f"its image ends at {end:#x}, beyond its {memory_mb} MB of memory" if end > memory_mb << 20 else ""


def _nowhere(entry: Entry, args: str) -> str:
    """What a test looks for in firmware that is not there, as its own image says nowhere."""
    return next((what for image, word, what in _FIRMWARE if image == entry.file and word in args), "")


def _substitution(args: str) -> str:
    """A command of a shell in the arguments, which is not run; the one that asks for the time is understood."""
    rest = args.replace(DATE, "")
    return f"a shell, for its arguments {args}" if "`" in rest or "$" in rest else ""


def _params(entry: Entry, args: str) -> Params:
    """Parameters that its checks ask for, and what its arguments take: emulation that is forced by a prefix."""
    chosen = [word for word in args.split() if not word.startswith("-")]  # a dash leaves out what it stands before
    params = {_FORCED: "1"} if any(fnmatchcase(word, _FORCED_ARGS) for word in chosen) else {}
    for path, value in entry.checks:
        match path.strip("/").split("/"):
            case ["sys", "module", module, "parameters", name] if module == "kvm" or module.startswith("kvm_"):
                params[f"{module}.{name}"] = value
    return tuple(sorted(params.items()))
