"""Where each command and each reply of a Redis connection ends, in versions 2 and 3 of its protocol."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["Frames", "name_of"]


class Frames:
    """Cuts a stream of either direction into its values: commands one way, replies the other."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._read_to = 0
        self._values_missing = 1

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take what arrived; yield every value that is complete now, as the bytes that it came in."""
        self._buffer += data
        while self._read_one_part():
            if self._values_missing == 0:
                yield bytes(self._buffer[: self._read_to])
                del self._buffer[: self._read_to]
                self._read_to, self._values_missing = 0, 1

    def _read_one_part(self) -> bool:
        """Step over one line, and the string it announces; False if that is not all there yet."""
        line_end = self._buffer.find(b"\r\n", self._read_to)
        if line_end < 0:
            return False
        kind, rest = self._buffer[self._read_to], self._buffer[self._read_to + 1 : line_end]
        part_end, values_announced = line_end + 2, 0
        if kind in b"$=!":
            part_end += int(rest) + 2 if int(rest) >= 0 else 0
        elif kind in b"*~>":
            values_announced = max(int(rest), 0)
        elif kind in b"%":
            values_announced = 2 * int(rest)
        elif kind in b"|":
            # Attributes come before the value they belong to, which is still to be read.
            values_announced = 2 * int(rest) + 1
        if len(self._buffer) < part_end:
            return False
        self._read_to = part_end
        self._values_missing += values_announced - 1
        return True


def name_of(command: bytes) -> bytes:
    """Return a command's name, b"EVALSHA"."""
    words = command.split(b"\r\n", 3)
    return (words[2] if command.startswith(b"*") else words[0].split(b" ")[0]).upper()
