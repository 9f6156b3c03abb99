import pytest

from kvmharness.patches.diff import FileChange, PatchError, parse

PLAIN = b"""\
Some prose first.
--- linux.orig/arch/x86/kvm/x86.c\t2024-01-01 00:00:00.000000000 +0000
+++ linux/arch/x86/kvm/x86.c\t2024-01-02 00:00:00.000000000 +0000
@@ -10,3 +10,4 @@ int f(void)
 a
-b
+B
+C

--\x20
2.39.5
"""


def one(text):
    (change,) = parse(text)
    return change


def test_a_plain_diff_with_prose_and_signature_around():
    change = one(PLAIN)
    assert (change.old_path, change.new_path) == ("arch/x86/kvm/x86.c", "arch/x86/kvm/x86.c")
    (hunk,) = change.hunks
    assert (hunk.old_start, hunk.new_start, hunk.section) == (10, 10, b"int f(void)")
    assert hunk.old == (b"a\n", b"b\n", b"\n")  # the empty context line had lost its blank on the way
    assert hunk.new == (b"a\n", b"B\n", b"C\n", b"\n")


def test_mail_line_ends_are_not_the_files():
    assert parse(PLAIN.replace(b"\n", b"\r\n")) == parse(PLAIN)


def test_a_carriage_return_that_belongs_to_the_file_stays():
    (hunk,) = one(b"--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\r\n+b\r\n").hunks
    assert hunk.new == (b"b\r\n",)


def test_missing_newlines_at_the_end():
    text = (
        b"--- a/f\n+++ b/f\n@@ -1 +1,2 @@\n-a\n\\ No newline at end of file\n+a\n+b\n"
        b"\\ Kein Zeilenumbruch am Dateiende.\n"
    )
    (hunk,) = one(text).hunks
    assert (hunk.old, hunk.new) == ((b"a",), (b"a\n", b"b"))


def test_git_headers_without_hunks():
    text = b"""\
diff --git a/arch/empty.c b/arch/empty.c
new file mode 100644
index 000000000000..e69de29bb2d1
diff --git a/old name.c b/new.c
similarity index 100%
rename from old name.c
rename to new.c
diff --git a/gone b/gone
deleted file mode 100644
index e69de29bb2d1..000000000000
diff --git a/scripts/run b/scripts/run
old mode 100644
new mode 100755
"""
    assert parse(text) == (
        FileChange(None, "arch/empty.c"),
        FileChange("old name.c", "new.c"),
        FileChange("gone", None),
    )


def test_a_rename_with_hunks():
    text = b"""\
diff --git a/a.c b/b.c
similarity index 50%
rename from a.c
rename to b.c
index 1..2 100644
--- a/a.c
+++ b/b.c
@@ -1 +1 @@
-x
+y
"""
    change = one(text)
    assert (change.old_path, change.new_path, len(change.hunks)) == ("a.c", "b.c", 1)


def test_quoted_paths():
    text = b'--- "a/caf\\303\\251 \\"x\\".c"\n+++ "b/caf\\303\\251 \\"x\\".c"\n@@ -1 +1 @@\n-a\n+b\n'
    assert one(text).path == 'café "x".c'


def test_paths_without_a_prefix():
    assert one(b"--- arch/x86/f.c\n+++ arch/x86/f.c\n@@ -1 +1 @@\n-a\n+b\n").path == "arch/x86/f.c"


def test_reversed_twice_is_the_same():
    for change in parse(PLAIN):
        assert change.reversed().reversed() == change
        assert change.reversed().hunks[0].new == change.hunks[0].old


@pytest.mark.parametrize(
    "path",
    [
        "a/../../etc/passwd",
        "/etc/passwd",
        "a//etc/passwd",
        "a/x/../../../y",
        "a/.git/hooks/post-checkout",
        '"a/\\056\\056/x"',
    ],
)
@pytest.mark.parametrize("created", [True, False])
def test_a_path_that_leaves_the_tree_is_refused(path, created):
    old = "/dev/null" if created else path
    text = f"--- {old}\n+++ {path}\n@@ -0,0 +1 @@\n+x\n"
    with pytest.raises(PatchError, match="leaves the kernel tree"):
        parse(text.encode())


@pytest.mark.parametrize(
    "header",
    [
        "diff --git a/../x b/../x\nnew file mode 100644\n",
        "diff --git a/x b/y\nrename from x\nrename to ../y\n",
        "diff --git a/x b/y\ncopy from /etc/passwd\ncopy to y\n",
    ],
)
def test_a_git_header_that_leaves_the_tree_is_refused(header):
    with pytest.raises(PatchError, match=r"leaves the (kernel )?tree"):
        parse(header.encode())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("diff --git a/x b/x\nindex 1..2 100644\nGIT binary patch\n", "binary change of x"),
        ("diff --git a/x b/x\nBinary files a/x and b/x differ\n", "binary change of x"),
        ("diff --git a/x b/x\nnew file mode 120000\n", "a symbolic link"),
        ("diff --git a/x b/x\nnew file mode 160000\n", "a submodule"),
        (
            "--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n a\n-b\n+c\n",
            "hunk #1 of x, line 7: the hunk is cut or malformed; 1 old",
        ),
        ("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n@@ -9,2 +9,2 @@\n a\n*b\n", "hunk #2 of x, line 8"),
        ("--- a/x\n+++ b/x\n@@ -1 garbage @@\n-a\n+b\n", "hunk #1 of x, line 3: not a hunk's first line"),
        ("@@ -1 +1 @@\n-a\n+b\n", "without the name of its file"),
        ("--- /dev/null\n+++ /dev/null\n@@ -1 +1 @@\n-a\n+b\n", "both sides"),
    ],
)
def test_what_cannot_be_applied_is_said_with_its_line(text, message):
    with pytest.raises(PatchError) as caught:
        parse(text.encode(), "0001.patch")
    assert message in str(caught.value)
    assert str(caught.value).startswith("0001.patch: ")
