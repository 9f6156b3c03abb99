"""Sequences of calls on the objects of :mod:`kvmharness.kvm`, made from a seed, with arguments that do not suit.

A call is plain JSON, as in :mod:`tests.fuzz.calls`:
    do, on: a method, and the object's name: k, v, c and m for the device, a VM, a vCPU and guest memory.
    with, named: the arguments, see :meth:`tests.fuzz.invoke.Invoker.value`.
    makes: what the object that comes of it is called.
"""

from itertools import count
from random import Random

from kvmharness.abi.binding import IOCTLS
from tests.fuzz.values import ADDRESSES, BEYOND, COUNTS, GPAS, SIZES, SLOTS, WORDS, number

LENGTH = 30

# Kinds of arguments: a word and what else it stands for. A kind in brackets is a list of it; "a>b" is a mapping.
_OF_ALL_LEVELS = {
    "get_struct": ("ioctl",),
    "set_struct": ("ioctl", "word"),
    "has_device_attr": ("word", "word"),
    "get_device_attr": ("word", "word", "count"),
    "set_device_attr": ("word", "word", "bytes"),
}
METHODS = {
    "k": {
        **_OF_ALL_LEVELS,
        "get_emulated_cpuid": (),
        "get_supported_hv_cpuid": (),
        "x86_get_mce_cap_supported": (),
        "get_api_version": (),
        "check_extension": ("cap",),
        "get_vcpu_mmap_size": (),
        "get_supported_cpuid": (),
        "get_msr_index_list": (),
        "get_msr_feature_index_list": (),
        "get_feature_msrs": ("[index]",),
        "system_ioctl": ("ioctl", "word"),
        "create_vm": ("type",),
        "close": (),
    },
    "v": {
        **_OF_ALL_LEVELS,
        **dict.fromkeys(("create_pit", "get_pit", "get_pit2", "reset_dirty_rings", "get_nr_mmu_pages"), ()),
        **{f"set_{name}": ("word",) for name in ("irqchip", "pit", "pit2")},
        **{f"xen_hvm_{name}": ("word",) for name in ("config", "get_attr", "set_attr")},
        **{f"{name}register_coalesced_mmio": ("gpa", "size", "pio=word") for name in ("", "un")},
        **{f"memory_encrypt_{name}_region": ("hva", "size") for name in ("reg", "unreg")},
        "memory_encrypt_op": ("word",),
        "get_irqchip": ("word",),
        "set_boot_cpu_id": ("id",),
        "irq_line_status": ("irq", "word"),
        "set_gsi_routing": ("[word]",),
        "signal_msi": ("gpa", "word", "flags=word", "devid=word"),
        "irqfd": ("word", "irq", "word", "word"),
        "ioeventfd": ("word", "gpa", "size", "word", "word"),
        "hyperv_eventfd": ("word", "word", "word"),
        "create_device": ("type",),
        "has_device": ("type",),
        "xen_hvm_evtchn_send": ("word", "id", "word"),
        "create_guest_memfd": ("size", "word"),
        "set_memory_attributes": ("gpa", "size", "word"),
        "set_user_memory_region2": ("slot", "gpa", "size", "hva", "word", "word", "gpa"),
        "x86_set_msr_filter": ("word",),
        "set_pmu_event_filter": ("word", "[word]", "fixed_counter_bitmap=word", "flags=word"),
        "get_tsc_khz": (),
        "set_tsc_khz": ("word",),
        "check_extension": ("cap",),
        "enable_cap": ("cap", "word", "word", "word", "word"),
        "set_user_memory_region": ("slot", "gpa", "size", "hva", "word"),
        "add_memory": ("gpa", "size", "slot=slot", "flags=word"),
        "delete_memory": ("slot",),
        "get_dirty_log": ("slot",),
        "clear_dirty_log": ("slot", "count", "count", "bytes"),
        "create_vcpu": ("id",),
        "create_irqchip": (),
        "enable_split_irqchip": ("word",),
        "create_pit2": ("word",),
        "reinject_control": ("pit_reinject=word",),
        "irq_line": ("irq", "word"),
        "coalesce_port": ("gpa", "size"),
        "set_tss_addr": ("gpa",),
        "set_identity_map_addr": ("gpa",),
        "set_nr_mmu_pages": ("count",),
        "get_clock": (),
        "set_clock": ("get_clock",),
        "get_stats_fd": (),
        "close": (),
    },
    "c": {
        "run": ("resume=no",),
        "set_io_data": ("bytes",),
        "set_mmio_data": ("bytes",),
        "coalesced": (),
        "set_signal_mask": ("word",),
        "get_stats_fd": (),
        **_OF_ALL_LEVELS,
        **dict.fromkeys(("smi", "kvmclock_ctrl", "get_reg_list", "get_supported_hv_cpuid"), ()),
        **dict.fromkeys(("x86_setup_mce", "x86_set_mce", "get_one_reg"), ("word",)),
        **{f"xen_vcpu_{name}": ("word",) for name in ("get_attr", "set_attr")},
        "enable_cap": ("cap", "word", "word", "word", "word"),
        "pre_fault_memory": ("gpa", "size"),
        "tpr_access_reporting": ("enabled=word",),
        "set_vapic_addr": ("gpa",),
        "set_one_reg": ("word", "word"),
        "set_cpuid": ("get_cpuid2",),
        **{f"get_{name}": () for name in ("regs", "sregs", "sregs2", "fpu", "xsave", "xcrs", "cpuid2", "lapic")},
        **{f"get_{name}": () for name in ("vcpu_events", "debugregs", "mp_state", "tsc_khz", "nested_state")},
        **{f"set_{name}": (f"get_{name}",) for name in ("regs", "sregs", "sregs2", "fpu", "vcpu_events", "debugregs")},
        **{f"set_{name}": ("bytes",) for name in ("xsave", "lapic", "nested_state")},
        "get_msrs": ("[index]",),
        "set_msrs": ("index>word",),
        "set_xcrs": ("xcr>word",),
        "set_cpuid2": ("get_cpuid2",),
        "set_guest_debug": ("word", "[word]"),
        "set_mp_state": ("mp_state",),
        "interrupt": ("irq",),
        "nmi": (),
        "set_tsc_khz": ("word",),
        "translate": ("gpa",),
        "close": (),
    },
    "m": {
        "write": ("gpa", "bytes"),
        "fill": ("pieces",),
        "read": ("gpa", "size"),
        "read_u64": ("gpa",),
        "write_u64": ("gpa", "word"),
        "close": (),
    },
}
_MAKERS = {"create_vm": "v", "create_vcpu": "c", "add_memory": "m"}
_WRONG = ("text", None, 1.5, {"bytes": 3}, [], [None], {"map": []}, {"map": [["text", None]]}, {"object": "anything"})
_WORDS = {
    "gpa": GPAS,
    "size": SIZES,
    "slot": SLOTS,
    "hva": ADDRESSES,
    "count": COUNTS,
    "type": (0, 0, 0, 1, 2, 7),
    "id": (*range(8), 255, 4095, 4096),
    "xcr": (0, 0, 1, 2, 0xFFFF_FFFF),
    "no": (False,),
    "ioctl": (*(name for name, op in IOCTLS.items() if name.startswith("KVM_GET_") and op.struct), "KVM_NONSENSE"),
}


