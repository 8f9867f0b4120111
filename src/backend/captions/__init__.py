"""Words: captions in a persona's voice, on topic, with or without a language model.

What the best tools do: social schedulers let a language model rewrite a post per network, and
grammars such as Tracery make thousands of texts from small data. What their users complain of:
captions that repeat, that miss what the picture shows, traits read by substring ("update" as tech),
sentences broken by search and replace, hashtags such as `#R&D`, invented figures and experiences,
and a dead model endpoint that holds everything up.

Here the grammar is data and its sentences are whole, so nothing is spliced; user values are
opaque leaves; a topic is typed before a sentence takes it; what was said lately is passed over; a
seed gives the same caption anywhere; an endpoint has one deadline and a breaker; and whoever wrote
a caption, it passes one gate.

Layers: `words`, `claims` → `voice`, `topic`, `memory` → `scoring`, `steering`, `platforms` →
`grammar` → `composer`; `gate` judges, `llm` asks. Knows no table and no route.
"""
