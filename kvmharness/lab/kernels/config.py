"""The emulated host's kernel configuration: ``make tinyconfig`` and what is said here, each group with its reason.

An option that lacks a dependency is dropped by the kernel's own tools without a word, so the result is checked: every
line wanted must be in the final ``.config``.
"""

from dataclasses import dataclass

from kvmharness.errors import KvmHarnessError


class OptionLostError(KvmHarnessError):
    """The kernel's configuration did not come out as wanted.

    Attributes:
        options: the lines that did not hold.
    """

    def __init__(self, options: tuple[str, ...]) -> None:
        super().__init__(
            f"the kernel's configuration lost {len(options)} wanted option(s): {', '.join(options)}",
            "this source has another name for them or another dependency; see `make menuconfig` in it",
        )
        self.options = options


@dataclass(frozen=True, slots=True)
class Fragment:
    """Options that belong together.

    Attributes:
        reason: why they are there.
        on: set to y.
        modules: set to m.
        off: must not be y or m; one that the source does not know is off.
        values: anything else.
        known: set to y where the source knows them.
    """

    reason: str
    on: str = ""
    modules: str = ""
    off: str = ""
    values: tuple[tuple[str, str], ...] = ()
    known: str = ""

    def lines(self) -> list[str]:
        """The fragment as lines of a ``.config``."""
        return [
            *(f"CONFIG_{name}=y" for name in self.on.split()),
            *(f"CONFIG_{name}=m" for name in self.modules.split()),
            *(f"CONFIG_{name}={value}" for name, value in self.values),
            *(f"# CONFIG_{name} is not set" for name in self.off.split()),
        ]


FRAGMENTS = (
    Fragment(
        "a 64-bit kernel as hosts run it: SMP code paths, patched jumps, no debugging",
        on="64BIT SMP JUMP_LABEL SLUB",
    ),
    Fragment("few per-CPU structures to set up", values=(("NR_CPUS", "8"),)),
    Fragment("the subject", on="VIRTUALIZATION", modules="KVM KVM_INTEL KVM_AMD"),
    # A warning of a newer compiler is no reason not to test.
    Fragment(
        "modules that are exchanged in one boot",
        on="MODULES MODULE_UNLOAD",
        off="KVM_WERROR",
    ),
    Fragment(
        "quick to load: LZ4 unpacks in a tenth of XZ's instructions",
        on="KERNEL_LZ4 BLK_DEV_INITRD RD_LZ4",
    ),
    Fragment(
        "no other decompressor to build",
        off="RD_GZIP RD_BZIP2 RD_LZMA RD_XZ RD_LZO RD_ZSTD",
    ),
    Fragment("compiled as distributions do, not for size", on="CC_OPTIMIZE_FOR_PERFORMANCE"),
    Fragment(
        "a console, and something to say on it",
        on="PRINTK PRINTK_TIME BUG TTY SERIAL_8250 SERIAL_8250_CONSOLE",
    ),
    Fragment("no other console", off="VT INPUT LEGACY_PTYS"),
    Fragment(
        "right stack traces, with names; a fault ends the run",
        on="UNWINDER_ORC KALLSYMS KALLSYMS_ALL PANIC_ON_OOPS",
    ),
    # ACPI's interpreter would need PCI and a third of the build; the MP table names CPU and interrupt controller too.
    Fragment(
        "a machine described by its MP table",
        on="X86_MPPARSE MAGIC_SYSRQ",
        off="ACPI PCI SUSPEND SCHED_MC CPU_FREQ CPU_IDLE",
    ),
    Fragment(
        "programs, scripts and file systems",
        on="BINFMT_ELF BINFMT_SCRIPT PROC_FS PROC_SYSCTL SYSFS DEVTMPFS TMPFS SHMEM",
    ),
    Fragment(
        "system calls of Python and of KVM's selftests",
        on="FUTEX EPOLL SIGNALFD TIMERFD EVENTFD POSIX_TIMERS MULTIUSER AIO ADVISE_SYSCALLS MEMBARRIER RSEQ "
        "FILE_LOCKING MEMFD_CREATE USERFAULTFD",
    ),
    Fragment(
        "large pages under guests, as on hosts",
        on="TRANSPARENT_HUGEPAGE TRANSPARENT_HUGEPAGE_MADVISE HUGETLBFS COMPACTION",
    ),
    Fragment(
        "counting: tracepoints and kprobes, through perf and tracefs",
        on="FTRACE PERF_EVENTS KPROBES KPROBE_EVENTS HIST_TRIGGERS",
        off="UPROBE_EVENTS",
    ),
    Fragment("KVM's own files there", on="DEBUG_FS"),
    Fragment(
        "the results port, and registers to look at",
        on="X86_IOPL_IOPERM DEVMEM X86_MSR X86_CPUID",
    ),
    Fragment(
        "timers that fire when asked, and no tick when idle",
        on="HIGH_RES_TIMERS NO_HZ_IDLE HZ_100",
    ),
    Fragment("its own configuration, for the record", on="IKCONFIG IKCONFIG_PROC"),
    Fragment(
        "no mitigations: an emulator has nothing to mitigate",
        off="CPU_MITIGATIONS SPECULATION_MITIGATIONS",
    ),
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a kernel is configured and built.

    Attributes:
        name: how to call it in messages; empty for the one that everything is measured on.
        fragments: of its configuration.
        image_words: variables of make for what is built in, and not for modules.
        boot_words: of its command line.
    """

    name: str = ""
    fragments: tuple[Fragment, ...] = FRAGMENTS
    image_words: tuple[str, ...] = ()
    boot_words: tuple[str, ...] = ()

    def wanted(self) -> list[str]:
        """All fragments as lines of a ``.config``: what must be in the final one."""
        return [line for fragment in self.fragments for line in fragment.lines()]

    def known(self) -> list[str]:
        """Likewise of options that need not be there."""
        return [f"CONFIG_{name}=y" for fragment in self.fragments for name in fragment.known.split()]

    def identity(self) -> list[object]:
        """Changes when what is built does."""
        more = [self.known(), self.image_words] if self.image_words else []
        return [self.wanted(), *more]


MINIMAL = Recipe()


def check(config: str, wanted: list[str]) -> None:
    """Check a final ``.config`` against the *wanted* lines.

    Raises:
        OptionLostError: names every line that did not hold.
    """
    held = dict(line.split("=", 1) for line in config.splitlines() if line.startswith("CONFIG_") and "=" in line)
    lost = tuple(line for line in wanted if not _holds(line, held))
    if lost:
        raise OptionLostError(lost)


def _holds(line: str, held: dict[str, str]) -> bool:
    if line.startswith("#"):
        return line.split()[1] not in held
    name, value = line.split("=", 1)
    return held.get(name) == value
