"""Many series in one boot: what equal modules gave is measured once, and each series is judged by its own part."""

from dataclasses import replace

from kvmharness.cells.matrix import select
from kvmharness.lab.kernels import build
from kvmharness.lab.kernels.source import debian
from kvmharness.patches.series import load
from kvmharness.results.verdict import Outcome
from kvmharness.validation.campaign import Variant, run_in
from kvmharness.validation.judges import judge
from kvmharness.validation.prepare import prepare
from kvmharness.validation.snapshots import emulated_host
from kvmharness.validation.validate import builds, order


class SharedBoot:
    """Series whose variants all load into one kernel and leave it running.

    Args:
        specs: of the series, by the name to ask for them by.
        cells: to run under each variant.
        host: the emulated host.
        names: of the variants to make of each; all without names.
        turns: how often each of them is loaded.
    """

    def __init__(self, specs, cells, host="vmx", names=(), turns=1):
        kernel = build.kernel(debian())
        self.built = {name: prepare(load(str(spec)), kernel, names) for name, spec in specs.items()}
        self._shared = {}  # the same modules, seen by the oracle in the same way -> the variant that runs
        for built in self.built.values():
            for variant in built.variants:
                name = f"v{len(self._shared)}"
                self._shared.setdefault(_key(variant), Variant(replace(variant.id, name=name), variant.modules))
        self._record = run_in(
            emulated_host(host, kernel),
            tuple(self._shared.values()),
            order([variant.id.name for variant in self._shared.values()], turns),
            select(cells),
            command=(),
            on_result=lambda result, done, total: None,
        )

    def record(self, name):
        """The part of the run that is about one series, as if there had been no other."""
        ids = tuple(variant.id for variant in self.built[name].variants)
        ran = {variant.id.name: self._shared[_key(variant)].id.name for variant in self.built[name].variants}

        def of(entries):
            """Those about its variants, by their names in the series."""
            found = [(own, entry) for own, shared in ran.items() for entry in entries if entry.variant == shared]
            return tuple(replace(entry, variant=own) for own, entry in found)

        whole = self._record
        parts = {part: of(getattr(whole, part)) for part in ("results", "logs", "reports", "losses", "leftovers")}
        return replace(whole, variants=ids, **parts)

    def verdict(self, name):
        """What a validation of the series would answer."""
        built = self.built[name]
        return judge(built.subject, {"": self.record(name)}, (builds(built),))


def _key(variant):
    return variant.id.build_id, repr(variant.id.oracle)


def failing(verdict):
    """The names of the claims that fail."""
    return {claim.name for claim in verdict.claims if claim.outcome is Outcome.FAIL}
