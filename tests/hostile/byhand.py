# ruff: noqa: E501 (inputs stand in rows)
"""Inputs that are made to make a reader fail, by the kind of file."""

import base64
import gzip

DIFF = """--- a/arch/x86/kvm/demo.c
+++ b/arch/x86/kvm/demo.c
@@ -1,3 +1,3 @@
 one
-two
+2
 three
"""


def mail(subject: str, body: bytes | str = DIFF, headers: str = "") -> bytes:
    """One mail, as git format-patch writes it."""
    text = body.encode() if isinstance(body, str) else body
    return f"From: A <a@example.org>\nSubject: {subject}\n{headers}\nWords.\n\n---\n".encode() + text + b"-- \n2.39\n"


def nested(deep: int) -> bytes:
    """A mail in a mail in a mail."""
    return b"From: a\nSubject: x\nContent-Type: message/rfc822\n\n" * deep + mail("[PATCH] x")


def parts(deep: int) -> bytes:
    """Parts within parts."""
    inner = b"".join(b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (i, i) for i in range(deep))
    return b"From: a\nSubject: [PATCH] x\n" + inner + b"Content-Type: text/plain\n\n" + DIFF.encode()


_PACKED = base64.b64encode(DIFF.encode()).decode()

MAILS = (
    *(mail(f"[PATCH {word}] x") for word in ("1/1000000000", "999999999999999999999/1", "1/" + "9" * 5000, "1/0", "9" * 5000)),
    *(mail(f"[PATCH v{word} 1/1] x") for word in ("9" * 5000, "0", "1000000000")),
    mail("[" * 20000 + "x"), mail("[PATCH] " * 5000), mail(" " * 50000 + "x"), mail("re" + " " * 50000),
    *(mail(f"=?{charset}?q?=5BPATCH=5D_x?=") for charset in ("idna", "undefined", "punycode", "a\0b", "rot13", "hex", "zip", "x" * 999)),
    *(mail(f"=?utf-8?{way}?{text}?=") for way in "bqx" for text in ("A", "====", "=5", "////", "\xff", "=?utf-8?q?a?=")),
    mail("[PATCH] x", headers="Content-Type: text/plain; charset=undefined\nContent-Transfer-Encoding: x-uuencode\n"),
    mail("[PATCH] x", headers="Content-Transfer-Encoding: base64\n"),
    mail("[PATCH] x", _PACKED + "=" * 9, "Content-Transfer-Encoding: base64\n"),
    mail("[PATCH] x", headers="Content-Type: text/plain; boundary*0*=x''%ff; boundary*2=y; charset*=a'b'c\n"),
    mail("[PATCH] x", headers="Content-Type: " + "a/b;" * 20000 + "\n"),
    nested(100), nested(3000), parts(100), parts(3000),
    b"From " + b"a " * 40000 + b"\n" + mail("[PATCH] x"),
    b"From a " + b"1:" * 40000 + b"\n" + mail("[PATCH] x"),
    b"From a " + b"00:00:00 " * 20000 + b"\n" + mail("[PATCH] x"),
    b"From a 00:00:00 1970" + b" " * 50000 + b"x\n" + mail("[PATCH] x"),
    b"From a 00:00:00 1970\n\n" * 20000,
    b">" * 100000 + b"From \n" + mail("[PATCH] x"),
    mail("[PATCH] x", DIFF.replace("\n", "\r\n")), mail("[PATCH] x").replace(b"\n", b"\r\n"), mail("[PATCH] x").replace(b"\n", b"\r"),
    gzip.compress(bytes(1 << 27)), gzip.compress(mail("[PATCH] x"))[:-3], gzip.compress(gzip.compress(mail("[PATCH] x"))),
    b"", b"\0" * 1000, b"\x1f\x8b", b"\n" * 500000, b":" * 100000, b"a" * 100000 + b": \n",
)  # fmt: skip


def hunk(line: str) -> bytes:
    """A patch with this as its hunk's first line."""
    return mail("[PATCH] x", DIFF.replace("@@ -1,3 +1,3 @@", line))


DIFFS = (
    *(hunk(f"@@ -{word},3 +1,3 @@") for word in ("999999999999", "9" * 5000, "0", "2147483648")),
    *(hunk(f"@@ -1,{word} +1,{word} @@") for word in ("999999999999", "9" * 5000, "0")),
    hunk("@@ -1,3 +999999999999,3 @@"), hunk("@@ -1,3 +1,3 @@" + "@" * 100000), hunk("@@ -1,3 +1,3"), hunk("@@ -" + "1" * 50000),
    *(mail("[PATCH] x", DIFF.replace("arch/x86/kvm/demo.c", path)) for path in ("../" * 2000 + "x", "a\0b", "\x1b[2J", "x" * 70000, "", "arch")),
    mail("[PATCH] x", "diff --git " + '"' * 50001 + "\n" + DIFF), mail("[PATCH] x", 'diff --git "' + "\\" * 50001 + "\n" + DIFF),
    mail("[PATCH] x", "diff --git a/x b/x\nrename from ../y\nrename to x\n"), mail("[PATCH] x", "diff --git a/x b/x\nnew mode\n" + DIFF),
    mail("[PATCH] x", 'diff --git "a/\\777" "b/\\777"\n--- "a/\\777"\n+++ "b/\\777"\n@@ -1 +1 @@\n-a\n+b\n'),
    mail("[PATCH] x", DIFF * 500), mail("[PATCH] x", "--- a/x\n+++ b/x\n" * 20000),
)  # fmt: skip

