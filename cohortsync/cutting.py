"""Lines of events cut by position where they stand as Mixpanel writes them: no line is parsed or copied for that."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cohortsync.sources import BLOCK, Hear, Source, Tell, blocks, unheard

BEFORE_NAME, BEFORE_PROPERTIES, END = b'{"event":"', b'","properties":{', b"}}\n"
LONGEST_NAME = 63  # of an event; one with a longer name is read with its line, as is one too near to a block's end
LEAST = len(BEFORE_NAME) + LONGEST_NAME + 1 + len(BEFORE_PROPERTIES)
PIECES = pa.schema([("line", pa.int64()), ("pieces", pa.list_(pa.string(), 5))])
Numbers = npt.NDArray[np.int64]


def cut(source: Source, tell: Tell, chunk_bytes: int = BLOCK, hear: Hear = unheard) -> pa.RecordBatchReader:
    """Every line of a file as ``line, pieces``: the second piece is an event's name and the fourth its properties.

    Where a line is not written as ``{"event":"…","properties":{…}}`` those are empty and the fifth is the whole line.
    The properties may still be no JSON; everything between and around them is accounted for. To be read once; ``tell``
    hears how many lines are read, ``hear`` the bytes themselves.
    """
    return pa.RecordBatchReader.from_batches(PIECES, _batches(source, tell, chunk_bytes, hear))


def _batches(source: Source, tell: Tell, chunk_bytes: int, hear: Hear) -> Iterator[pa.RecordBatch]:
    for line, block, ends in blocks(source, tell, chunk_bytes, hear):
        bounds = np.concatenate([places(block, ends).ravel(), ends[-1:]]).astype(np.int32)
        pieces = pa.StringArray.from_buffers(5 * len(ends), pa.py_buffer(bounds), pa.py_buffer(block))
        yield pa.record_batch([pa.array(np.arange(line, line + len(ends))),
                               pa.FixedSizeListArray.from_arrays(pieces, 5)], schema=PIECES)


def places(block: bytes, ends: Numbers) -> Numbers:
    """Where the five pieces of each line begin, a row a line; all where the line does when it is the fifth."""
    starts = np.concatenate([[0], ends])[:-1].astype(np.int64)
    found = np.repeat(starts[:, None], 5, axis=1)
    near = np.searchsorted(starts, len(block) - LEAST, "right")  # what is looked at below is within the block
    if near:
        words = np.ndarray(len(block) - 7, "<u8", block, strides=(1,))  # the eight bytes from each place on
        starts, ends = starts[:near], ends[:near]
        names = starts + len(BEFORE_NAME)
        name_ends = names + _first_special(block, names)
        properties = name_ends + len(BEFORE_PROPERTIES) - 1
        usual = (_stands(words, starts, BEFORE_NAME) & _stands(words, name_ends, BEFORE_PROPERTIES)
                 & (words[ends - 8] >> 40 == int.from_bytes(END, "little")) & (properties < ends - len(END)))
        found[:near][usual, 1:] = np.stack([names, name_ends, properties, ends - len(END) + 1], axis=1)[usual]
    return found


def _first_special(block: bytes, places: Numbers) -> Numbers:
    """How far it is from each place to a byte that ends a JSON string or does not stand for itself in one."""
    text = np.lib.stride_tricks.sliding_window_view(np.frombuffer(block, np.uint8), LONGEST_NAME + 1)[places]
    special = (text - ord(" ") > ord("~") - ord(" ")) | (text == ord('"')) | (text == ord("\\"))
    return special.argmax(axis=1)


def _stands(words: npt.NDArray[np.uint64], places: Numbers, sign: bytes) -> npt.NDArray[np.bool_]:
    """At which of these places a sign of eight to sixteen bytes stands."""
    first, last = (np.frombuffer(part, "<u8")[0] for part in (sign[:8], sign[-8:]))
    return (words[places] == first) & (words[places + len(sign) - 8] == last)
