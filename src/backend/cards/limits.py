"""How much of a stranger's file is read."""

from __future__ import annotations

MAX_FILE_BYTES = 32 * 1024**2
"""A card with everything that is packed into it."""

MAX_DOCUMENT_BYTES = 8 * 1024**2
"""The JSON of a card; a large lorebook has 1 to 3 MiB."""

MAX_DEPTH = 64
MAX_VALUES = 200_000
"""How many values and keys a document may have; each takes memory of its own."""

MAX_TEXT_CHARACTERS = 1024**2
"""Of one text, but for a `data:` URI, which is bounded by the document."""

MAX_CHUNKS = 50_000
MAX_TEXT_CHUNK_BYTES = MAX_DOCUMENT_BYTES * 4 // 3 + 4
"""Of a PNG's text that holds a card: the largest document, in base64."""

MAX_ENTRIES = 1_000
MAX_DIRECTORY_BYTES = 1024**2
"""Of an archive's list of entries, which is read before anything else."""

MAX_UNPACKED_BYTES = 64 * 1024**2
MAX_ASSET_BYTES = 16 * 1024**2
MAX_RATIO = 100
RATIO_FREE_BYTES = 1024**2
"""Below this an entry may be packed as tightly as it likes."""

MAX_NAME_CHARACTERS = 200
"""Of the name of an asset."""
