"""The structs of the Arrow C data interface, and what a consumer written in C does with them."""

from __future__ import annotations

import ctypes
from typing import Any


class Schema(ctypes.Structure):
    pass


class Array(ctypes.Structure):
    pass


class Stream(ctypes.Structure):
    pass


def release_of(struct: type[ctypes.Structure]) -> Any:
    return ctypes.CFUNCTYPE(None, ctypes.POINTER(struct))  # calls without the GIL


Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_char_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(Schema))),
    ("dictionary", ctypes.POINTER(Schema)),
    ("release", release_of(Schema)),
    ("private_data", ctypes.c_void_p),
]
Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(Array))),
    ("dictionary", ctypes.POINTER(Array)),
    ("release", release_of(Array)),
    ("private_data", ctypes.c_void_p),
]
Stream._fields_ = [
    ("get_schema", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Stream), ctypes.POINTER(Schema))),
    ("get_next", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Stream), ctypes.POINTER(Array))),
    ("get_last_error", ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.POINTER(Stream))),
    ("release", release_of(Stream)),
    ("private_data", ctypes.c_void_p),
]


def content(capsule: Any) -> Any:
    """The struct that lies in a capsule, which lives as long as this view of it."""
    name = repr(capsule).split('"')[1]
    struct = {"arrow_schema": Schema, "arrow_array": Array, "arrow_array_stream": Stream}[name]
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    found = struct.from_address(pointer(capsule, name.encode()))
    found.capsule = capsule
    return found


def move(source: Any) -> Any:
    """Take a struct over: its place is left as if it were released."""
    moved = type(source)()
    ctypes.memmove(ctypes.byref(moved), ctypes.byref(source), ctypes.sizeof(source))
    source.release = type(source.release)()
    return moved


def release(struct: Any) -> None:
    struct.release(ctypes.byref(struct))
    assert not struct.release
