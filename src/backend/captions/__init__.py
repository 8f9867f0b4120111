"""Words: captions in a persona's voice, on topic, with or without a language model.

What the best tools do: social schedulers let a language model rewrite a post per network, and
grammars such as Tracery make thousands of texts from small data. What their users complain of:
captions that repeat, that miss what the picture shows, traits read by substring ("update" as tech),
sentences broken by search and replace, hashtags such as `#R&D`, invented figures and experiences,
and a dead model endpoint that holds everything up.

Here the grammar is data and its sentences are whole, so nothing is spliced; user values are
opaque leaves; a topic is typed before a sentence takes it; what was said lately is passed over; a
seed gives the same caption anywhere; a dead endpoint costs one short deadline and then nothing; and
whoever wrote a caption, it passes one gate. docs/captions.md and decision 9 say more.

Layers: `words`, `markup`, `claims`, `lengths` → `appearance`, `phrases` → `voice`, `topic`,
`platforms` → `scoring`, `steering`, `brief`, `memory` → `grammar` → `packs` → `drafts` →
`composer`; beside them `gate` with `language`, `answers`, `watchlist` judges, `chat`, `endpoint`,
`recovery`, `llm`, `chain` ask, and `lint`, `grammar_check`, `golden`, `health` look after packs.
Knows no table and no route.
"""
