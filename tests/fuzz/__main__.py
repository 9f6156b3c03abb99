"""``python -m tests.fuzz``: sequences of a seed, or of a file with one call a line, in an emulated host."""

import argparse
import json
import time
from pathlib import Path

from kvmharness.lab.kernels import build
from kvmharness.lab.kernels.debugging import LITE
from kvmharness.lab.kernels.source import debian
from kvmharness.validation.snapshots import emulated_host
from tests.fuzz.hunt import MAKERS, Hunted, hunt, made


def main():
    """Ends with 1 when something went wrong."""
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument("level", choices=MAKERS)
    parser.add_argument("--host", default="vmx:skylake")
    parser.add_argument("--debug-kernel", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sequences", type=int, default=16)
    parser.add_argument("--replay", type=Path, metavar="FILE", help="calls, one a line, as a failure names them")
    options = parser.parse_args()
    kernel = build.kernel(debian(), recipe=LITE) if options.debug_kernel else build.kernel()
    if options.replay:
        calls = [json.loads(line) for line in options.replay.read_text().splitlines()]
        hunted = Hunted(options.level, None, [calls])
    else:
        hunted = made(options.level, options.seed, options.sequences)
        print(f"seed {options.seed}")
    began = time.monotonic()
    machine = emulated_host(options.host, kernel, snapshot=False)  # made for one run, it would cost more than a boot
    hunt(
        machine,
        kernel.modules,
        hunted,
        tell=lambda said: print(f"{time.monotonic() - began:4.0f} s {said}", flush=True),
    )
    for name, counts in sorted(hunted.outcomes.items()):
        print(f"{name:34}{', '.join(f'{outcome} {count}' for outcome, count in counts.most_common())}")
    print(f"{hunted.calls} calls of {len(hunted.outcomes)} kinds, {time.monotonic() - began:.0f} s")
    print(hunted.text())
    return int(bool(hunted.text()))


raise SystemExit(main())
