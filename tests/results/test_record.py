import errno
import json
import os
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmharness.cells.cell import Cell, Setup
from kvmharness.errors import ExitCode
from kvmharness.guest.layout import SAMPLES_MAX
from kvmharness.results.incidents import Leftover
from kvmharness.results.record import (
    MOST_SAMPLES,
    SCHEMA,
    UNITS,
    CellError,
    CellResult,
    OracleView,
    Prediction,
    Probes,
    Record,
    RecordError,
    VariantId,
    When,
)
from kvmharness.results.store import load, save
from kvmharness.system.files import WriteError, write_whole
from kvmharness.system.reading import ReadError
from tests import builders

names = st.text(max_size=12)
counts = st.integers(0, 2**64 - 1)
lines = st.lists(st.text(max_size=20), max_size=3).map(tuple)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(names, json_values, max_size=3)
variants = st.builds(
    VariantId,
    name=names,
    source=names,
    patches=lines,
    config_hash=names,
    build_id=names,
    oracle=st.none() | st.builds(OracleView, names, st.none() | st.dictionaries(names, counts, max_size=2), names),
)

leftovers = st.builds(Leftover, names, counts, counts, st.dictionaries(names, st.integers(-(2**63), 2**63), max_size=2))


@st.composite
def records(draw):
    known = draw(st.lists(variants, min_size=1, max_size=3, unique_by=lambda variant: variant.name))
    results = st.builds(
        CellResult,
        id=names,
        cell=objects,
        variant=st.sampled_from([variant.name for variant in known]),
        turn=counts,
        params=st.dictionaries(names, names, max_size=2),
        round_trips=st.integers(1, 2**63),
        exits=st.dictionaries(names, counts, max_size=2),
        counts=st.dictionaries(names, counts, max_size=2),
        missing=st.dictionaries(names, names, max_size=2),
        stats=st.dictionaries(names, st.integers(-(2**63), 2**63), max_size=2),
        predicted=st.none() | st.builds(Prediction, counts, counts),
        batch_round_trips=st.integers(1, 1000),
        samples=st.lists(st.integers(1, 2**63), max_size=4).map(tuple),
        probes=st.builds(Probes, counts, counts),
        skipped=st.none() | names,
        error=st.none() | st.builds(CellError, names, names),
        dmesg=lines,
    )
    return Record(
        tool_version=draw(names),
        command=draw(lines),
        when=When(draw(names), draw(st.floats(0, 1e9))),
        host=draw(objects),
        unit=draw(st.sampled_from(UNITS)),
        variants=tuple(known),
        results=tuple(draw(st.lists(results, max_size=3))),
        dmesg=draw(lines),
        notes=draw(lines),
        leftovers=tuple(draw(st.lists(leftovers, max_size=2))),
    )


@pytest.mark.slow
@given(records())
def test_every_record_reads_back_as_it_was(record):
    assert Record.from_json(json.loads(record.text())) == record


def test_file_round_trip(tmp_path):
    record = builders.record([Cell(Setup.NO_EPT, 3, 3), Cell(Setup.L1_ALONE, 5, guest_cr3s=0)])
    save(record, tmp_path / "run.json")
    assert load(tmp_path / "run.json") == record
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def test_results_travel_one_by_one():
    result = builders.result(Cell(Setup.EPTPS, eptps=3))
    assert CellResult.from_json(json.loads(json.dumps(result.to_json()))) == result
    with pytest.raises(RecordError, match=r"result\.turn: missing"):
        CellResult.from_json({key: value for key, value in result.to_json().items() if key != "turn"})


def test_only_the_time_of_day_tells_two_runs_apart():
    first = builders.record([Cell(Setup.NO_EPT)])
    later = replace(first, when=When("2031-01-01T00:00:00+00:00", 1.25))
    assert first.text() != later.text()
    assert first.text(when=False) == later.text(when=False)
    assert "2031" not in later.text(when=False)


def test_one_line_a_result():
    record = builders.record([Cell(Setup.NO_EPT, n) for n in (1, 2, 3)], variants=("none",), turns=1)
    assert sum('"samples"' in line for line in record.text().splitlines()) == 3


