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
PIECES = pa.schema([("line", pa.int64()), ("event", pa.string_view()), ("properties", pa.string_view()),
                    ("whole", pa.string_view())])
IN_VIEW = 12  # bytes of text that a view holds itself
FIRST_BYTES = np.array([(1 << 8 * n) - 1 for n in range(9)], "<u8")
Numbers = npt.NDArray[np.int64]


def cut(source: Source, tell: Tell, chunk_bytes: int = BLOCK, hear: Hear = unheard) -> pa.RecordBatchReader:
    """Every line of a file as ``line, event, properties, whole``: an event's name and properties, or the whole line.

    The last is null where a line is written as ``{"event":"…","properties":{…}}``, else the other two are. The
    properties may still be no JSON; what stands around them is nothing else. To be read once; ``tell`` hears how many
    lines are read, ``hear`` what is read (see ``blocks``).
    """
    return pa.RecordBatchReader.from_batches(PIECES, _batches(source, tell, chunk_bytes, hear))


def _batches(source: Source, tell: Tell, chunk_bytes: int, hear: Hear) -> Iterator[pa.RecordBatch]:
    for line, block, ends in blocks(source, tell, chunk_bytes, hear):
        starts, names, name_ends, properties, closing = places(block, ends).T
        usual = closing > starts
        pieces = _views(block, np.stack([names, properties]), np.stack([name_ends, closing]), usual)
        whole = _views(block, starts[None], ends[None], ~usual)
        yield pa.record_batch([pa.array(np.arange(line, line + len(ends))), *pieces, *whole], schema=PIECES)


def _views(block: bytes, starts: Numbers, ends: Numbers, known: npt.NDArray[np.bool_]) -> list[pa.Array]:
    """What stands in a block between these places, where it is known: an array for each row of places.

    A view is a length, then the text itself, or its first four bytes and where in the block it is.
    Source: https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-view-layout
    """
    if not known.any():
        return [pa.nulls(len(known), pa.string_view())] * len(starts)
    block = block if starts.max() + IN_VIEW <= len(block) else block + bytes(IN_VIEW)
    words = np.ndarray(len(block) - 7, "<u8", block, strides=(1,))
    lengths, begins = (ends - starts).ravel().astype("<u8"), starts.ravel()
    views = np.stack([lengths | words[begins] << 32, begins.astype("<u8") << 32], axis=1)
    short = np.flatnonzero(lengths <= IN_VIEW)
    length, begin = lengths[short], begins[short]
    views[short, 0] = length | (words[begin] & FIRST_BYTES[np.minimum(length, 4)]) << 32
    views[short, 1] = words[begin + 4] & FIRST_BYTES[np.maximum(length, 4) - 4]
    validity = np.packbits(np.tile(known, len(starts)), bitorder="little")
    buffers = [pa.py_buffer(part) for part in (validity, views, block)]
    return [pa.Array.from_buffers(pa.string_view(), len(known), buffers, offset=row * len(known))
            for row in range(len(starts))]


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
