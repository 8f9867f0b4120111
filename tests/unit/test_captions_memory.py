"""What one caption is written against, whether it was recalled or has grown since."""

from __future__ import annotations

from backend.captions.memory import HORIZON, WINDOW, Memory, Said

POSTS = [
    Said(f"Post {i} of {i % 7} about a walk", fragments=(f"f{i % 450}",), theme=f"t{i % 3}")
    for i in range(2 * HORIZON)
]


def recalled(posts: list[Said]) -> Memory:
    return Memory(list(reversed(posts))[:HORIZON])


def test_what_is_recalled_weighs_as_what_has_grown() -> None:
    grown = recalled(POSTS[:-40])
    for post in POSTS[-40:]:
        grown.add(post)
    fresh, whole = recalled(POSTS), Memory(reversed(POSTS))
    used = [f"f{i}" for i in range(460)] + [f"theme:t{i}" for i in range(4)]
    ages = [fresh.age(one) for one in used]
    assert ages == [grown.age(one) for one in used] == [whole.age(one) for one in used]
    assert (min(ages), max(ages)) == (1, HORIZON + 1)
    for post in POSTS[-2 * WINDOW :]:
        assert fresh.overlap(post.text) == grown.overlap(post.text)
        assert fresh.opening(post.text) == grown.opening(post.text)


def test_a_short_memory_counts_what_it_holds() -> None:
    memory = Memory(reversed(POSTS[:5]))
    assert [memory.age(f"f{i}") for i in (4, 0, 9)] == [1, 5, 6]


def test_a_post_s_other_forms_are_said_but_count_as_one() -> None:
    memory = Memory([Said("A walk, in full.", forms=("A walk.", "Walk!"))])
    assert len(memory) == 1
    assert all(memory.said(text) for text in ("a walk,  in FULL.", "A walk.", "walk!"))
    memory.forbid("Another walk.")
    assert memory.said("another walk.")
    assert len(memory) == 1


def test_words_of_captions_without_fragments_count_as_long_as_openings_do() -> None:
    posts = [Said("A quiet corner of the market."), *(POSTS[:WINDOW])]
    grown = Memory()
    for post in posts:
        grown.add(post)
    fresh = Memory(reversed(posts))
    never = len(posts) + 1
    assert grown.age("f999", "quiet corner") == fresh.age("f999", "quiet corner") == never
    assert Memory(reversed(posts[:-1])).age("f999", "quiet corner") == WINDOW
