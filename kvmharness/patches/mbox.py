"""Patches as mail: mboxes from lore or b4, single messages, plain diffs.

Lore's thread mboxes hold the cover letter, replies and sometimes several versions of a series, in any order. What
counts is what a maintainer would apply: the patches of the newest version, in the order of their subjects.
"""

import email.policy
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.errors import MessageError
from email.header import decode_header
from email.message import Message
from email.parser import BytesParser

from kvmharness.patches.diff import FileChange, PatchError, parse
from kvmharness.system.reading import MAILS, fault, too_deep
from kvmharness.system.unpacking import gunzip

# "From mboxrd@z Thu Jan  1 00:00:00 1970", "From 3651c7fc2bf6... Mon Sep 17 00:00:00 2001"
# The time's colons are the line's only ones, so there is one way to match it, however long it is.
_SEPARATOR = re.compile(rb"From \S+ [^:\n]*\d\d:\d\d:\d\d [^:\n]*\d{4}\s*\n")
_ESCAPED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)  # mboxrd
_HEADER = re.compile(rb"[!-9;-~]+:[ \t]")
_TAGS = re.compile(r"\s*\[([^\]]*)\]")
_VERSION = re.compile(r"(?:PATCH)?[vV]([0-9]+)")
_REPLY = re.compile(r"(?i)\s*(re|aw|fwd?)\s*:")
_PATCH_TYPES = ("text/x-patch", "text/x-diff", "application/x-patch", "application/octet-stream")
_GZIP = b"\x1f\x8b"
_LISTED = 3  # mails that are ignored for one reason, by title; the rest is counted
_MOST_PATCHES = 9999  # in a series, and versions of one
_LONGEST_SUBJECT = 2000  # characters; longer is cut off
_TYPE = re.compile(rb"^content-type:[^\n]*(?:\n[ \t][^\n]*)*", re.MULTILINE | re.IGNORECASE)
_LONGEST_TYPE = 4000


@dataclass(frozen=True, slots=True)
class Patch:
    """One patch.

    Attributes:
        title: its subject without the tags.
        changes: what it does, file by file.
        origin: where it was read, for messages.
        commit: the commit's hash where the mail tells it, else an empty string.
    """

    title: str
    changes: tuple[FileChange, ...]
    origin: str
    commit: str = ""


@dataclass(frozen=True, slots=True)
class Mails:
    """What some mails hold.

    Attributes:
        patches: in the order in which they apply.
        cover: the title of the cover letter, empty without one.
        notes: which version of the series was taken, and which mails were not, a sentence each.
    """

    patches: tuple[Patch, ...]
    cover: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Mail:
    title: str
    version: int
    number: int | None
    total: int | None
    body: bytes
    origin: str
    commit: str


@dataclass(frozen=True, slots=True)
class _Ignored:
    title: str
    why: str
    version: int = 0


_COVER, _REPLIED, _WORDS, _TWICE = "a cover letter", "a reply", "no patch in it", "there twice"


def read_patches(files: Iterable[tuple[str, bytes]]) -> Mails:
    """The patches in some files.

    Args:
        files: name and content of each; a content is an mbox (possibly gzipped), one message, or a bare diff.

    Raises:
        PatchError: no patch is there, one of a numbered series is missing, or a patch cannot be read.
    """
    files = list(files)
    read = [each for name, content in files for each in _mails(name, content)]
    ignored = [each for each in read if isinstance(each, _Ignored)]
    mails = [each for each in read if isinstance(each, _Mail)]
    numbered = [mail for mail in mails if mail.number]
    bare = [mail for mail in mails if mail.number is None]
    more = f" and {len(files) - _LISTED} more" if len(files) > _LISTED else ""
    names = (", ".join(name for name, _ in files[:_LISTED]) or "nothing") + more
    if numbered and bare:
        raise PatchError(
            f"{names}: patches with a number in their subject ({numbered[0].title!r}) and without ({bare[0].title!r})",
            "Which order is meant? Give the patches of one series only.",
        )
    chosen = _newest_version(numbered, names) if numbered else bare
    if not chosen:
        raise PatchError(f"{names}: no patch in it", "An mbox, `git format-patch` files or diffs are expected.")
    patches = tuple(Patch(mail.title, parse(mail.body, mail.origin), mail.origin, mail.commit) for mail in chosen)
    version = chosen[0].version
    taken = set(map(id, chosen))
    for mail in (mail for mail in mails if id(mail) not in taken):
        older = mail.version != version
        ignored.append(_Ignored(mail.title, f"of version {mail.version}" if older else _TWICE))
    covers = [each.title for each in ignored if each.why == _COVER and each.version == version]
    return Mails(patches, covers[-1] if covers else "", _notes(version, len(chosen), ignored))


