"""How much memory this process has, by glibc, SQLite and the kernel: all in bytes."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path


class MallocInfo(ctypes.Structure):
    """glibc's mallinfo2, a sum over all arenas."""

    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in _names.split()]


def allocated_bytes() -> int:
    """By malloc and not freed; a little of it is the allocator's own."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = MallocInfo
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


def sqlite_bytes() -> int:
    """Of them those of the SQLite that the process has loaded: pages, statements, schemas."""
    memory_used = ctypes.CDLL("libsqlite3.so.0").sqlite3_memory_used
    memory_used.restype = ctypes.c_int64
    return int(memory_used())


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
