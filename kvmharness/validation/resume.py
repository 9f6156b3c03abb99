"""Whether a record that was cut short is of the run that is to go on."""

from kvmharness.errors import UsageError
from kvmharness.results.record import Record

# Facts of the host that figures depend on.
_FACTS = ("kernel_release", "config_hash", "cpu_model", "emulator", "emulated", "vendor_module", "module_parameters")


def check_same(earlier: Record, now: Record) -> None:
    """Refuses to go on with another run's record.

    Args:
        earlier: what was cut short.
        now: the record that is to be, without results yet.

    Raises:
        UsageError: they are not of the same variants on the same host; says in what they differ.
    """
    hint = "Go on with the command that made it, or leave --resume away and begin anew."
    if not earlier.partial:
        raise UsageError("the record to resume is complete: nothing is left to run", hint)
    ours = {variant.name: (variant.source, variant.patches, variant.build_id) for variant in now.variants}
    theirs = {variant.name: (variant.source, variant.patches, variant.build_id) for variant in earlier.variants}
    if ours.keys() != theirs.keys():
        raise UsageError(f"the record to resume has variants {', '.join(theirs)}, this run {', '.join(ours)}", hint)
    for name, what in ours.items():
        if theirs[name] != what:
            raise UsageError(f"variant {name} of the record to resume was built from something else", hint)
    for fact in _FACTS:
        if earlier.host.get(fact) != now.host.get(fact):
            raise UsageError(f"the record to resume is of another host: {fact} differs", hint)
