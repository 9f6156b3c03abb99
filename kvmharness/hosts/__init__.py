"""What this machine is, and which of a test's needs it does not meet."""

from kvmharness.hosts.device import DeviceState
from kvmharness.hosts.facts import HostFacts, facts
from kvmharness.hosts.needs import NEEDS, Need, Unmet, all_unmet, check_names, unmet

__all__ = ["NEEDS", "DeviceState", "HostFacts", "Need", "Unmet", "all_unmet", "check_names", "facts", "unmet"]
