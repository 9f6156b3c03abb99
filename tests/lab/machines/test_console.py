"""What is kept of a console, however much a kernel says."""

import tracemalloc

from kvmharness.lab.machines.console import MAX_BYTES, Console


def test_the_console_is_read_as_it_grows(tmp_path):
    path = tmp_path / "console"
    console = Console(path)
    console.read()
    path.write_bytes(b"one\r\ntw")
    console.read()
    assert (list(console.lines), console.last) == (["one"], ("one", "tw"))
    with path.open("ab") as file:
        file.write(b"o\n\xff\n" + b"x\n" * 100)
    console.read()
    assert list(console.lines)[1:3] == ["two", "\\xff"]
    assert (len(console.whole), len(console.last)) == (103, 40)


def test_of_many_lines_the_last_are_kept_and_it_is_said_so(tmp_path):
    path = tmp_path / "console"
    path.write_text("".join(f"line {number}\n" for number in range(50_000)))
    console = Console(path)
    console.read()
    assert console.whole[:2] == ("(30000 lines before these are not kept)", "line 30000")
    assert console.last[-1] == "line 49999"


def test_a_line_that_never_ends_is_cut(tmp_path):
    path = tmp_path / "console"
    path.write_bytes(b"x" * 5_000_000 + b"\nthe end\n")
    console = Console(path)
    console.read()
    assert max(map(len, console.whole)) == 8192
    assert console.last[-1] == "the end"


def test_a_flood_is_noticed_and_not_kept(tmp_path):
    path = tmp_path / "console"
    with path.open("wb") as file:
        file.truncate(1 << 33)  # NULs, which are no space
    console = Console(path)
    tracemalloc.start()
    console.read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert console.flooded
    assert peak < MAX_BYTES
