"""Characters as other programs write them: read, mapped to a persona and back, written.

Character Card V1, V2 and V3 (JSON, PNG, `.charx`) and elizaOS character JSON. SillyTavern reads the
most of these, and its users' complaints, like those of its kin, are all of one kind: a field that
the program does not know is gone after a round trip, `null` where a list should be breaks the
import, an edit in another program is lost, and nobody says what was dropped.

So here the document is the truth and nothing in it is a schema: it is kept whole, the few fields
that a persona has a home for are read out of it, and an export writes into it only what was changed
since. What could not be taken is listed with its reason. Gator's own fields travel under
`extensions.gator` with a digest of what they were read beside, so that what another program edited
counts for more than what Gator remembers.

The room is pure: bytes and plain values in, plain values and bytes out. It knows no persona table,
no route and no network; a URL in a card is text and stays text.
"""