def sequences(seed, length=LENGTH):
    """One after the other, without end. Every method has its turn before any has it again."""
    every = [(kind, name) for kind, methods in METHODS.items() for name in methods]
    turns = _turns(Random(f"methods {seed}"), every)
    for position in count():
        yield _sequence(Random(f"methods {seed}/{position}"), turns, length)


def _turns(random, every):
    while True:
        yield from random.sample(every, len(every))


def _sequence(random, turns, length):
    calls = [
        {"do": "create_vm", "on": "k0", "makes": "v0", "with": []},
        *([{"do": "create_irqchip", "on": "v0", "with": []}] if random.randrange(2) else ()),
        {"do": "add_memory", "on": "v0", "makes": "m0", "with": [0, 0x10_0000]},
        {"do": "create_vcpu", "on": "v0", "makes": "c0", "with": []},
    ]
    names = {kind: [f"{kind}0"] for kind in METHODS}
    for _ in range(length):
        kind, method = next(turns)
        odds = random.choice((5, 1000))  # of one wrong argument in so many
        call = {"do": method, "on": random.choice(names[kind]), "with": [], "named": {}}
        for argument in METHODS[kind][method]:
            name, equals, rest = argument.partition("=")
            if equals:
                call["named"][name] = _argument(random, odds, rest)
            else:
                call["with"].append(_argument(random, odds, argument))
        if method == "close" and random.randrange(3):  # not all objects of a sequence are to be closed ones soon
            continue
        if made := _MAKERS.get(method):
            call["makes"] = f"{made}{len(names[made])}"
            names[made].append(call["makes"])
        calls.append(call)
    return calls


def _argument(random, odds, kind):
    if kind not in ("no", "hva") and not random.randrange(odds):
        return random.choice(_WRONG)
    if kind.startswith("get_"):
        fields = {"changes": random.randrange(4), "pick": random.getrandbits(30)}
        return {"object": kind, **fields, "to": _argument(random, odds, "word")}
    if kind.startswith("["):
        return [_argument(random, odds, kind.strip("[]")) for _ in range(random.choice((0, 1, 2, 4, 9)))]
    if ">" in kind:
        key, _, value = kind.partition(">")
        pairs = [
            [_argument(random, odds, key), _argument(random, odds, value)] for _ in range(random.choice((0, 1, 2, 20)))
        ]
        return {"map": [pair for pair in pairs if not isinstance(pair[0], list | dict)]}
    if kind == "bytes":
        return {"bytes": random.choice((0, 1, 2, 4, 8, 127, 128, 1023, 1024, 1025, 4096, 4097, 0x2080))}
    if kind == "pieces":
        return [
            [_argument(random, odds, "gpa"), _argument(random, odds, "bytes")] for _ in range(random.choice((0, 1, 2)))
        ]
    if kind != "hva" and not random.randrange(odds):
        return random.choice(BEYOND)
    if kind in _WORDS:
        return random.choice(_WORDS[kind])
    return random.choice(WORDS) if kind == "word" else number(random, kind, 32)