@pytest.mark.slow
@given(st.data())
def test_a_cut_off_record_is_refused(tmp_path_factory, data):
    whole = builders.record([Cell(Setup.NO_EPT)], turns=1).text().encode()
    path = tmp_path_factory.mktemp("cut") / "run.json"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 3))])  # past the last brace only white space is left
    with pytest.raises(ReadError, match=r"cannot read record .*run\.json: not JSON, or cut off"):
        load(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"\x1f\x8b\x08\x00", "not JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"schema": NaN}', "NaN is not JSON"),
        (b"1" * 10_000, "not JSON"),
        (b"null", "document: expected an object, found None"),
        (b"[]", "document: expected an object"),
        (b"{}", "schema: expected an integer, found None"),
        (b'{"schema": true}', "schema: expected an integer, found True"),
        (b'{"schema": 5}', "tool_version: missing"),
        (b'{"schema": 4}', "schema version 4 is not known here"),
    ],
)
def test_garbage_is_refused_with_its_reason(tmp_path, content, said):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(ReadError, match="cannot read record") as caught:
        load(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code is ExitCode.USAGE


def test_another_schema_version_is_refused_before_anything_else():
    with pytest.raises(RecordError, match=f"schema version {SCHEMA + 1} is not known") as caught:
        Record.from_json({"schema": SCHEMA + 1, "something": "new"})
    assert "version of kvmharness that wrote it" in caught.value.hint


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("command",), "kvmharness run", "command: expected a list, found 'kvmharness run'"),
        (("when", "seconds"), "1", "when.seconds: expected a number"),
        (("when", "seconds"), 10**400, "when.seconds: expected a number"),
        (("unit",), "cycles", "unit: 'cycles' is none of"),
        (("extra",), 1, "unknown field 'extra'"),
        (("variants", 0, "oracle"), {"oracle": "x", "features": {"y": True}}, "oracle.features.y: expected an integer"),
        (("variants", 1, "name"), "none", "'none' is there twice"),
        (("results", 0, "samples", 2), 1.5, "results[0].samples[2]: expected an integer, found 1.5"),
        (("results", 0, "samples", 2), True, "results[0].samples[2]: expected an integer, found True"),
        (("results", 1, "counts", "kvm_mmu_load"), None, "results[1].counts.kvm_mmu_load: expected an integer"),
        (("results", 0, "variant"), "p9", "variant 'p9' is not among"),
        (("results", 0, "round_trips"), -1, "a negative number of round trips"),
        (("results", 0, "batch_round_trips"), 0, "samples without batch_round_trips"),
        (("results", 0, "probes"), [], "results[0].probes: expected an object"),
        (("results", 0, "predicted"), {"loads": 1}, "results[0].predicted.switches: missing"),
    ],
)
def test_wrong_fields_are_named(path, value, said):
    document = json.loads(builders.record([Cell(Setup.NO_EPT)]).text())
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(RecordError) as caught:
        Record.from_json(document)
    assert said in str(caught.value)


@pytest.mark.slow
@given(records(), st.data())
def test_dropping_any_field_is_noticed(record, data):
    document = json.loads(record.text())
    del document[data.draw(st.sampled_from(sorted(document)))]
    with pytest.raises(RecordError):
        Record.from_json(document)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"samples": [0, 5]}, "a sample of 0; a time is longer than nothing"),
        ({"samples": [5, -5]}, "a sample of -5"),
        ({"round_trips": 0}, "counts without round_trips"),
        ({"exits": {"VMCALL": -1}}, "a negative count"),
        ({"counts": {"kvm_mmu_load": -1}}, "a negative count"),
        ({"samples": [1 << 64]}, r"results\[0\].samples\[0\]: expected 64 bits"),
        ({"samples": [1, -(1 << 63) - 1]}, r"results\[0\].samples\[1\]: expected 64 bits"),
        ({"exits": {"VMCALL": 1 << 64}}, r"results\[0\].exits.VMCALL: expected 64 bits"),
        ({"samples": [1] * 65_537}, "65537 samples, and 65536 is the limit for one result"),
        ({"id": "a:\ud800"}, "half a surrogate pair"),
        ({"exits": {"\udfff": 1}}, "half a surrogate pair"),
        ({"samples": [float("nan")]}, "NaN is not JSON"),
    ],
)
def test_figures_that_no_run_gives(tmp_path, changes, why):
    document = builders.record([Cell(Setup.NO_EPT, 3, 3)]).to_json()
    document["results"][0] |= changes
    (tmp_path / "run.json").write_text(json.dumps(document))
    with pytest.raises(ReadError, match=why):
        load(tmp_path / "run.json")


def test_a_result_may_have_as_many_samples_as_a_guest_can_take():
    assert MOST_SAMPLES >= SAMPLES_MAX


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(ReadError, match=r"cannot read record .*none\.json: No such file or directory"):
        load(tmp_path / "none.json")
    with pytest.raises(ReadError, match="it is a folder"):
        load(tmp_path)


def test_a_full_device_is_an_error_of_the_machine_and_stays_a_device():
    with pytest.raises(WriteError, match=r"cannot write /dev/full: No space left on device \(ENOSPC\)") as caught:
        write_whole("/dev/full", b"x")
    assert caught.value.exit_code is ExitCode.LOST
    assert "free space" in caught.value.hint
    assert not os.path.isfile("/dev/full")


def test_a_full_disk_leaves_the_old_record_and_nothing_else(tmp_path):
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", tmp_path], capture_output=True)
    if mount.returncode:
        pytest.skip("cannot mount a tmpfs of 16 KiB here; run as root, or in a user and mount namespace")
    try:
        small = builders.record([Cell(Setup.NO_EPT)], variants=("none",), turns=1)
        save(small, tmp_path / "run.json")
        large = builders.record([Cell(Setup.NO_EPT, n) for n in range(1, 40)])
        with pytest.raises(WriteError, match="ENOSPC"):
            save(large, tmp_path / "run.json")
        assert load(tmp_path / "run.json") == small
        assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(_fd):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "run.json", b"{}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("target", "code"), [("no/such/folder/run.json", errno.ENOENT), (".", errno.EISDIR)])
def test_unwritable_names(tmp_path, target, code):
    with pytest.raises(WriteError, match=errno.errorcode[code]):
        write_whole(tmp_path / target, b"{}")
    assert not list(tmp_path.iterdir())


def test_a_link_keeps_pointing_to_its_file(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
