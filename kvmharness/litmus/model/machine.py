"""The model: takes a program's rows one after the other and says of each which answers the architecture allows."""

from collections.abc import Callable

from kvmharness.errors import UsageError
from kvmharness.litmus.model.access import Access, fault
from kvmharness.litmus.model.answers import DONE, NOT_RUN, Answers
from kvmharness.litmus.model.hoststeps import HostSteps
from kvmharness.litmus.model.memory import Entry, Memory
from kvmharness.litmus.model.processor import Processor
from kvmharness.litmus.program import Program, Row
from kvmharness.litmus.world import BIG_LEAF, Leaf, Target

_LOOKS = frozenset({"read", "write", "fetch", "uread", "uwrite", "ufetch", "look", "elook", "peek"})


class Model(HostSteps):
    """The state of the architecture, as far as rows can change it.

    Args:
        svm: the vendor's rules.
    """

    def __init__(self, *, svm: bool) -> None:
        self.svm = svm
        self.memory = Memory()
        self.cpus = {"L1": Processor(svm=svm), "V1": Processor(svm=svm)}
        self._host = "H0"  # where L1 goes on after L2's exit
        self.refused = False  # L2's rows are not reached
        self._number = 0
        for cpu in self.cpus.values():
            cpu.touch(self.memory)

    def cpu(self, who: str) -> Processor:
        """The processor that somebody runs on."""
        return self.cpus["V1" if who == "V1" else "L1"]

    def step(self, row: Row) -> Answers:
        """Does a row; gives the answers that are allowed.

        Raises:
            UsageError: nobody can say: code would be fetched from where there is no memory.
        """
        self._number += 1
        if row.who == "L2" and self.refused:
            return NOT_RUN
        if row.who in ("L1", "V1"):
            self._back(row.who)
        act: Callable[[Row], Answers] = getattr(self, f"_{row.verb}")
        allowed = act(row)
        if row.verb in _LOOKS:  # nothing is there that was not there before
            return allowed
        for cpu in self.cpus.values():
            cpu.touch(self.memory)
            self._may_be_walked(cpu)
        return allowed

    def _may_be_walked(self, cpu: Processor) -> None:
        """A is also set by walks for which there is no access. Source: SDM vol. 3A, "Accessed and Dirty Flags"."""
        walked = {cpu.mode.table} | ({cpu.nested} if cpu.level == "L2" and cpu.tracks else set())
        for (table, _), bits in self.memory.bits.items():
            bits.may_a |= table in walked

    def _back(self, who: str) -> None:
        """L1 goes on: L2 has left."""
        cpu = self.cpu(who)
        if cpu.level == "L2":
            cpu.leave(self._host)
            cpu.touch(self.memory)
        if who == "L1":
            self.refused = False

    # Accesses

    def _access(self, row: Row) -> Answers:
        access, cpu = Access.of(row.verb), self.cpu(row.who)
        answers: set[str] = set()
        landed: set[str] = set()
        entries = cpu.alternatives(row["probe"], self.memory)
        for leaf in entries:
            assert isinstance(leaf, Leaf)
            code = fault(access, leaf, cpu.mode)
            if code is not None:
                answers.add(f"#PF({code:#x})")
                continue
            for frame in self._through_nested(cpu, access, leaf.frame, answers):
                self._reach(access, frame, answers, landed)
        self._mark(cpu, access, row["probe"], entries, answers)
        if landed:
            possible = landed | ({""} if len(answers) > 1 or "done" not in answers else set())
            self._land(possible, row)
        return frozenset(answers)

    def _land(self, frames: set[str], row: Row) -> None:
        there = {frame for frame in frames if frame}
        if "" in frames and len(there) == 1:  # it may have gone nowhere: what was there before may still be
            (frame,) = there
            before = self.memory.content(frame)
            self.memory.land([frame, *there], f"w{self._number}")
            self.memory.written[self.memory.letter + frame[1:]] |= before
            if self.memory.dirty is not None:
                self.memory.dirty.discard(frame)
        else:
            self.memory.land(there, f"w{self._number}")

    def _through_nested(self, cpu: Processor, access: Access, frame: str, answers: set[str]) -> set[str]:
        """The pages of L1's space behind one of L2's."""
        if cpu.level == "L1" or not cpu.nested:
            return {frame}
        if frame[0] == "m":
            answers.add(f"nested fault {frame} {access.right}")
            return set()
        found = set()
        targets = cpu.nested_alternatives(frame, self.memory)
        for target in targets:
            assert isinstance(target, Target)
            if target.frame and access.right in target.rights:
                found.add(target.frame)
            else:
                answers.add(f"nested fault {frame} {access.right}")
        if cpu.tracks and found:
            certain = len(targets) == 1 and not any(target.big for target in targets if isinstance(target, Target))
            self._set_bits(cpu.nested, frame, access, certain=certain)
        return found

    def _reach(self, access: Access, frame: str, answers: set[str], landed: set[str]) -> None:
        """What is at a page of L1's physical space."""
        slot = self.memory.slot
        hole = frame[0] == "m" or slot == "deleted"
        if hole and access.kind == "fetch":
            raise UsageError("code is fetched from where there is no memory", "Read it, or write to it, instead.")
        if hole or (slot == "readonly" and access.kind == "write"):
            answers.add(f"mmio {frame}")
        elif access.kind == "write":
            answers.add("done")
            landed.add(frame)
        else:
            answers.add(self.memory.letter + frame[1:])

    def _mark(self, cpu: Processor, access: Access, place: str, entries: set[Entry], answers: set[str]) -> None:
        """A and D of the entry. Source: SDM vol. 3A, "Accessed and Dirty Flags"."""
        if all(answer.startswith("#PF") for answer in answers):
            return
        # A 2 MB page has its bits in the entry above.
        certain = len(entries) == 1 and BIG_LEAF not in entries
        certain &= not any(answer.startswith(("#PF", "nested")) for answer in answers)
        self._set_bits(cpu.mode.table, place, access, certain=certain)

    def _set_bits(self, table: str, place: str, access: Access, *, certain: bool) -> None:
        bits = self.memory.bits_of(table, place)
        bits.may_a = True
        bits.must_a |= certain
        if access.kind == "write":
            bits.may_d = True
            bits.must_d |= certain

    _read = _write = _fetch = _uread = _uwrite = _ufetch = _access

    def _interrupt(self, row: Row) -> Answers:
        """It is taken by whoever runs: L1 has not asked for exits by L2's interrupts.

        Source: SDM vol. 3C, "Other Causes of VM Exits"; APM vol. 2, "Interrupt Intercepts".
        """
        return frozenset({"interrupt"})

    # Tables

    def _map(self, row: Row) -> Answers:
        flags = frozenset(row.get("flags").split())
        leaf = Leaf(row["frame"], flags - {"old"})
        self.memory.write(row["table"], row["probe"], leaf, accessed="old" not in flags)
        return DONE

    def _unmap(self, row: Row) -> Answers:
        self.memory.write(row["table"], row["probe"], Leaf(""), accessed=False)
        return DONE

    def _emap(self, row: Row) -> Answers:
        target = Target(row["frame"], row.get("rights", "rwx"))
        self.memory.write(row["nested"], row["gframe"], target, accessed=False)
        return DONE

    def _eunmap(self, row: Row) -> Answers:
        self.memory.write(row["nested"], row["gframe"], Target("", ""), accessed=False)
        return DONE

    def _size(self, row: Row) -> Answers:
        self.memory.resize(row["table"], big=row["size"] == "big")
        return DONE

    def _esize(self, row: Row) -> Answers:
        self.memory.resize(row["nested"], big=row["size"] == "big")
        return DONE

    def _look(self, row: Row) -> Answers:
        return self.memory.bits_of(row["table"], row["probe"]).allowed()

    def _elook(self, row: Row) -> Answers:
        return self.memory.bits_of(row["nested"], row["gframe"]).allowed()

    def _peek(self, row: Row) -> Answers:
        if self.memory.slot == "deleted":
            return frozenset({f"mmio {row['frame']}"})
        return self.memory.content(row["frame"])

    # Control registers and flushes

    def _cr3(self, row: Row) -> Answers:
        self.cpu(row.who).load_cr3(row["table"], int(row.get("pcid", "0")), keep=bool(row.get("noflush")))
        return DONE

    def _set(self, row: Row) -> Answers:
        done = self.cpu(row.who).set_bit(row["bit"].partition(".")[2], row["value"] == "1")
        return DONE if done else frozenset({"#GP(0x0)"})

    def _invlpg(self, row: Row) -> Answers:
        self.cpu(row.who).invlpg(row["probe"])
        return DONE

    def _invpcid(self, row: Row) -> Answers:
        cpu = self.cpu(row.who)
        pcid = int(row.get("pcid", "0"))
        if pcid and not cpu.mode.pcide and row["type"] in ("addr", "one"):
            return frozenset({"#GP(0x0)"})
        cpu.invpcid(row["type"], pcid, row.get("probe", "p0"))
        return DONE

    def _invvpid(self, row: Row) -> Answers:
        cpu, tag = self.cpu(row.who), row.get("tag", "0")
        if row["type"] != "all" and tag == "0":
            return frozenset({"refused 28"})  # "Invalid operand to INVEPT/INVVPID"
        if row["type"] == "addr":
            cpu.flush_address(tag, row.get("probe", "p0"))
        elif row["type"] == "all":  # but for VPID 0
            for number in range(1, 16):
                cpu.flush_tag(str(number))
        else:
            cpu.flush_tag(tag, global_=row["type"] == "one")
        return DONE

    def _invept(self, row: Row) -> Answers:
        self.cpu(row.who).flush_nested(row.get("nested", "E0") if row["type"] == "one" else None)
        return DONE

    def _invlpga(self, row: Row) -> Answers:
        self.cpu(row.who).flush_address(row["tag"], row["probe"])
        return DONE

    # L2

    def _enter(self, row: Row) -> Answers:
        cpu = self.cpu("L1")
        self._host = row.get("host", cpu.modes["L1"].table)
        if self.svm and row.get("host"):
            cpu.load_cr3(self._host, cpu.modes["L1"].pcid, keep=False)
        if bad := row.get("bad"):
            self.refused = True
            return self._bad_entry(bad)
        cpu.touch(self.memory)
        cpu.enter(
            row["table"],
            int(row.get("pcid", "0")),
            row.get("nested"),
            row.get("tag", "0"),
            flush=row.get("flush"),
            tracks=bool(row.get("ad")),
        )
        return DONE

    def _vmfunc(self, row: Row) -> Answers:
        """Source: SDM vol. 3C, "EPTP Switching": nothing is flushed, guest-physical translations are kept by EPTP."""
        self.cpu("L1").nested = row["nested"]
        return DONE

    def _bad_entry(self, what: str) -> Answers:
        """Source: SDM vol. 3C, "Checks on Guest Control Registers ..." and "Checks on ... Control Fields"; APM vol. 2,
        "Canonicalization and Consistency Checks"."""
        if self.svm:
            return frozenset({"exit invalid"})
        return frozenset({{"guest": "exit 0x80000021", "host": "refused 8", "nested": "refused 7"}[what]})


def judgeable(program: Program, *, svm: bool) -> bool:
    """Whether there is an answer to all of its rows."""
    model = Model(svm=svm)
    try:
        for row in program.rows:
            model.step(row)
    except UsageError:
        return False
    return True
