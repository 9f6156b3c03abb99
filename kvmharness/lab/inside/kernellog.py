"""What the kernel's log gains while something is done."""

import os


class KernelLog:
    """The kernel's log from now on: each call of :meth:`gained` gives the lines since the last one.

    Raises:
        OSError: it cannot be read here.
    """

    def __init__(self, path: str = "/dev/kmsg") -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            os.lseek(self._fd, 0, os.SEEK_END)
        except OSError:
            os.close(self._fd)
            raise

    def close(self) -> None:
        """Stops listening."""
        os.close(self._fd)

    def gained(self) -> list[str]:
        """New lines, without their time stamps, which say nothing in an emulator."""
        lines: list[str] = []
        while True:
            try:
                record = os.read(self._fd, 8192)
            except BlockingIOError:
                return lines
            except BrokenPipeError:  # the ring buffer overran us; the next read goes on with what is left
                lines.append("(kernel log lines were lost here)")
                continue
            lines += lines_of(record)


def lines_of(record: bytes) -> list[str]:
    """The text of a record of /dev/kmsg: of several lines, where a message has them, as many of lockdep's.

    Source: Documentation/ABI/testing/dev-kmsg: priority,sequence,time,flags;text, then lines of KEY=value that belong
    to the record. In the text a newline is escaped, and so is a backslash.
    """
    _, _, text = record.partition(b";")
    return text.partition(b"\n")[0].decode(errors="backslashreplace").split("\\x0a")
