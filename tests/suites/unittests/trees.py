"""A tree of unit tests in a folder of its own, and running one here."""

from kvmharness.suites.test import Ran
from kvmharness.suites.unittests.execute import execute
from kvmharness.suites.unittests.tree import read_tree


def tree(folder, images, config=None):
    """Writes images, by the name of their file, and a unittests.cfg beside them."""
    (folder / "x86").mkdir(exist_ok=True)
    for name, data in images.items():
        (folder / "x86" / name).write_bytes(data)
    if config is not None:
        (folder / "x86" / "unittests.cfg").write_text(config)
        return folder
    return folder / "x86"


def one(folder, image, section="", **named):
    """The test of one image; *section* is more of its section."""
    (test,) = read_tree(tree(folder, {"some.flat": image}, f"[some]\nfile = some.flat\n{section}\n"), **named)
    return test


def run_here(test, **changes):
    """Runs a test on this machine's /dev/kvm: its lines by name, and what it emitted last."""
    ran = Ran()
    execute(ran.data.append, **{**test.step(inside=False).args, **changes})
    return {line.name: line for line in test.judged(ran)}, ran.data[-1]
