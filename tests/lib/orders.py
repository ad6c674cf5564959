# SPDX-License-Identifier: MIT
"""Orders for tests/fail/shim.c: which call of a running daemon fails next."""

import mmap
import struct

ORDERS = struct.Struct("16s32sqqq")


class Orders:
    def __init__(self, path):
        with open(path, "wb") as f:
            f.write(bytes(ORDERS.size))
        self.path = path
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), ORDERS.size)

    def give(self, where, kind, number, nth):
        self.map[:] = ORDERS.pack(b"", b"", 0, 0, 0)
        self.map[:] = ORDERS.pack(where.encode(), kind.encode(), number, nth, 0)

    def failed(self):
        return ORDERS.unpack(self.map[:])[4]

    def take(self):
        """Did the call fail? From now on none does."""
        failed = ORDERS.unpack(self.map[:])[4]
        self.map[:] = ORDERS.pack(b"", b"", 0, 0, 0)
        return failed > 0
