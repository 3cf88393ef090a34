"""Request bodies decompressed within a bound, answers compressed as asked. In chunks: a bomb is never unfolded."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import lz4.frame
import zstandard

CHUNK_BYTES = 1 << 20
_ZSTD_SLICE_BYTES = 512
"""zstd's densest block is 128 KiB in 4 bytes, so that a slice unfolds to at most 16 MiB."""


class BodyTooLarge(Exception):  # noqa: N818
    """More bytes than allowed once decompressed."""


class BodyUnreadable(Exception):  # noqa: N818
    """Not in the encoding that was announced, cut short, or in one we do not read."""


def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """The body in clear, at most `limit` bytes; `encoding` is the Content-Encoding header.

    Raises BodyTooLarge or BodyUnreadable.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        if len(body) > limit:
            raise BodyTooLarge
        return body
    read = _READERS.get(encoding)
    if read is None:
        raise BodyUnreadable(
            f"Content-Encoding {encoding[:20]!r} is not read here; send gzip, deflate, zstd or lz4"
        )
    out = bytearray()
    try:
        for chunk in read(body):
            if len(out) + len(chunk) > limit:
                raise BodyTooLarge
            out += chunk
    except (zlib.error, zstandard.ZstdError, RuntimeError, EOFError) as error:
        raise BodyUnreadable(f"the body is not valid {encoding}: {error}") from error
    return bytes(out)


class Compressor(Protocol):
    """One answer's compression: `add` chunks, then `end`."""

    def add(self, chunk: bytes) -> bytes: ...
    def end(self) -> bytes: ...


def chosen_encoding(accept_encoding: str) -> str:
    """The first encoding that the client accepts and we write; empty for none."""
    for offer in accept_encoding.split(","):
        name, _, parameters = offer.partition(";")
        if name.strip().lower() in _WRITERS and parameters.replace(" ", "") not in ("q=0", "q=0.0"):
            return name.strip().lower()
    return ""


def compressor(encoding: str) -> Compressor:
    """For one of the names that `chosen_encoding` returns; the empty one passes through."""
    return _WRITERS[encoding]() if encoding else _Plain()


def _inflate(body: bytes, window: int) -> Iterator[bytes]:
    # gzip files may be several members one after the other.
    while body:
        decompressor = zlib.decompressobj(window)
        pending = body
        while not decompressor.eof:
            chunk = decompressor.decompress(pending, CHUNK_BYTES)
            pending = decompressor.unconsumed_tail
            if chunk:
                yield chunk
            elif not pending and not decompressor.eof:
                raise EOFError("it is cut short")
        body = decompressor.unused_data


def _gunzip(body: bytes) -> Iterator[bytes]:
    return _inflate(body, 31)


def _undeflate(body: bytes) -> Iterator[bytes]:
    # Half of the world sends zlib, as the RFC says, the other half the bare stream.
    zlib_header = len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
    return _inflate(body, 15 if zlib_header else -15)


def _unzstd(body: bytes) -> Iterator[bytes]:
    # This library bounds output only where it hides that the input is cut short; so the input goes in small slices.
    at = 0
    while at < len(body):
        decompressor = zstandard.ZstdDecompressor().decompressobj()
        while not decompressor.eof:
            if at >= len(body):
                raise EOFError("it is cut short")
            chunk = decompressor.decompress(body[at : at + _ZSTD_SLICE_BYTES])
            at += min(_ZSTD_SLICE_BYTES, len(body) - at)
            if chunk:
                yield chunk
        at -= len(decompressor.unused_data)


def _unlz4(body: bytes) -> Iterator[bytes]:
    while body:
        decompressor = lz4.frame.LZ4FrameDecompressor()
        chunk = decompressor.decompress(body, CHUNK_BYTES)
        while True:
            if chunk:
                yield chunk
            if decompressor.eof:
                break
            if decompressor.needs_input:
                raise EOFError("it is cut short")
            chunk = decompressor.decompress(b"", CHUNK_BYTES)
        body = decompressor.unused_data or b""


class _Plain:
    def add(self, chunk: bytes) -> bytes:
        return chunk

    def end(self) -> bytes:
        return b""


class _Zlib:
    def __init__(self, window: int) -> None:
        self._compress = zlib.compressobj(1, zlib.DEFLATED, window)

    def add(self, chunk: bytes) -> bytes:
        return self._compress.compress(chunk)

    def end(self) -> bytes:
        return self._compress.flush()


class _Zstd:
    def __init__(self) -> None:
        self._compress = zstandard.ZstdCompressor(level=1).compressobj()

    def add(self, chunk: bytes) -> bytes:
        return self._compress.compress(chunk)

    def end(self) -> bytes:
        return self._compress.flush()


class _Lz4:
    def __init__(self) -> None:
        self._compress = lz4.frame.LZ4FrameCompressor()
        self._begun = False

    def add(self, chunk: bytes) -> bytes:
        return self._begin() + bytes(self._compress.compress(chunk))

    def end(self) -> bytes:
        return self._begin() + bytes(self._compress.flush())

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return bytes(self._compress.begin())


_READERS = {"gzip": _gunzip, "x-gzip": _gunzip, "deflate": _undeflate, "zstd": _unzstd, "lz4": _unlz4}
_WRITERS: dict[str, Callable[[], Compressor]] = {
    "gzip": lambda: _Zlib(31),
    "deflate": lambda: _Zlib(15),
    "zstd": _Zstd,
    "lz4": _Lz4,
}
