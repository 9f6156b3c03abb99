"""What is carried into a host for measured cells: little, and known by name."""

import sys

from kvmharness.lab.image.closure import closure, follow_core
from kvmharness.lab.image.interpreter import PythonParts

MODULES_MAX = 132  # with the standard library's

# Of this package, by room. Whoever adds one makes every boot longer: is it needed to run a cell, or only to plan or to
# judge it?
OWN = {
    "abi": "_kvm_abi binding constants errors ioctls",
    "cells": "execute surroundings trace",
    "errors": "",
    "guest": "blueprint build layout loopcontext runloop saved serialloop session stops watchdog",
    "hosts": "device facts",
    "kvm": (
        "arguments capabilities device errors exits lists memory resources state system value"
        " vcpu vcpu_requests vcpu_state vm vm_requests"
    ),
    "lab": "events inside steps",
    "lab.inside": "agent execute executor frames kernellog memory modules port sections waiting",
    "lean": "dataclasses",
    "litmus": "execute host protocol",
    "measure": "clock ftrace perf stats_fd",
    "suites": "",
    "suites.unittests": "cpuid devices execute vmm",
    "vendors": "names naming svm vmx",
    "vendors.svm": "names",
    "vendors.vmx": "names",
    "x86": "cpuid msr segments",
}


def carried():
    """By name; without packages of others, as a run of cells boots."""
    return set(closure(PythonParts().roots(), follow_core))


def test_the_packages_own_modules_are_those_that_are_known():
    rooms = {f"kvmharness.{room}" for room in OWN}
    known = {f"kvmharness.{room}.{name}" for room, names in OWN.items() for name in names.split()}
    assert {name for name in carried() if name.startswith("kvmharness")} == {"kvmharness", *rooms, *known}


def test_the_standard_library_adds_few():
    found = sorted(carried())
    limit = MODULES_MAX + (sys.version_info >= (3, 13))  # _colorize of traceback
    assert len(found) <= limit, f"{len(found)} modules are carried: {' '.join(found)}"
