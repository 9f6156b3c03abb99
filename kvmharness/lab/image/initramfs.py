"""What the emulated host boots: an initramfs with Python, this package and one job, and a boot ISO around it.

The part that is the same for every job (interpreter, package, busybox) is made once and cached. A job adds its own
archive, which the kernel unpacks after the first one. Both are compressed with LZ4: unpacking is cheap in the
emulator, reading is not.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kvmharness.lab.image.cpio import Archive
from kvmharness.lab.image.interpreter import ENVIRONMENT, PYTHON, PythonParts, add_python
from kvmharness.lab.inside.modules import module_name
from kvmharness.lab.inside.waiting import WAITING_PATH
from kvmharness.lab.job import AGENT_ENDED, Job
from kvmharness.lab.kernels.modulefiles import content, load_order
from kvmharness.lab.steps import encode
from kvmharness.system import cache
from kvmharness.system.programs import disk_errors, find, run

_PYTHON_WORDS = " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
# Mounts come first: without /dev Python finds no /dev/urandom, without tracefs no tracepoint has an id.
INIT = f"""#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
$b mount -t debugfs debugfs /sys/kernel/debug
$b mount -t tracefs tracefs /sys/kernel/tracing
$b mount -t tmpfs tmpfs /tmp
cd /root
PATH=/bin HOME=/root LC_ALL=C PYTHONHASHSEED=0 {_PYTHON_WORDS} \\
{PYTHON} -S -P -c 'from kvmharness.lab.inside.agent import main; main()'
echo "{AGENT_ENDED} with status $?"
$b poweroff -f
"""
_NONCE = "job/nonce"
_FOLDERS = ("proc", "sys", "dev", "tmp", "root", "job", "run", "etc")

# tsc_early_khz: the TSC counts emulated instructions, so that the kernel's delays are as short as the emulator is slow.
# nokaslr, norandmaps: two runs of the same image are to be the same. panic=0: the console is read before the machine
# goes. rcu: a kernel that spins, and lets nothing else run, says where and panics, instead of being waited for.
COMMAND_LINE = (
    "console=ttyS0,115200 quiet panic=0 oops=panic tsc=reliable no_timer_check mitigations=off nokaslr norandmaps "
    "rcupdate.rcu_cpu_stall_timeout=15 sysctl.kernel.panic_on_rcu_stall=1 rdinit=/init"
)


@dataclass(frozen=True, slots=True)
class ImageParts:
    """What an image holds besides a job.

    Attributes:
        packages: more Python packages, by importable name, all of them (``("pytest", "_pytest", "pluggy", ...)``): see
            :class:`kvmharness.lab.image.interpreter.PythonParts`.
        files: more files, by path inside.
        imports: modules that an agent imports before its host is saved, besides those of its own; one that cannot be
            imported, or warns, is left to the job.
    """

    packages: tuple[str, ...] = ()
    files: Mapping[str, Path | bytes] = field(default_factory=dict)
    imports: tuple[str, ...] = ()


def base_archive(parts: ImageParts) -> Path:
    """The cached, compressed archive of everything that is the same for every job."""
    python = PythonParts(parts.packages)
    contents = {place: _read(source) for place, source in sorted(parts.files.items())}
    key = cache.digest(2, INIT, python.identity(), *(part for item in contents.items() for part in item))

    def make(target: Path) -> None:
        archive = Archive()
        for folder in _FOLDERS:
            archive.add_folder(folder)
        archive.add_file("init", INIT.encode(), executable=True)
        # The kernel opens it for /init before anything is mounted.
        archive.add_char_device("dev/console", 5, 1)
        busybox = Path(find("busybox")).read_bytes()
        archive.add_file("bin/busybox", busybox, executable=True)
        for name in ("sh", "cat", "ls", "dmesg"):
            archive.add_symlink(f"bin/{name}", "busybox")
        add_python(archive, python)
        for place, data in contents.items():
            archive.add_file(place, data, executable=_is_program(data))
        with disk_errors(target):
            target.write_bytes(compress(archive.to_bytes(), level=9))

    image = cache.file_entry("initramfs", key, make)
    cache.keep_newest("initramfs", 8)
    return image


def job_archive(job: Job) -> bytes:
    """A job as an archive: ``/job/nonce``, ``/job/job.json``, its modules and its files."""
    archive = _job(job)
    archive.add_file(_NONCE, job.nonce.encode())
    return archive.to_bytes()


def _job(job: Job) -> Archive:
    archive = Archive()
    archive.add_file("job/job.json", encode(job.steps))
    for name, folder in sorted(job.modules.items()):
        files = {f"{module_name(path.name)}.ko": path for path in load_order(folder)}
        for file_name, path in files.items():
            archive.add_file(f"job/modules/{name}/{file_name}", content(path))
        archive.add_file(f"job/modules/{name}/order", "".join(f"{file_name}\n" for file_name in files).encode())
    for place, source in sorted(job.files.items()):
        data = _read(source)
        archive.add_file(place, data, executable=_is_program(data))
    return archive


def write_initramfs(target: Path, parts: ImageParts, job: Job) -> None:
    """The complete initramfs for one boot.

    The nonce is an archive of its own, and not compressed: two boots with the same job then take the same instructions.
    It comes first, for the kernel finds no plain archive behind one in LZ4.
    """
    base = base_archive(parts).read_bytes()
    nonce = Archive()
    nonce.add_file(_NONCE, job.nonce.encode())
    with disk_errors(target):
        target.write_bytes(nonce.to_bytes() + base + compress(_job(job).to_bytes(), level=1))


def write_waiting_initramfs(target: Path, parts: ImageParts, told: bytes) -> None:
    """The same without a job: of a host that waits for one, as it is *told* (see `kvmharness.lab.inside.waiting`)."""
    base = base_archive(parts).read_bytes()
    archive = Archive()
    archive.add_file(WAITING_PATH, told)
    with disk_errors(target):
        target.write_bytes(base + compress(archive.to_bytes(), level=1))


def compress(data: bytes, level: int) -> bytes:
    """LZ4 in its legacy framing, the one that the kernel unpacks; archives so compressed may follow each other."""
    return run(["lz4", "-l", f"-{level}", "-c"], stdin=data)


def write_iso(target: Path, kernel: Path, initramfs: Path, command_line: str) -> None:
    """A CD image that boots *kernel* at once, for an emulator that has no loader of its own.

    Raises:
        MissingToolError, ToolError, DiskFullError.
    """
    isolinux, loader = find("isolinux.bin"), find("ldlinux.c32")
    tree = target.parent / "iso"
    with disk_errors(target):
        tree.mkdir()
        for source, name in (
            (isolinux, "isolinux.bin"),
            (loader, "ldlinux.c32"),
            (kernel, "vmlinuz"),
            (initramfs, "initrd"),
        ):
            (tree / name).symlink_to(os.path.abspath(source))
        config = f"DEFAULT linux\nPROMPT 0\nLABEL linux\n KERNEL vmlinuz\n APPEND initrd=initrd {command_line}\n"
        (tree / "isolinux.cfg").write_text(config)
    dates = ["--set_all_file_dates", "2020010100000000"]
    boot = ["-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]
    run(
        ["xorriso", "-as", "mkisofs", "-quiet", "-follow-links", *boot, *dates, "-o", str(target), str(tree)],
        # Taken for the dates that have no option; any fixed one will do.
        env={"SOURCE_DATE_EPOCH": "1577836800"},
        writes=target,
    )


def _read(source: Path | bytes) -> bytes:
    return source if isinstance(source, bytes) else source.read_bytes()


def _is_program(data: bytes) -> bool:
    return data.startswith((b"\x7fELF", b"#!"))
