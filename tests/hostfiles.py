"""A builder of hosts: the files of sysfs, procfs and /dev that tell what a machine is, from a readable description."""

from pathlib import Path

TOGETHER = "fpu vme pcid invpcid"


class HostFiles:
    """The file system of a machine, below a folder.

    By default an Intel bare-metal machine on which everything is there: root, kvm_intel with nesting, perf, kprobes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.put("proc/sys/kernel/osrelease", "6.1.0-13-amd64")
        self.put("proc/sys/kernel/perf_event_paranoid", "2")
        self.put("proc/filesystems", "nodev\tsysfs\nnodev\ttracefs\n\text4")
        self.put("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 quiet")
        self.put("dev/kvm", "")
        self.put("sys/kernel/tracing/events/kvm/kvm_exit/id", "1234")
        self.put("sys/bus/event_source/devices/kprobe/type", "6")
        self.put("sys/devices/system/cpu/vulnerabilities/l1tf", "Mitigation: PTE Inversion; VMX: flush not necessary")
        self.put("boot/config-6.1.0-13-amd64", "CONFIG_KVM=m\n", newline=False)
        self.cpu(f"{TOGETHER} vmx")
        self.user(uid=0, capabilities=0x1FF_FFFF_FFFF)
        self.module("kvm", tdp_mmu="Y")
        self.module("kvm_intel", nested="Y", ept="Y", vpid="Y", enable_shadow_vmcs="Y", unrestricted_guest="Y", pml="Y")

    def put(self, path: str, text: str, *, newline: bool = True) -> None:
        """Writes a file as the kernel would show it."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + ("\n" if newline else ""))

    def remove(self, path: str) -> None:
        """Takes a file or a folder away."""
        place = self.root / path
        if place.is_dir():
            for inner in place.iterdir():
                self.remove(str(inner.relative_to(self.root)))
            place.rmdir()
        else:
            place.unlink()

    def cpu(self, flags: str, *, vendor: str = "GenuineIntel", model: str = "Xeon") -> None:
        """Two CPUs alike."""
        one = f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: {model}\nmicrocode\t: 0x2b\nflags\t\t: {flags}\n"
        self.put("proc/cpuinfo", f"{one}\n{one.replace(': 0', ': 1', 1)}")

    def user(self, *, uid: int, capabilities: int = 0) -> None:
        """The process's effective user and capabilities."""
        status = f"Name:\tpython3\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{capabilities:016x}"
        self.put("proc/self/status", status)

    def module(self, name: str, **parameters: str) -> None:
        """A loaded module with its parameters."""
        (self.root / f"sys/module/{name}/parameters").mkdir(parents=True, exist_ok=True)
        for parameter, value in parameters.items():
            self.put(f"sys/module/{name}/parameters/{parameter}", value)

    def amd(self) -> None:
        """Makes it an AMD machine with kvm_amd."""
        self.cpu(f"{TOGETHER} svm npt", vendor="AuthenticAMD", model="EPYC")
        self.remove("sys/module/kvm_intel")
        self.module("kvm_amd", nested="1", npt="Y", avic="N")
