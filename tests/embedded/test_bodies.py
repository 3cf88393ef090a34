"""Bodies: read in each encoding, held to a bound, refused when broken."""

import gzip
import os
import zlib
from collections.abc import Callable

import lz4.frame
import pytest
import zstandard

from embedded.bodies import BodyTooLarge, BodyUnreadable, chosen_encoding, compressor, decompressed

LIMIT = 8 << 20


def _raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "deflate as zlib": ("deflate", zlib.compress),
    "deflate bare": ("deflate", _raw_deflate),
    "zstd": ("zstd", zstandard.ZstdCompressor().compress),
    "lz4": ("lz4", lz4.frame.compress),
}


@pytest.mark.parametrize("name", PACKERS)
def test_reads_what_was_packed(name: str) -> None:
    encoding, pack = PACKERS[name]
    for clear in (b"", b"x", os.urandom(3 << 20), b"row\n" * 700_000):
        assert decompressed(pack(clear), encoding, LIMIT) == clear


@pytest.mark.parametrize("name", ["gzip", "zstd", "lz4"])
def test_reads_members_one_after_the_other(name: str) -> None:
    encoding, pack = PACKERS[name]
    assert decompressed(pack(b"one,") + pack(b"two"), encoding, LIMIT) == b"one,two"


@pytest.mark.parametrize("name", PACKERS)
def test_takes_exactly_the_limit_and_not_one_byte_more(name: str) -> None:
    encoding, pack = PACKERS[name]
    assert len(decompressed(pack(bytes(LIMIT)), encoding, LIMIT)) == LIMIT
    with pytest.raises(BodyTooLarge):
        decompressed(pack(bytes(LIMIT + 1)), encoding, LIMIT)


@pytest.mark.parametrize("name", PACKERS)
def test_a_bomb_is_not_unfolded(name: str) -> None:
    import resource

    encoding, pack = PACKERS[name]
    bomb = pack(bytes(512 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BodyTooLarge):
        decompressed(bomb, encoding, 1 << 20)
    unit = 1 if os.uname().sysname == "Darwin" else 1024
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 64 << 20


@pytest.mark.parametrize("name", PACKERS)
def test_refuses_what_is_cut_short_or_not_its_encoding(name: str) -> None:
    encoding, pack = PACKERS[name]
    packed = pack(os.urandom(100_000))
    with pytest.raises(BodyUnreadable):
        decompressed(packed[:-500], encoding, LIMIT)
    with pytest.raises(BodyUnreadable):
        decompressed(b"\x00this is no packed body at all\xff" * 10, encoding, LIMIT)


def test_a_plain_body_is_bounded_too() -> None:
    assert decompressed(b"12345", "", 5) == b"12345"
    with pytest.raises(BodyTooLarge):
        decompressed(b"123456", "identity", 5)


def test_names_the_encodings_it_reads() -> None:
    with pytest.raises(BodyUnreadable, match="'br' is not read here; send gzip, deflate, zstd or lz4"):
        decompressed(b"x", "br", LIMIT)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "lz4"])
def test_answers_are_packed_in_chunks(encoding: str) -> None:
    packer = compressor(encoding)
    packed = packer.add(b"one,") + packer.add(b"two") + packer.end()
    assert decompressed(packed, encoding, LIMIT) == b"one,two"
    assert decompressed(compressor(encoding).end(), encoding, LIMIT) == b""


def test_chooses_the_first_encoding_offered_that_it_writes() -> None:
    assert chosen_encoding("br, zstd;q=0.8, gzip") == "zstd"
    assert chosen_encoding("gzip;q=0, deflate") == "deflate"
    assert chosen_encoding("br") == ""
    assert chosen_encoding("") == ""