_CLAIM = '[[claim]]\nname = "a"\ntext = "b"\nmetric = "loads"\ncheck = "exactly"\nvalue = {}\ncells = {}\n'
WRONG = ("1", "1.5", "true", '"x"', "[]", "{}", "[[1]]", "1979-05-27", "nan", "inf", "-inf", "9" * 30, "[1, 2]", '{a = "b"}', '["x", 1]')  # fmt: skip
TOMLS = tuple(
    text.encode()
    for text in (
        *(f"{key} = {value}\n" for key in ("name", "title", "without", "oracle", "claims-of", "claim", "waive") for value in WRONG),
        *(_CLAIM.format(value, '"*"') for value in (*WRONG, "1e999", "1e-999", '"1/0"', '"1e999999999"', '"1_0"', "-0.0", '"' + "9" * 5000 + '"')),
        *(_CLAIM.format(1, cells) for cells in (*WRONG, '"' + "{1,2}" * 64 + '"', '"' + "*" * 5000 + '"', '"' + "[" * 5000 + '"', '"{"', '"a:{1,{2,3}}x1"')),
        *(_CLAIM.format(1, '"*"').replace('"a"', value) for value in WRONG),
        *(_CLAIM.format(1, '"*"') + f"variants = {value}\n" for value in WRONG),
        *('without = "--output=x"\n', 'without = "-x"\n', 'without = "-"\n', 'without = "."\n', 'without = "/dev/zero"\n', 'without = "a..b"\n'),
        *('without = "--output=x..y"\n', 'without = "a\\u0000b"\n', 'without = "' + "x" * 5000 + '"\n', 'claims-of = "-"\n'),
        *('claims-of = "."\n', 'claims-of = "/dev/zero"\n', 'claims-of = "a\\u0000b"\n', 'claims-of = "series.toml"\n'),
        *("a." * 50000 + "b = 1\n", "x = {" + "a." * 50000 + "b = 1}\n", "[" + "a." * 50000 + "b]\n", "a = " + "[" * 50000),
        *("a = " + "{b=" * 20000, "".join(f"a.b{i}.c = 1\n" for i in range(20000)), "a = " + "9" * 5000, "[[claim]]\n" * 20000),
        *("\ufeffname = 'x'\n", "name = 'x'\r", "name = '''" + "'" * 50000, 'name = "\\ud800"\n', "a = 1e" + "9" * 5000, "a = 0x" + "f" * 50000),
        *(_CLAIM.format(1, '"*"') * 2, _CLAIM.format(1, '"*"') + "tolerance = 1\n", "[[waive]]\nrow = 1\n", "[[waive]]\nrow = 'no-more-time'\ncells = 3\nreason = 'x'\n"),
    )
)  # fmt: skip

_DEEP = b"[" * 100000 + b"]" * 100000
RECORDS = (
    b"", b"null", b"[]", b"{}", b"1", b'"x"', b"\xef\xbb\xbf{}", b"{\"schema\": " + b"9" * 5000 + b"}", b"[1e999999999]",
    _DEEP, b'{"a":' * 100000, b'{"schema": 1e999}', b'{"verdict": ' + _DEEP + b"}", b'{"journal": ' * 50000, b'{"journal": 1}\n' * 3,
    b'{"verdict": null, "records": [{}]}', b'{"verdict": {}, "records": []}', b"\0" * 10000, b'{"schema": "\\ud800"}',
)  # fmt: skip

SERIES = (
    b"a\0b\n", b"a.patch\0\n", b"/etc/passwd\n", b"../../etc/passwd\n", b".\n", b"-\n", b"#\n", b"\n" * 50000, b"a.patch # -p0\n",
    b"a.patch\n" * 1000, b"\xff\n", b"nowhere.patch\n", b"/dev/zero\n", b"x" * 70000, b"a.patch\r\n", b"series\n",
)  # fmt: skip

LITMUS = (
    b"L1 " * 50000, b"L1 read p" + b"9" * 5000 + b"\n", b"L1 read p99999999999\n", b"L1 enter G0 E0 tag=" + b"9" * 5000,
    b"L1 enter G0 E0 tag=1e999\n", b"\0", b"L1 read p0\n" * 60000, b"# a\n" * 200000, b"L9 read p0\n", b"host slot 0 -1\n",
)  # fmt: skip

CONFIGS = (
    b"[" * 50000, b"[a]\n" * 50000, b"[a]\nfile = one.flat\nsmp = " + b"9" * 5000, b"[a]\nfile = one.flat\ntimeout = " + b"9" * 5000,
    b"[a]\nfile = one.flat\ntimeout = 1e999\n", b'[a]\nfile = one.flat\ntest_args = "', b'[a]\nfile = """' + b"x\n" * 50000,
    b"[a]\nfile = ../../../etc/passwd\n", b"[a]\nfile = /dev/zero\n", b"[a]\nfile = a\0b\n", b"[a]\nfile =" + b" " * 50000 + b"x\n",
    b"[a]\nfile = one.flat\nqemu_params = -m " + b"9" * 5000, b"[a]\nfile = one.flat\nqemu_params = -cpu " + b"+x," * 20000,
    b"[a]" + b" " * 50000 + b"x", b"a = 1\n", b"=\n", b"[]\nfile = one.flat\n", b"[a]\nfile = one.flat\ncheck = a=b=c\nsmp = \xd9\xa3\n",
)  # fmt: skip

FILES = {
    "mbox": MAILS,
    "patch": DIFFS,
    "toml": TOMLS,
    "claims": TOMLS,
    "record": RECORDS,
    "document": RECORDS,
    "journal": RECORDS,
    "quilt": SERIES,
    "litmus": LITMUS,
    "unittests.cfg": CONFIGS,
    "module": (b"", {"kvm-amd.ko": b"\0depends=kvm_amd\0"}, {"kvm-amd.ko": b"\0depends=kvm,\xff\0"}),
}
