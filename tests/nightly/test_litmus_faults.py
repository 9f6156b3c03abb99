"""Each of the seeded faults in KVM is caught by the named litmus tests of the rule that it breaks."""

import pytest

from tests.validation.litmusfaults import check, every

NEEDS = {"vmx": "emulated_vmx", "svm": "emulated_svm"}


def _marked(fault):
    return pytest.param(fault, id=fault.name, marks=pytest.mark.needs(NEEDS[fault.host.partition(":")[0]]))


@pytest.mark.parametrize("fault", [_marked(fault) for fault in every()])
def test_a_fault_is_caught(fault):
    check(fault, tuple(other for other in every() if other.place == fault.place))
