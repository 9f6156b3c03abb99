"""The inside of a sandbox: closes the doors of the namespaces that it was started in, then runs the command, watched.

A script that needs nothing but Python: ``python3 enclosed.py WRITABLE... -- READABLE... -- COMMAND...``, as process 1
of new user, PID, network, IPC and mount namespaces. The file system is read-only but for the writable folders;
:data:`FRESH`, where other programs' sockets and devices are, is new and nearly empty but for all the folders that are
named; no capability is left, and none comes back.

Source: mount(2), mount_setattr(2), prctl(2), capabilities(7), mount_namespaces(7).
"""

import ctypes
import importlib
import os
import resource
import sys
from collections.abc import Callable

_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC = 2, 4, 4096, 16384
_SYS_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38

_DEVICES = ("full", "null", "random", "urandom", "zero")
_STREAMS = {"fd": "fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
FRESH = {"/tmp": "4g", "/run": "16m", "/dev": "16m"}
"""What is not as it is outside, and how much room there is."""

# Several times what the largest kernel build takes.
LIMITS = {
    resource.RLIMIT_AS: 32 << 30,
    resource.RLIMIT_FSIZE: 8 << 30,
    resource.RLIMIT_CORE: 0,
}
"""Of each process, in bytes; what they may take together is not the kernel's to say."""

_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: str, kind: str | None, flags: int, options: bytes | None = None) -> None:
    words = (os.fsencode(source), os.fsencode(target), kind.encode() if kind else None)
    _check(_libc.mount(*words, ctypes.c_ulong(flags), options), f"mount {source} on {target}")


def _set_attributes(target: str, flags: int, *, on: int = 0, off: int = 0) -> None:
    attributes = (ctypes.c_uint64 * 4)(on, off, 0, 0)  # struct mount_attr
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    result = _libc.syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(target), flags, attributes, size)
    _check(result, f"mount_setattr {target}")


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _close_files(writable: list[str], readable: list[str]) -> None:
    """Makes everything read-only but the writable folders; all of the folders stay where they are."""
    # Held open: what is fresh may hide their names. Those to read are first, as the others may lie in them.
    folders = [*readable, *writable]
    held = [os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for folder in folders]
    devices = {name: os.open(f"/dev/{name}", os.O_PATH | os.O_CLOEXEC) for name in _DEVICES}
    _set_attributes("/", _AT_RECURSIVE, on=_MOUNT_ATTR_RDONLY)
    for place in filter(os.path.isdir, FRESH):
        _mount("kvmharness", place, "tmpfs", _MS_NOSUID | _MS_NODEV, f"mode=755,size={FRESH[place]}".encode())
    for name, device in devices.items():
        os.close(os.open(f"/dev/{name}", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC))  # what is mounted on
        _mount(f"/proc/self/fd/{device}", f"/dev/{name}", None, _MS_BIND)
    for name, target in _STREAMS.items():
        os.symlink(f"/proc/self/{target}", f"/dev/{name}")
    for folder, number in zip(folders, held, strict=True):
        if not os.path.isdir(folder):
            os.makedirs(folder)
        _mount(f"/proc/self/fd/{number}", folder, None, _MS_BIND)
        if folder in writable:
            _set_attributes(folder, 0, off=_MOUNT_ATTR_RDONLY)


def _give_up_privileges() -> None:
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
            break  # the kernel has no more of them
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl PR_SET_NO_NEW_PRIVS")
    for limit, most in LIMITS.items():
        _, hard = resource.getrlimit(limit)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (most, most))


def main(arguments: list[str], watch: Callable[[list[str]], int]) -> None:
    """Runs the command, and ends as it does.

    Args:
        arguments: folders to write to, ``--``, folders to read, ``--``, the command's own.
        watch: runs these and returns an exit status.
    """
    middle = arguments.index("--")
    end = arguments.index("--", middle + 1)
    here = os.getcwd()
    _close_files(arguments[:middle], arguments[middle + 1 : end])
    _give_up_privileges()
    # By its name, since what was opened before is the read-only one; a folder for temporary files may not be there.
    os.chdir(here if os.path.isdir(here) else "/")
    sys.exit(watch(arguments[end + 1 :]))


if __name__ == "__main__":
    try:
        # Read now: the folder may be one that is not there inside.
        sys.path.append(os.path.dirname(__file__))
        main(sys.argv[1:], importlib.import_module("watched").main)
    except OSError as error:
        sys.exit(f"sandbox: {error}")
