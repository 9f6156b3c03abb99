"""Options that name one variant of a series, for the verbs that look at one."""

import argparse
from pathlib import Path

from kvmharness.errors import UsageError
from kvmharness.lab.kernels.choice import KernelChoice
from kvmharness.patches import series as series_files
from kvmharness.patches.variants import check_names
from kvmharness.validation import trust
from kvmharness.validation.hostbase import Of


def add_series_options(parser: argparse.ArgumentParser) -> None:
    """Options that say which variant's modules the emulated host loads."""
    group = parser.add_argument_group("the variant", "By default the kernel's own KVM modules are loaded.")
    group.add_argument(
        "--series", metavar="SERIES", help="load the modules of a variant of this series; it is named as for `validate`"
    )
    group.add_argument(
        "--variant", metavar="NAME", default="", help="which one: none, p1, p2, p1-2 and so on; the whole series if not"
    )
    group.add_argument("--repository", metavar="FOLDER", type=Path, help="the git repository of a series A..B")
    group.add_argument(trust.UNSANDBOXED, dest="unsandboxed", action="store_true", help=trust.UNSANDBOXED_HELP)


def variant_of(options: argparse.Namespace, kernel: KernelChoice) -> Of | None:
    """What :func:`add_series_options` read.

    Args:
        options: as argparse gives them.
        kernel: what :func:`kvmharness.cli.options.kernel_choice` read of them.

    Raises:
        UsageError: no such series or variant, options that contradict each other, or it may not be built here.
    """
    from kvmharness.validation.look import touched_paths

    if options.series is None:
        if options.variant:
            raise UsageError("--variant without --series", "Name the series too: --series SERIES.")
        return None
    if kernel.kernel is not None:
        raise UsageError("--series builds modules, --kernel and --modules take built ones", "Name one of them.")
    series = series_files.load(options.series, repository=options.repository)
    check_names(series, tuple(filter(None, (options.variant,))))
    trust.check_build(options.series, touched_paths(series), allowed=options.unsandboxed)
    return Of(series, options.variant)
