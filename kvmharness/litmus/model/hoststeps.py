"""What userspace does between rows, as the model sees it."""

from kvmharness.errors import UsageError
from kvmharness.litmus.model.answers import DONE, LOGGED, Answers
from kvmharness.litmus.model.memory import Memory
from kvmharness.litmus.model.processor import Processor
from kvmharness.litmus.program import Row


class HostSteps:
    """Steps of the host, which change memory and what processors have cached.

    Attributes:
        memory: all of it.
        cpus: by the name of who runs there when L2 does not.
    """

    memory: Memory
    cpus: dict[str, Processor]

    def _slot(self, row: Row) -> Answers:
        """KVM's promise is that a change of memslots is in force when the ioctl returns. Source: api.rst,
        "KVM_SET_USER_MEMORY_REGION"."""
        what, memory = row["what"], self.memory
        if what == "add" and memory.slot != "deleted":
            return DONE
        memory.slot = {"delete": "deleted", "readonly": "readonly"}.get(what, "there")
        if what != "add":
            memory.dirty = None  # the log goes with the slot
        if what == "move":
            memory.letter = "b" if memory.letter == "d" else "d"
        return DONE

    def _dirty(self, row: Row) -> Answers:
        memory = self.memory
        answers = DONE
        if memory.slot == "deleted":
            raise UsageError("there is no memslot to log", "Write 'host slot add' before it.")
        if row["what"] == "get":
            if memory.dirty is None:
                raise UsageError("nothing is logged", "Write 'host dirty start' before it; a memslot's change ends it.")
            answers = frozenset({LOGGED + (" ".join(sorted(memory.dirty, key=_number)) or "-")})
            memory.was_read = True
        if row["what"] in ("manual", "automatic"):
            memory.manual = row["what"] == "manual"
        elif row["what"] == "clear":
            self._clear()
        elif not (row["what"] == "get" and memory.manual):
            memory.dirty = None if row["what"] == "stop" else set()
        return answers

    def _clear(self) -> None:
        """Pages that were in the log when it was last read leave it. Source: api.rst, "KVM_CLEAR_DIRTY_LOG"."""
        memory = self.memory
        if memory.dirty is None or not memory.manual or not memory.was_read:
            raise UsageError("there is no log to clear by hand", "Write 'host dirty manual' and 'get' before it.")
        # More pages than must be in it may have been in it, and are cleared as well.
        memory.dirty = set()

    def _count(self, row: Row) -> Answers:
        return DONE

    def _nested(self, row: Row) -> Answers:
        return DONE

    def _sregs(self, row: Row) -> Answers:
        return DONE

    def _migrate(self, row: Row) -> Answers:
        """Into a new VM, whose processors have cached nothing."""
        for cpu in self.cpus.values():
            cpu.forget()
        if self.memory.dirty is not None:  # the log of the old VM is gone with it
            self.memory.dirty = set()
        return DONE


def _number(frame: str) -> int:
    return int(frame[1:])
