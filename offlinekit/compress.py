"""Compression: zstd from the standard library where it has it, else from backports. The only module that knows it."""

from __future__ import annotations

import sys

from offlinekit.exceptions import ProtocolError, TooLarge

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdCompressor, ZstdDecompressor, ZstdError
else:
    from backports.zstd import ZstdCompressor, ZstdDecompressor, ZstdError

__all__ = ["compress", "decompress"]

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
