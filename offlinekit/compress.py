"""Compression: zstd from the standard library where it has it, else from backports. The only module that knows it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from offlinekit.exceptions import ProtocolError, TooLarge

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdCompressor, ZstdDecompressor, ZstdError
else:
    from backports.zstd import ZstdCompressor, ZstdDecompressor, ZstdError

__all__ = ["compress", "compress_stream", "decompress", "decompress_stream"]

_LEVEL = 1


def compress(data: bytes) -> bytes:
    """One zstd frame."""
    compressor = ZstdCompressor(_LEVEL)
    return compressor.compress(data) + compressor.flush()


def decompress(data: bytes, size_max: int) -> bytes:
    """The content of one frame; raises TooLarge beyond `size_max` bytes without making them, ProtocolError for garbage."""
    decompressor = ZstdDecompressor()
    try:
        content = decompressor.decompress(data, size_max + 1)
    except ZstdError as error:
        raise ProtocolError(f"not a zstd frame: {error}") from error
    if len(content) > size_max:
        raise TooLarge(f"a message of more than {size_max} bytes after decompression was refused")
    if not decompressor.eof or decompressor.unused_data:
        raise ProtocolError("a zstd frame was cut short or followed by something else")
    return content


def compress_stream(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """One frame made of chunks, in pieces; an empty chunk sends all that came before it on its way."""
    compressor = ZstdCompressor(_LEVEL)
    for chunk in chunks:
        if piece := compressor.compress(chunk) if chunk else compressor.flush(ZstdCompressor.FLUSH_BLOCK):
            yield piece
    yield compressor.flush()


def decompress_stream(chunks: Iterable[bytes], size_max: int) -> Iterator[bytes]:
    """The content of one frame in pieces; raises like `decompress`."""
    decompressor, total = ZstdDecompressor(), 0
    for chunk in chunks:
        if decompressor.eof:
            raise ProtocolError("a zstd frame was followed by something else")
        try:
            piece = decompressor.decompress(chunk, 1 << 20)
            while True:
                total += len(piece)
                if total > size_max:
                    raise TooLarge(f"a file of more than {size_max} bytes after decompression was refused")
                if piece:
                    yield piece
                if decompressor.eof or decompressor.needs_input:
                    break
                piece = decompressor.decompress(b"", 1 << 20)
        except ZstdError as error:
            raise ProtocolError(f"not a zstd frame: {error}") from error
    if not decompressor.eof or decompressor.unused_data:
        raise ProtocolError("a zstd frame was cut short or followed by something else")
