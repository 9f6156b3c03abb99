"""How text of others is shown: mails, paths, kernel logs, guests' output, whatever else a stranger may have written.

On a terminal a control character is an order, and one that turns the direction of writing makes a line read as another
one. Every way out (standard output and error, text reports, XML, HTML, test reports) shows them as escapes; records
keep the text as it is.
"""

import os
import re
from typing import Any

# C0 but for tab and newline, DEL and C1; what ends a line for some readers only; halves of characters, which cannot be
# written at all; and what Unicode calls Bidi_Control (UAX #9, section 2: ALM, LRM, RLM, the embeddings, overrides and
# isolates). A carriage return is let pass where it is half of a line's end.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]|\r(?!\n)"
)


def colours_wanted() -> bool:
    """Whether a terminal may be told to colour, and to print bold: not where NO_COLOR is set to anything."""
    return not os.environ.get("NO_COLOR")


def shown(text: str) -> str:
    """The text with those characters as ``\\x1b`` or ``\\u202e``; the same object where there are none."""
    return _HIDDEN.sub(_escaped, text) if _HIDDEN.search(text) else text


def all_shown(value: Any) -> Any:
    """A JSON value with every string in it as :func:`shown`."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, list):
        return [all_shown(item) for item in value]
    return {shown(key): all_shown(item) for key, item in value.items()} if isinstance(value, dict) else value


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
