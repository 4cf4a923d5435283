"""Messages as bytes: MessagePack behind a four-byte head, compressed from a kilobyte up, bounded on both sides.

The head is `OK1` and one byte: 0 for plain, 1 for one zstd frame. Whatever does not start so is not the authority's.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from offlinekit.compress import compress, decompress
from offlinekit.exceptions import NotTheAuthority, ProtocolError, TooLarge
from offlinekit.protocol import messages as m
from offlinekit.transport.port import WIRE_MAX

__all__ = [
    "CONTENT_MAX",
    "CONTENT_TYPE",
    "INLINE_MAX",
    "WIRE_MAX",
    "decode_answer",
    "decode_request",
    "encode",
]

INLINE_MAX = 1 << 20  # bytes of records in an answer; more travels as a file
CONTENT_MAX = 32 << 20
CONTENT_TYPE = "application/vnd.offlinekit"
_COMPRESS_FROM = 1024
_HEAD = b"OK1"

T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(m.Pull | m.Preview | m.Push | m.Query)
_answers: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(m.Answer)


def encode(message: m.Request | m.Answer) -> bytes:
    """The message as bytes; raises TooLarge beyond the limits."""
    content = _encoder.encode(message)
    if len(content) > CONTENT_MAX:
        raise TooLarge(f"a message of {len(content)} bytes is over the limit of {CONTENT_MAX}")
    body = _HEAD + (b"\1" + compress(content) if len(content) >= _COMPRESS_FROM else b"\0" + content)
    if len(body) > WIRE_MAX:
        raise TooLarge(f"a message of {len(body)} bytes is over the limit of {WIRE_MAX}")
    return body


def _content(data: bytes) -> bytes:
    if len(data) > WIRE_MAX:
        raise TooLarge(f"a message of {len(data)} bytes is over the limit of {WIRE_MAX}")
    if data[:3] != _HEAD or data[3:4] not in (b"\0", b"\1"):
        raise ProtocolError("these bytes are no message of offlinekit")
    return decompress(data[4:], CONTENT_MAX) if data[3] else data[4:]


def _decode(data: bytes, decoder: msgspec.msgpack.Decoder[T]) -> T:
    try:
        return decoder.decode(_content(data))
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"not a message of this protocol: {error}") from error


def decode_request(data: bytes) -> m.Pull | m.Preview | m.Push | m.Query:
    """A device's request; raises ProtocolError or TooLarge."""
    return _decode(data, _requests)  # type: ignore[no-any-return]


def decode_answer(data: bytes) -> m.Answer:
    """The authority's answer; raises NotTheAuthority for bytes without our head, ProtocolError for broken ones."""
    if data[:3] != _HEAD:
        raise NotTheAuthority("what answered is not the authority (a captive portal?); sign in to the network and try again")
    return _decode(data, _answers)  # type: ignore[no-any-return]
