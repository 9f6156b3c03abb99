"""The catalogue of emulated hosts: names, what each offers, and a host that is nothing but a row."""

import re

import pytest

from kvmharness.errors import UsageError
from kvmharness.hosts import catalogue
from kvmharness.hosts.catalogue import EmulatedHost, Emulator
from kvmharness.hosts.facts import facts
from kvmharness.hosts.needs import NEEDS, check_names, unmet
from tests.hostfiles import HostFiles

EPT = {"vmx:skylake", "vmx:haswell", "vmx:sandybridge", "vmx:lynnfield"}
VMX = EPT | {"vmx:penryn"}
SVM = {"svm:epyc", "svm:epyc-nonpt"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("vmx", "vmx:skylake"),
        ("vmx:skylake", "vmx:skylake"),
        ("vmx:penryn", "vmx:penryn"),
        ("svm", "svm:epyc"),
        ("svm:epyc-nonpt", "svm:epyc-nonpt"),
    ],
)
def test_what_a_text_means(text, name):
    assert catalogue.named(text).name == name
    assert catalogue.find(catalogue.named(text).spec).name == name


@pytest.mark.parametrize("text", ["", "local", "skylake", "vmx:", "vmx:486", "vmx:epyc", "svm:skylake", "VMX", "vm"])
def test_what_means_nothing(text):
    assert catalogue.find(text) is None
    with pytest.raises(UsageError, match=re.escape(f"no emulated host is called {text!r}")) as caught:
        catalogue.named(text)
    assert "vmx, svm, vmx:skylake" in caught.value.hint


def test_each_row_offers_needs_that_there_are():
    assert {host.name for host in catalogue.HOSTS} == VMX | SVM
    for host in catalogue.HOSTS:
        check_names(host.offers)
        assert len(set(host.offers)) == len(host.offers)
    for vendor in catalogue.vendors():
        assert f"emulated_{vendor}" in NEEDS


# Seen by booting each: what its L0's kernel says of the processor and of KVM's module parameters.
@pytest.mark.parametrize(
    ("need", "hosts"),
    [
        ("kvm", VMX | SVM),
        ("nested_vmx", VMX),
        ("nested_svm", SVM),
        ("ept", EPT),
        ("npt", {"svm:epyc"}),
        ("tdp", EPT | {"svm:epyc"}),
        ("tdp_mmu", EPT | {"svm:epyc"}),
        ("no_ept", {"vmx:penryn", "svm:epyc-nonpt"}),
        ("vpid", EPT),
        ("tlb_tags", EPT | SVM),
        ("invept", EPT),
        ("shadow_vmcs", {"vmx:skylake", "vmx:haswell"}),
        ("invpcid", {"vmx:skylake", "vmx:haswell"}),
        ("pcid", VMX),
        ("perf", VMX | SVM),
        ("kprobes", VMX | SVM),
        ("root", VMX | SVM),
        ("bare_metal", set()),
        ("emulated_vmx", set()),
    ],
)
def test_who_offers_a_need(need, hosts):
    assert {host.name for host in catalogue.offering(need)} == hosts


@pytest.mark.parametrize(
    ("host", "needs", "params", "missing"),
    [
        ("vmx", ("nested_vmx", "ept"), {}, ()),
        ("vmx", ("npt", "bare_metal", "ept"), {}, ("npt", "bare_metal")),
        ("vmx", ("no_ept", "kvm.tdp_mmu=N"), {"kvm_intel.ept": "0", "kvm.tdp_mmu": "N"}, ()),
        ("svm", ("no_ept",), {"kvm_amd.npt": "0"}, ()),
        ("vmx:penryn", ("no_ept", "kernel>=6.1", "kernel==9.9"), {}, ()),
    ],
)
def test_what_a_host_makes_of_needs(host, needs, params, missing):
    assert catalogue.named(host).offer(needs) == (params, missing)


def test_a_host_is_nothing_but_a_row(monkeypatch, tmp_path):
    """Who reads the catalogue knows it: needs, and what may be typed."""
    row = EmulatedHost("vmx:throwaway", Emulator("Nothing", "nowhere:Nothing"), "none", ("pcid", "bare_metal"))
    monkeypatch.setattr(catalogue, "HOSTS", (*catalogue.HOSTS, row))
    machine = HostFiles(tmp_path)
    machine.cpu("vmx hypervisor")
    assert unmet("bare_metal", facts(str(tmp_path))).way_out == "kvmharness run --host vmx:throwaway"
    assert catalogue.named("vmx:throwaway") is row
    assert "penryn, throwaway; svm" in catalogue.choices()
    assert row.emulator.lacks() == {}
