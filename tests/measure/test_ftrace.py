"""ftrace: whatever was set is set back, whatever happens; on a machine that is not ours alone in an instance only.

The files are a folder's here: they take what the kernel's take, and tell what was left in them.
"""

import os
import shutil
from pathlib import Path

import pytest

from kvmharness.errors import HostRequirementError
from kvmharness.measure import ftrace
from kvmharness.measure.ftrace import Ftrace

FILES = {
    "trace": "# tracer: nop\n",
    "tracing_on": "1\n",
    "buffer_size_kb": "7 (expanded: 1408)\n",
    "current_tracer": "nop\n",
    "available_tracers": "function_graph nop\n",
    "set_event_pid": "",
    "set_ftrace_pid": "",
    "set_ftrace_filter": "",
    "options/funcgraph-cpu": "1\n",
    "events/kvm/enable": "0\n",
}
GIVEN_BACK = {"tracing_on": "1", "buffer_size_kb": "7", "current_tracer": "nop", "options/funcgraph-cpu": "1"}
EMPTIED = ("set_event_pid", "set_ftrace_pid", "set_ftrace_filter", "trace")


def tracefs(root, **files):
    for name, text in (FILES | files).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "instances").mkdir()
    return root


def said(root, *names):
    return {name: (root / name).read_text().strip() for name in names}


@pytest.fixture
def root(tmp_path):
    return tracefs(tmp_path / "tracing")


def test_the_graph_of_modules_is_switched_on_for_this_thread_alone(root):
    with Ftrace(("kvm", "kvm_intel"), str(root)) as trace:
        assert trace.lacking == ""
        assert said(root, "current_tracer", "set_ftrace_filter", "events/kvm/enable", "tracing_on") == {
            "current_tracer": "function_graph",
            "set_ftrace_filter": "*:mod:kvm*:mod:kvm_intel",  # the kernel takes each write by itself
            "events/kvm/enable": "1",
            "tracing_on": "0",
        }
        assert set(said(root, "set_ftrace_pid", "set_event_pid").values()) == {str(os.getpid())}
        trace.start()
        assert said(root, "tracing_on", "trace") == {"tracing_on": "1", "trace": ""}
        (root / "trace").write_text("a line\n")
        trace.stop()
        assert list(trace.lines()) == ["a line"]


@pytest.mark.parametrize("ending", [None, KeyboardInterrupt])
def test_all_of_it_is_set_back_whatever_happens(root, ending):
    try:
        with Ftrace(("kvm",), str(root)) as trace:
            trace.start()
            if ending:
                raise ending
    except KeyboardInterrupt:
        pass
    assert said(root, *GIVEN_BACK) == GIVEN_BACK
    assert set(said(root, *EMPTIED).values()) == {""}
    assert said(root, "events/kvm/enable") == {"events/kvm/enable": "0"}


def test_what_was_set_before_a_setting_failed_is_set_back(root, monkeypatch):
    (root / "set_event_pid").unlink()
    (root / "set_event_pid").mkdir()  # cannot be written
    with pytest.raises(IsADirectoryError), Ftrace(("kvm",), str(root)):
        pass
    assert said(root, *GIVEN_BACK) == GIVEN_BACK


def test_a_kernel_without_the_graph_gives_tracepoints_and_says_so(tmp_path):
    root = tracefs(tmp_path / "tracing", available_tracers="nop\n")
    with Ftrace(("kvm",), str(root)) as trace:
        assert "CONFIG_FUNCTION_GRAPH_TRACER" in trace.lacking
        assert said(root, "current_tracer", "events/kvm/enable") == {"current_tracer": "nop", "events/kvm/enable": "1"}


def test_without_modules_nothing_but_an_instance_of_its_own_is_touched(root, tmp_path, monkeypatch):
    before = said(root, *FILES)
    own = root / "instances" / f"kvmharness-{os.getpid()}"
    pattern = shutil.copytree(root, tmp_path / "pattern")
    made, removed = os.mkdir, os.rmdir

    def mkdir(path, *mode):
        """An instance has its files as soon as it is made."""
        made(path, *mode)
        if str(path) == str(own):
            shutil.copytree(pattern, path, dirs_exist_ok=True)

    def rmdir(path, **more):
        """An instance goes with its files."""
        for child in path.iterdir() if path == own else ():
            shutil.rmtree(child) if child.is_dir() else child.unlink()
        removed(path, **more)

    monkeypatch.setattr(ftrace.os, "mkdir", mkdir)
    monkeypatch.setattr(
        ftrace.os, "rmdir", lambda path, **more: rmdir(Path(path) if path == str(own) else path, **more)
    )
    with Ftrace((), str(root)):
        assert said(own, "events/kvm/enable", "current_tracer") == {"events/kvm/enable": "1", "current_tracer": "nop"}
        assert said(root, *FILES) == before
    assert not own.exists()
    assert said(root, *FILES) == before


def test_an_instance_of_a_process_that_was_killed_is_removed(root, monkeypatch):
    for name in ("kvmharness-99999999", f"kvmharness-{os.getppid()}", "somebody-99999999"):
        (root / "instances" / name).mkdir()
    ftrace._remove_abandoned(str(root))
    assert {path.name for path in (root / "instances").iterdir()} == {
        f"kvmharness-{os.getppid()}",
        "somebody-99999999",
    }


def test_without_tracefs_it_is_said_how_to_get_it(tmp_path):
    with pytest.raises(HostRequirementError, match="tracefs") as error:
        Ftrace(("kvm",), str(tmp_path))
    assert "mount -t tracefs" in error.value.hint
