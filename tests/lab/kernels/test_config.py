"""Options that did not hold are found, each by name."""

import pytest

from kvmharness.errors import KvmHarnessError
from kvmharness.lab.kernels import config


def test_options_that_held_pass():
    config.check(
        "CONFIG_A=y\nCONFIG_N=8\n# CONFIG_C is not set\n", ["CONFIG_A=y", "CONFIG_N=8", "# CONFIG_C is not set"]
    )


@pytest.mark.parametrize(
    ("final", "wanted"),
    [
        ("", "CONFIG_KVM=m"),
        ("# CONFIG_KVM is not set\n", "CONFIG_KVM=m"),
        ("CONFIG_KVM=y\n", "CONFIG_KVM=m"),
        ("CONFIG_KVM_INTEL=m\n", "CONFIG_KVM=m"),
        ("CONFIG_VT=y\n", "# CONFIG_VT is not set"),
        ("CONFIG_NR_CPUS=64\n", "CONFIG_NR_CPUS=8"),
    ],
)
def test_an_option_that_was_lost_is_named(final, wanted):
    with pytest.raises(config.OptionLostError) as caught:
        config.check(final + "CONFIG_OTHER=y\n", [wanted, "CONFIG_OTHER=y"])
    assert caught.value.options == (wanted,)
    assert wanted in str(caught.value)
    assert caught.value.hint
    assert isinstance(caught.value, KvmHarnessError)


def test_every_fragment_says_why_and_no_option_is_set_twice():
    names = [line.removeprefix("# ").split("=")[0].split()[0] for line in config.MINIMAL.wanted()]
    assert len(names) == len(set(names))
    assert all(fragment.reason and fragment.lines() for fragment in config.FRAGMENTS)


def test_kvm_is_built_as_modules_for_both_vendors():
    assert {"CONFIG_KVM=m", "CONFIG_KVM_INTEL=m", "CONFIG_KVM_AMD=m"} <= set(config.MINIMAL.wanted())