def _notes(version: int, count: int, ignored: Sequence[_Ignored]) -> tuple[str, ...]:
    """A sentence on the version, and one on each reason for which mails were ignored."""
    older = any(each.why.startswith("of version") for each in ignored)
    notes = [f"version {version} of the series is taken, {count} patches"] if version > 1 or older else []
    for why in dict.fromkeys(each.why for each in ignored):
        titles = [repr(each.title) for each in ignored if each.why == why]
        more = f" and {len(titles) - _LISTED} more" if len(titles) > _LISTED else ""
        notes.append(f"ignored ({why}): {', '.join(titles[:_LISTED])}{more}")
    return tuple(notes)


def _newest_version(mails: list[_Mail], names: str) -> list[_Mail]:
    version = max(mail.version for mail in mails)
    found: dict[int, _Mail] = {}
    for mail in (mail for mail in mails if mail.version == version):
        number = mail.number or 0
        twin = found.setdefault(number, mail)
        if twin.body.strip() != mail.body.strip() and twin.title != mail.title:
            raise PatchError(
                f"{names}: two patches are number {number} of version {version}: {twin.title!r} and {mail.title!r}",
                "Give the patches of one series only.",
            )
    total = max(mail.total or 1 for mail in found.values())
    if missing := [number for number in range(1, total + 1) if number not in found]:
        more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        which = ", ".join(map(str, missing[:_LISTED])) + more
        raise PatchError(
            f"{names}: patch {which} of {total} is missing from version {version}",
            "Download the whole thread, for example with `b4 am` or as lore's t.mbox.gz.",
        )
    if max(found) > total:
        raise PatchError(f"{names}: patch number {max(found)} of only {total}")
    return [found[number] for number in sorted(found)]


def _mails(name: str, content: bytes) -> list[_Mail | _Ignored]:
    """The messages: those that carry a patch, and the others."""
    content = gunzip(name, content, MAILS) if content.startswith(_GZIP) else content
    mails = [_read(text, f"{name}, message {i}") for i, text in enumerate(_split(content), 1)]
    if any(isinstance(mail, _Mail) or mail.why != _WORDS for mail in mails) or not content.strip():
        return mails
    if parse(content, name):  # no mail around it: a bare diff
        return [_Mail(name.rpartition("/")[2], 1, None, None, content, name, "")]
    return mails


def _split(content: bytes) -> list[bytes]:
    """The messages of an mbox; one without separators is one message."""
    content = content.replace(b"\r\n", b"\n") if b"\nFrom " not in content[:4096] else content
    lines = content.split(b"\n")
    starts = [
        i
        for i, line in enumerate(lines)
        if line.startswith(b"From ") and _SEPARATOR.match(line + b"\n") and (i == 0 or not lines[i - 1].strip())
    ]
    if not starts:
        return [content] if _HEADER.match(content) else []
    ends = [*starts[1:], len(lines)]
    return [b"\n".join(lines[start:end]) for start, end in zip(starts, ends, strict=True)]


