import json

from kvmharness.cells.cell import Cell, Setup
from kvmharness.report.comparison import comparison_json, comparison_lines
from kvmharness.results.compare import compare, compare_variants
from tests import builders

CELLS = (Cell(Setup.NO_EPT, 1, 1), Cell(Setup.NO_EPT, 3, 3))

GOLDEN = """\
cell   A -> B      time A  time B  change  noise  outcome
a:1x1  p1 -> none  17,700  17,700    0.0%   0.0%  PASS
a:3x3  p1 -> none  17,700  20,100  +13.6%   0.0%  FAIL
    kvm_mmu_load 0 -> 2 per RT
p1: Ignore guest CR3 on fast root switch for direct MMU
time in instructions (emulated); 1 PASS, 1 FAIL: FAIL
"""


def test_lines():
    comparison = compare_variants(builders.record(CELLS), "p1", "none")
    assert "\n".join(comparison_lines(comparison)) + "\n" == GOLDEN


def test_warnings_come_first_and_everything_fits():
    record = builders.record(CELLS, ("host",), emulated=False)
    other = builders.record(CELLS, ("host",), emulated=True)
    lines = comparison_lines(compare(record, other), width=72)
    assert lines[0].startswith("warning: units differ")
    assert max(map(len, lines)) <= 72


def test_json_holds_every_figure():
    noisy = [builders.record(CELLS, ("host",), turns=1, emulated=False, noise=0.01, seed=seed) for seed in "ab"]
    document = json.loads(json.dumps(comparison_json(compare(*noisy)), allow_nan=False))
    assert document["outcome"] == "INCONCLUSIVE"
    assert [cell["id"] for cell in document["cells"]] == ["a:1x1", "a:3x3"]
    assert document["cells"][0]["time"]["noise"] is None
    changed = comparison_json(compare_variants(builders.record(CELLS), "none", "both"))["cells"][1]["changed"]
    assert changed == [{"name": "kvm_mmu_load", "a": "2", "b": "0"}]
