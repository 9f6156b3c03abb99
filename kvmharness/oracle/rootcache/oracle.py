"""The simulated root cache as an :class:`kvmharness.oracle.oracles.Oracle`."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from kvmharness.oracle.rootcache.simulation import Features, predict
from kvmharness.oracle.scenario import Scenario
from kvmharness.results.record import Prediction

if TYPE_CHECKING:
    from kvmharness.oracle.csource import ReadSource


class RootCacheOracle:
    """Knows the features that :class:`Features` names."""

    name = "root-cache"
    words = ("ignore-direct-pgd", "reuse-current")
    usual = "as Linux has it since 5.7"

    def found(self, read: "ReadSource", before: "ReadSource") -> Mapping[str, int]:
        """See :func:`kvmharness.oracle.rootcache.source.features`."""
        from kvmharness.oracle.rootcache.source import features  # an emulated host has no use for it

        return _plain(features(read, before))

    def told(self, words: Collection[str]) -> Mapping[str, int]:
        """The features of a kernel that has just these."""
        ignore_direct_pgd, reuse_current = (word in words for word in self.words)
        return _plain(Features(ignore_direct_pgd, reuse_current))

    def predict(self, features: Mapping[str, int], scenario: Scenario, warmup: int, round_trips: int) -> Prediction:
        """See :func:`kvmharness.oracle.rootcache.simulation.predict`."""
        has = Features(bool(features["ignore_direct_pgd"]), bool(features["reuse_current"]), features["previous_roots"])
        calls = predict(scenario, has, warmup, round_trips)
        return Prediction(calls.loads, calls.switches)


def _plain(features: Features) -> dict[str, int]:
    return {name: int(value) for name, value in features._asdict().items()}