def _read(text: bytes, origin: str) -> _Mail | _Ignored:
    first, _, rest = text.partition(b"\n")
    commit = ""
    if _SEPARATOR.match(first + b"\n"):
        word = first.split()[1].decode("ascii", "replace")
        commit = word if re.fullmatch("[0-9a-f]{40}", word) and set(word) != {"0"} else ""
        text = _ESCAPED_FROM.sub(rb"\1", rest) if not commit else rest  # git's own files escape nothing
    _check_parts(text, origin)
    try:
        message = BytesParser(policy=email.policy.compat32).parsebytes(text)
        subject = _decoded(message)
        if _REPLY.match(subject):
            return _Ignored(subject, _REPLIED)
        body = _body(message)
    except RecursionError:
        raise too_deep(origin, MAILS) from None
    except (MessageError, LookupError, ValueError) as error:
        raise fault(origin, MAILS, f"its headers or its parts are malformed ({error})") from None
    tags: list[str] = []
    title = subject
    while match := _TAGS.match(title):
        tags += match[1].split()
        title = title[match.end() :]
    numbers = next((found for tag in tags if (found := re.fullmatch(r"([0-9]+)/([0-9]+)", tag))), None)
    version = next((_count(found[1], origin) for tag in tags if (found := _VERSION.fullmatch(tag))), 1)
    number, total = (_count(numbers[1], origin), _count(numbers[2], origin)) if numbers else (None, None)
    if number == 0:
        return _Ignored(title.strip(), _COVER, version)
    if b"\n--- " not in body and b"diff --git " not in body and not body.startswith(b"--- "):
        return _Ignored(title.strip(), _WORDS)
    return _Mail(title.strip() or "(no subject)", version, number, total, body, f"{origin} ({title.strip()})", commit)


def _count(digits: str, origin: str) -> int:
    """A number of a subject's tag."""
    if len(digits) > len(str(_MOST_PATCHES)):
        shown = digits if len(digits) <= 20 else f"{digits[:20]}..."
        raise PatchError(f"{origin}: its subject counts to {shown}; the limit is {_MOST_PATCHES}", MAILS.hint)
    return int(digits)


def _check_parts(text: bytes, origin: str) -> None:
    """Refuses what the parser of mails would take too long for: parts in parts in parts, and endless parameters."""
    deep = 0
    for found in _TYPE.finditer(text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")):
        if len(found[0]) > _LONGEST_TYPE:
            raise fault(origin, MAILS, f"a Content-Type of more than {_LONGEST_TYPE} characters, which is the limit")
        deep += any(kind in found[0].lower() for kind in (b"multipart/", b"message/"))
    if deep > MAILS.deepest:
        raise too_deep(origin, MAILS)


def _decoded(message: Message) -> str:
    """The subject as text, in whichever charset it says it is; as it stands where it is not encoded as it says."""
    parts: list[str] = []
    subject = str(message.get("Subject", ""))[:_LONGEST_SUBJECT]
    try:
        words = decode_header(subject)
    except MessageError:
        words = [(subject, None)]
    for raw, charset in words:
        if isinstance(raw, str):
            parts.append(raw)
            continue
        try:
            parts.append(raw.decode(charset or "utf-8", "replace"))
        except (LookupError, ValueError):  # no such charset, or one that is no charset of texts, such as idna
            parts.append(raw.decode("latin-1"))
    # On one line, and nothing in it that a terminal would obey.
    text = re.sub(r"\s+", " ", "".join(parts)).strip()
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _body(message: Message) -> bytes:
    """All text of a message, its transfer encoding undone and its charset left alone, as `git am` does."""
    texts: list[bytes] = []
    for part in message.walk():
        kind = part.get_content_type()
        if part.is_multipart() or not (kind == "text/plain" or kind in _PATCH_TYPES):
            continue
        payload = part.get_payload(decode=True)
        content = payload if isinstance(payload, bytes) else b""
        # Text in base64 travels with the mail's line ends, each part for itself.
        texts.append(content.replace(b"\r\n", b"\n") if content.count(b"\r\n") == content.count(b"\n") else content)
    return b"\n".join(texts)
