import json

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.results.document import load_all, load_answered, pairs, written
from kvmharness.results.record import RecordError
from kvmharness.results.store import save
from kvmharness.results.verdict import Outcome, Verdict
from kvmharness.system.reading import ReadError
from tests import builders

CELLS = (Cell(Setup.NO_EPT, 1, 1),)


def record(name=None, **more):
    from dataclasses import replace

    made = builders.record(CELLS, **more)
    return made if name is None else replace(made, host={**made.host, "name": name})


VERDICT = Verdict.of("x", (), ("none", "both"), ("kvmharness",))


def test_one_record(tmp_path):
    save(record(), tmp_path / "a.json")
    assert load_all(tmp_path / "a.json") == (record(),)


def test_several_records_and_their_verdict(tmp_path):
    both = (record("vmx"), record("svm"))
    (tmp_path / "a.json").write_text(written(both, VERDICT))
    assert load_all(tmp_path / "a.json") == both


def test_a_verdict_comes_back_as_it_was(tmp_path):
    (tmp_path / "a.json").write_text(written((record(),), VERDICT))
    assert load_answered(tmp_path / "a.json") == ((record(),), VERDICT)


def test_a_verdict_may_be_all_that_there_is(tmp_path):
    (tmp_path / "a.json").write_text(written((), VERDICT))
    assert load_answered(tmp_path / "a.json") == ((), VERDICT)
    with pytest.raises(ReadError, match="there is none in it"):
        load_all(tmp_path / "a.json")


def test_each_result_has_a_line_of_its_own():
    lines = written((record(), record()), VERDICT).splitlines()
    assert sum(line.lstrip().startswith('{"batch_round_trips"') for line in lines) == 2 * len(record().results)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("[]", "expected an object"),
        ('{"verdict": null}', "records: missing"),
        ('{"verdict": null, "records": []}', "there is none in it"),
        ('{"verdict": null, "record": null}', "records: missing"),
        ('{"verdict": {}, "records": []}', "series: missing"),
        ('{"verdict": null, "records": [], "more": 1}', "unknown field 'more'"),
        ('{"verdict": null, "records": [{}]}', "schema"),
    ],
)
def test_what_is_no_such_file(text, says, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ReadError, match=says) as caught:
        load_all(tmp_path / "a.json")
    assert f"cannot read record {tmp_path}/a.json" in str(caught.value)
    assert caught.value.hint


def test_records_are_paired_by_host():
    vmx, svm = record("vmx"), record("svm")
    assert pairs((vmx, svm), (svm, vmx)) == {"vmx": (vmx, vmx), "svm": (svm, svm)}
    assert pairs((record(),), (vmx,)) == {"": (record(), vmx)}


def test_records_of_different_hosts():
    with pytest.raises(RecordError, match="not about the same hosts: vmx, svm and vmx"):
        pairs((record("vmx"), record("svm")), (record("vmx"),))
    with pytest.raises(RecordError, match="the same name"):
        pairs((record("vmx"), record("vmx")), (record("vmx"),))


def test_an_outcome_that_is_none(tmp_path):
    document = VERDICT.to_json() | {"outcome": "SURELY"}
    (tmp_path / "a.json").write_text(json.dumps({"verdict": document, "records": []}))
    with pytest.raises(ReadError, match=Outcome.PASS.value):
        load_all(tmp_path / "a.json")
