"""Z85: 4 bytes as 5 printable characters (ZeroMQ RFC 32), as CURVE keys are written."""

from __future__ import annotations

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}


def encode(data: bytes) -> str:
    """`data`, whose length is a multiple of 4, as text."""
    if len(data) % 4:
        raise ValueError(f"{len(data)} bytes are no multiple of 4")
    text = []
    for at in range(0, len(data), 4):
        number = int.from_bytes(data[at : at + 4], "big")
        text += [_ALPHABET[number // 85**power % 85] for power in range(4, -1, -1)]
    return "".join(text)


def decode(text: str) -> bytes:
    """The bytes of a text.

    :raises ValueError: where it is none; its message shows nothing of it.
    """
    if len(text) % 5:
        raise ValueError(f"{len(text)} characters are no multiple of 5")
    data = bytearray()
    for at in range(0, len(text), 5):
        number = 0
        for character in text[at : at + 5]:
            if character not in _VALUES:
                raise ValueError("a character is not in the alphabet")
            number = number * 85 + _VALUES[character]
        if number >> 32:
            raise ValueError("five characters stand for more than 32 bits")
        data += number.to_bytes(4, "big")
    return bytes(data)
