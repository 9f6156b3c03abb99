"""The ABI against the headers that are installed, and the means of that comparison."""

import shutil

import pytest

from kvmharness.abi import cdef
from tests.abi import headertests
from tests.abi import twin as twins
from tests.abi.header import Header
from tests.abi.headertests import HeaderTests
from tests.abi.known import NEWER_THAN_6_1

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: `sudo apt install build-essential`")
    return twins.Twin(Header(), tmp_path_factory.mktemp("twin"))


class TestInstalled(HeaderTests):
    """This machine's own."""

    def test_what_it_lacks_is_named(self, twin):
        assert twin.absent <= NEWER_THAN_6_1
        if twin.header.version.startswith("6.1."):
            assert twin.absent == NEWER_THAN_6_1, "some of these names are there, or are no names"
        if twin.absent:
            names = " ".join(sorted(twin.absent))
            pytest.skip(f"Linux {twin.header.version} has no {names}: `scripts/test --nightly` compares them with 6.12")


def test_a_field_too_many_is_seen(tmp_path, monkeypatch):
    rows = [*twins.fields(), ("struct kvm_interrupt", "extra", 4, 4, False)]
    monkeypatch.setattr(twins, "fields", lambda: rows)
    assert "struct kvm_interrupt.extra" in twins.Twin(Header(), tmp_path).absent


def test_a_function_of_another_type_is_seen(tmp_path, monkeypatch):
    wrong = cdef.text().replace("int close(int fd);", "long close(int fd);")
    monkeypatch.setattr(cdef, "text", lambda: wrong)
    with pytest.raises(AssertionError, match=r"conflicting types for .close"):
        twins.Twin(Header(), tmp_path)


def test_what_a_later_header_adds_is_named(twin, monkeypatch):
    later = Header()
    later.__dict__ |= {
        "version": "6.99.0",
        "constants": twin.header.constants | {"KVM_BREW_TEA", "KVM_CAP_TEA", "KVM_S390_BREW_TEA"},
        "types": twin.header.types | {"struct kvm_tea"},
        "fields": twin.header.fields | {"struct kvm_run.tea"},
    }
    names = ["KVM_BREW_TEA", "KVM_CAP_TEA", "struct kvm_run.tea", "struct kvm_tea"]
    assert headertests.unknown(later) == names
    monkeypatch.setattr(twin, "header", later)
    with pytest.raises(pytest.skip.Exception, match=" ".join(names)):
        HeaderTests().test_nothing_of_the_header_is_missing_here(twin)
    monkeypatch.setitem(headertests.CHECKED, "6.99", 0)
    with pytest.raises(AssertionError, match="KVM_BREW_TEA"):
        HeaderTests().test_nothing_of_the_header_is_missing_here(twin)


def test_the_generated_module_is_current(tmp_path):
    cdef.generate(tmp_path / "_kvm_abi.py")
    assert cdef.GENERATED.read_text() == (tmp_path / "_kvm_abi.py").read_text(), "run scripts/generate_abi.py"
