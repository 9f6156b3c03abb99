"""The debug kernel: one that complains of what went wrong without anything having come of it yet.

Lockdep, DEBUG_ATOMIC_SLEEP and PROVE_RCU see KVM's modules in a kernel that is built as it is. KASAN and UBSAN are
compiled into code, and into that of the modules only: with all of the kernel so compiled a boot takes three times as
long. What the kernel's own code does with KVM's memory, they do not see.

Source: Documentation/dev-tools/kasan.rst, ubsan.rst, kmemleak.rst; lib/Kconfig.debug; arch/x86/kvm/Kconfig.
"""

from dataclasses import replace

from kvmharness.lab.kernels.config import FRAGMENTS, Fragment, Recipe

_FRAGMENTS = (
    Fragment(
        "memory that is used after it was freed, or beyond its end",
        on="DEBUG_KERNEL KASAN KASAN_GENERIC KASAN_INLINE KASAN_STACK KASAN_VMALLOC",
        off="SLUB_TINY",
    ),
    Fragment(
        "locks that are taken in a wrong order, not held, or held while something sleeps",
        on="PROVE_LOCKING PROVE_RCU DEBUG_ATOMIC_SLEEP DEBUG_MUTEXES DEBUG_LOCK_ALLOC DEBUG_SPINLOCK DEBUG_RWSEMS",
    ),
    Fragment(
        "lists, objects and reference counts that are broken",
        on="DEBUG_LIST DEBUG_PLIST DEBUG_SG DEBUG_NOTIFIERS DEBUG_VM SLUB_DEBUG DEBUG_OBJECTS DEBUG_OBJECTS_FREE "
        "DEBUG_OBJECTS_TIMERS DEBUG_OBJECTS_WORK DEBUG_OBJECTS_RCU_HEAD",
    ),
    Fragment(
        "what C does not define",
        on="UBSAN UBSAN_BOUNDS UBSAN_SHIFT UBSAN_BOOL UBSAN_ENUM",
        off="UBSAN_TRAP",
    ),
    Fragment(
        "memory that nothing points at any more; off until it is asked for at boot, for scans take long",
        on="DEBUG_KMEMLEAK DEBUG_KMEMLEAK_DEFAULT_OFF",
        off="DEBUG_KMEMLEAK_AUTO_SCAN",
    ),
    Fragment("KVM's own checks of its MMU", known="KVM_PROVE_MMU"),
    Fragment(
        "whole reports, and the larger stack frames that instrumented code has",
        values=(("LOG_BUF_SHIFT", "19"), ("FRAME_WARN", "0")),
    ),
)

LITE = Recipe(
    "debug kernel",
    (*FRAGMENTS, *_FRAGMENTS),
    image_words=("KASAN_SANITIZE=n", "UBSAN_SANITIZE=n"),
    # Lockdep's reports are warnings, which a quiet console leaves out; but what hung can be read nowhere else.
    boot_words=("loglevel=5",),
)
KMEMLEAK = replace(LITE, boot_words=(*LITE.boot_words, "kmemleak=on"))
CHOICES = {"lite": LITE, "kmemleak": KMEMLEAK}
"""By the names that users give them. They differ in how the kernel is booted only, so it is built once."""
