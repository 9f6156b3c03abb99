import gzip
import lzma
import shutil
import subprocess

import pytest

from kvmharness.system.reading import Kind, ReadError
from kvmharness.system.unpacking import gunzip, unxz, unzstd

KIND = Kind("note", 1000)
UNPACK = {"gz": gunzip, "xz": unxz}
PACK = {"gz": gzip.compress, "xz": lzma.compress}


@pytest.mark.parametrize("how", UNPACK)
def test_what_was_packed_comes_back(how):
    assert UNPACK[how]("a", PACK[how](b"x" * 1000), KIND) == b"x" * 1000


@pytest.mark.parametrize("how", UNPACK)
def test_a_small_file_that_unpacks_to_anything(how):
    with pytest.raises(ReadError, match="cannot read note a: it is larger than 1000 bytes"):
        UNPACK[how]("a", PACK[how](bytes(1 << 24)), KIND)


@pytest.mark.parametrize("how", UNPACK)
@pytest.mark.parametrize("spoil", [lambda data: data[:-10], lambda data: data[:20] + b"\xff" * 20 + data[40:]])
def test_a_spoilt_one_is_refused(how, spoil):
    noise = bytes(range(250))
    with pytest.raises(ReadError, match="cannot unpack it"):
        UNPACK[how]("a", spoil(PACK[how](noise)), KIND)


@pytest.mark.skipif(not shutil.which("zstd"), reason="zstd: apt install zstd")
def test_zstd(tmp_path):
    path = tmp_path / "-a.zst"
    for size, why in ((1000, ""), (1 << 24, "it is larger than 1000 bytes")):
        path.write_bytes(subprocess.run(["zstd"], input=bytes(size), capture_output=True, check=True).stdout)
        if not why:
            assert unzstd(path, KIND) == bytes(size)
            continue
        with pytest.raises(ReadError, match=why):
            unzstd(path, KIND)
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(20))
    with pytest.raises(ReadError, match="zstd cannot unpack it"):
        unzstd(path, KIND)
