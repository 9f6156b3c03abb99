"""Makes a failing sequence shorter: calls are left out as long as it still fails in the same way."""

_TRIES_MOST = 200


def shortest(calls, fails):
    """A shorter sequence of the same calls that fails, if there is one.

    Args:
        calls: one that does.
        fails: whether another one does, in the same way.
    """
    found, size, tries = list(calls), max(len(calls) // 2, 1), 0
    while True:
        start, shorter = 0, False
        while start < len(found) and tries < _TRIES_MOST:
            candidate = found[:start] + found[start + size :]
            tries += 1
            if candidate and fails(candidate):
                found, shorter = candidate, True
            else:
                start += size
        if tries >= _TRIES_MOST or (size == 1 and not shorter):
            return found
        size = max(size // 2, 1)
