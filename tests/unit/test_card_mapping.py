"""Cards become personas and personas cards, as docs/character-cards.md has it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from backend.cards.card import CardFormat
from backend.cards.gator import MAPPED, UNMAPPED, persona_fields
from backend.cards.mapping import kept_fields
from backend.cards.reading import read_card
from backend.cards.writing import kept_card, written_card
from backend.models.persona import PersonaCreate
from tests.fixtures.cards import DESCRIPTION, as_json, eliza, v1, v2, v3

PAGE = Path(__file__).parents[2] / "docs" / "character-cards.md"
PERSONA: dict[str, Any] = {
    "name": "Mira",
    "appearance": "long red hair,\nround glasses",
    "personality": "creative, warm",
    "content_themes": ["street art"],
    "style_preferences": {"aesthetic": "bright", "voice_style": "", "tone": "warm", "emoji": 2},
    "base_appearance_description": "the one with the red hair",
    "image_style": "film grain",
    "negative_prompt": "text",
    "model_adapters": [{"name": "film", "weight": 0.8}],
}


def fields(document: dict[str, Any]) -> dict[str, Any]:
    return persona_fields(read_card(as_json(document)).card).values


def described(text: str, **changes: Any) -> dict[str, Any]:
    return fields(v2(description=text, personality="", tags=[], **changes))


@pytest.mark.parametrize("make", [v1, v2, v3])
def test_a_card_gives_looks_traits_themes_and_tone(make: Any) -> None:
    found = fields(make())
    assert found["name"] == "Ondine"
    assert found["appearance"] == (
        "She has long silver hair and grey eyes, and wears a yellow raincoat."
    )
    assert found["personality"] == "patient, curious, stubborn"
    assert found.get("content_themes") == (None if make is v1 else ["sea", "storms"])
    assert found["style_preferences"] == {"tone": "dry"}


def test_an_elizaos_character_gives_the_same() -> None:
    found = fields(eliza())
    assert found["appearance"] == "She has long silver hair and grey eyes."
    assert found["personality"] == "patient, curious, stubborn"
    assert found["content_themes"] == ["sea", "storms"]
    assert found["style_preferences"] == {"voice_style": "say little", "tone": "dry"}


@pytest.mark.parametrize(
    ("text", "appearance"),
    [
        ("Appearance: red hair\nJob: baker", "red hair"),
        ("**Appearance:** red hair", "red hair"),
        ("- Hair: red\n- Eyes: green\n- Age: 30", "red hair, green eyes"),
        ('[Character("Ann") {\nHair("red" + "curly")\nAge("30")\n}]', "red, curly hair"),
        ('[Ann\'s body= "pink hair", "amber eyes"]', "pink hair, amber eyes"),
        ("Outfit: blue coat, boots", "wearing blue coat, boots"),
        ("Appearance:\n- red hair\n- tall\nMood: good", "red hair, tall"),
        ("Ann bakes. Ann has red hair! She sings.", "Ann has red hair!"),
        ("Ann bakes bread.", "Ann bakes bread."),
        ("{{char}} and {{user}} {{random:a,b}} bake.", "Ondine and the user bake."),
    ],
)
def test_looks_are_found_where_the_description_says_them(text: str, appearance: str) -> None:
    assert described(text)["appearance"] == appearance


def test_personality_is_found_in_the_description_where_the_field_is_empty() -> None:
    assert described("Personality: kind, shy\nHair: red")["personality"] == "kind, shy"
    assert described("She bakes. She has red hair.")["personality"] == "She bakes."
    assert fields(v2(description="", personality="", tags=["sea", "calm"]))["personality"] == (
        "sea, calm"
    )


def test_the_nickname_speaks_and_the_name_names() -> None:
    found = fields(v3(description="{{char}} bakes.", personality=""))
    assert (found["name"], found["appearance"]) == ("Ondine", "Onn bakes.")


def test_a_card_that_says_nothing_gets_its_name_for_looks_and_that_is_told() -> None:
    found = persona_fields(read_card(as_json(v2(description="", personality="", tags=[]))).card)
    assert (found.values["appearance"], found.values["personality"]) == ("Ondine", "Ondine")
    assert {note.field for note in found.notes} == {"appearance", "personality"}


def test_what_is_too_long_is_cut_after_a_sentence_and_told() -> None:
    long = "She has red hair and bakes. " * 100
    found = persona_fields(read_card(as_json(v2(description=long))).card)
    assert found.values["appearance"].endswith("bakes.")
    assert 1_900 < len(found.values["appearance"]) <= 2_000
    assert [note.field for note in found.notes] == ["data.description", "data.tags"]


def test_tags_of_a_catalogue_are_no_themes_and_stay_in_the_card() -> None:
    card = read_card(as_json(v2())).card
    assert any("Female" in note.reason for note in persona_fields(card).notes)
    persona = {**persona_fields(card).values, "content_themes": ["tides"]}
    written = written_card(persona, kept_card(card), CardFormat.V2)
    assert written.data["tags"] == ["Female", "tides"]


def test_what_has_no_home_is_listed() -> None:
    assert kept_fields(read_card(as_json({**v3(x_own=1), "top": [2]})).card) == [
        "data.scenario", "data.first_mes", "data.mes_example", "data.creator_notes",
        "data.system_prompt", "data.post_history_instructions", "data.alternate_greetings",
        "data.character_book", "data.creator", "data.character_version", "data.assets",
        "data.nickname", "data.creator_notes_multilingual", "data.source",
        "data.group_only_greetings", "data.creation_date", "data.modification_date", "data.x_own",
        "top", "data.extensions.depth_prompt", "data.extensions.chub/id",
    ]  # fmt: skip


@pytest.mark.parametrize("wanted", [CardFormat.V2, CardFormat.V3, CardFormat.ELIZA])
def test_a_persona_of_gators_own_comes_back_exactly(wanted: CardFormat) -> None:
    card = written_card(PERSONA, None, wanted, created=7, modified=9)
    assert read_card(as_json(card.document)).ignored == ()
    found = persona_fields(read_card(as_json(card.document)).card)
    assert PersonaCreate.model_validate(found.values) == PersonaCreate.model_validate(PERSONA)
    assert not found.notes


def test_a_persona_of_gators_own_is_a_card_by_the_specification() -> None:
    data = written_card(PERSONA, None, CardFormat.V3, created=7, modified=9).data
    assert data["name"] == "Mira"
    assert data["description"] == (
        "Appearance: long red hair, round glasses\nAesthetic: bright\nTone: warm"
    )
    assert data["personality"] == "creative, warm"
    assert data["tags"] == ["street art"]
    assert (data["creation_date"], data["modification_date"]) == (7, 9)
    assert data["group_only_greetings"] == data["alternate_greetings"] == []
    for key in ("scenario", "first_mes", "mes_example", "creator_notes", "system_prompt",
                "post_history_instructions", "creator", "character_version"):  # fmt: skip
        assert data[key] == ""
    assert "group_only_greetings" not in written_card(PERSONA, None, CardFormat.V2).data


def test_an_elizaos_character_holds_only_what_its_schema_knows() -> None:
    document = written_card(PERSONA, None, CardFormat.ELIZA).document
    assert set(document) == {
        "name", "bio", "adjectives", "topics", "messageExamples", "postExamples", "plugins",
        "style", "settings",
    }  # fmt: skip
    assert document["bio"] == ["Appearance: long red hair, round glasses"]
    assert document["adjectives"] == ["creative", "warm"]
    assert document["style"]["all"] == ["tone: warm", "aesthetic: bright"]


def test_a_change_is_written_where_it_was_read_and_nowhere_else() -> None:
    card = read_card(as_json(v3())).card
    persona = persona_fields(card).values
    persona["appearance"] = "short black hair"
    persona["style_preferences"] = {"tone": "bright", "voice_style": "calm"}
    written = written_card(persona, kept_card(card), CardFormat.V3, modified=9)
    assert written.data["description"] == (
        "{{char}} keeps the lighthouse.\nAppearance: short black hair\nTone: bright\n"
        "She owes {{user}} a favour.\nVoice: calm"
    )
    assert written.data["modification_date"] == 9
    unchanged = {k: v for k, v in v3()["data"].items() if k not in _WRITTEN}
    assert {k: v for k, v in written.data.items() if k not in _WRITTEN} == unchanged


_WRITTEN = ("description", "modification_date", "extensions")


def test_prose_is_no_adjective() -> None:
    card = read_card(as_json(eliza())).card
    persona = {**persona_fields(card).values, "personality": "She is, in a word, kind to all."}
    written = written_card(persona, kept_card(card), CardFormat.ELIZA)
    assert written.document["adjectives"] == []
    assert written.document["bio"][-1] == "Personality: She is, in a word, kind to all."
    assert persona_fields(written).said["personality"] == "She is, in a word, kind to all."


def test_an_edit_in_another_program_counts_for_more_than_what_gator_wrote() -> None:
    document = written_card(PERSONA, None, CardFormat.V3).document
    document["data"]["description"] = "Appearance: short black hair\nTone: warm\nAesthetic: bright"
    document["data"]["personality"] = "sly"
    found = persona_fields(read_card(as_json(document)).card)
    assert found.values["appearance"] == "short black hair"
    assert found.values["personality"] == "sly"
    assert found.values["style_preferences"] == {
        "aesthetic": "bright", "voice_style": "", "tone": "warm", "emoji": 2,
    }  # fmt: skip
    assert found.values["image_style"] == "film grain"
    assert found.sources["appearance"] == "data.description, where it says so"
    assert found.sources["name"] == "extensions.gator"


@pytest.mark.parametrize(
    "extension",
    [7, [], {"persona": 7}, {"persona": {"name": 7, "image_style": ["x"]}}, {"read_from": [1]},
     {"version": "x", "persona": {"style_preferences": []}, "read_from": {"name": {}}}],
)  # fmt: skip
def test_a_gator_field_that_is_no_such_thing_is_passed_over(extension: Any) -> None:
    plain = fields(v2())
    assert fields(v2(extensions={"gator": extension})) == plain


def test_v3_survives_a_trip_as_v2() -> None:
    card = read_card(as_json(v3())).card
    persona = persona_fields(card).values
    two = read_card(as_json(written_card(persona, kept_card(card), CardFormat.V2).document)).card
    assert two.format is CardFormat.V2
    assert "assets" not in two.data
    three = written_card(persona_fields(two).values, kept_card(two), CardFormat.V3)
    for key, value in v3()["data"].items():
        if key not in ("extensions", "character_book"):
            assert three.data[key] == value, key
    entries = three.data["character_book"]["entries"]
    assert entries == [{**v3()["data"]["character_book"]["entries"][0], "use_regex": False}]
    assert three.data["extensions"]["depth_prompt"] == {"prompt": "x", "depth": ""}


def test_a_card_survives_a_trip_as_an_elizaos_character_and_back() -> None:
    for document, there, back in (
        ({**v3(), "top": 1}, CardFormat.ELIZA, CardFormat.V3),
        (eliza(), CardFormat.V2, CardFormat.ELIZA),
    ):
        card = read_card(as_json(document)).card
        persona = persona_fields(card).values
        other = written_card(persona, kept_card(card), there)
        read = read_card(as_json(other.document)).card
        again = written_card(persona_fields(read).values, kept_card(read), back)
        home = again.data["settings" if back is CardFormat.ELIZA else "extensions"]
        home.pop("gator")
        assert again.document == document


def test_between_the_families_what_means_the_same_is_carried_over() -> None:
    card = read_card(as_json(v2())).card
    other = written_card(persona_fields(card).values, kept_card(card), CardFormat.ELIZA).document
    assert other["system"] == "You are {{char}}."
    assert other["bio"][0] == "{{name}} keeps the lighthouse."
    assert other["messageExamples"] == [
        [
            {"name": "{{user1}}", "content": {"text": "Is it far?"}},
            {"name": "{{agentName}}", "content": {"text": "It is a lighthouse.\nIt is tall."}},
        ]
    ]
    card = read_card(as_json(eliza())).card
    data = written_card(persona_fields(card).values, kept_card(card), CardFormat.V2).data
    assert data["description"].startswith("{{char}} keeps the lighthouse.\n")
    assert data["personality"] == "patient, curious, stubborn"
    assert data["system_prompt"] == "Be brief."
    assert data["mes_example"] == "<START>\n{{user}}: Is it far?\n{{char}}: It is tall."


def test_v1_becomes_v2_and_keeps_what_other_programs_put_at_the_top() -> None:
    card = read_card(as_json(v1(tags=["sea"], avatar="none", chat="7"))).card
    written = written_card(persona_fields(card).values, kept_card(card), CardFormat.V2)
    assert written.document["avatar"] == "none"
    assert written.data["description"] == DESCRIPTION
    assert written.data["tags"] == ["sea"]


def test_a_persona_that_was_given_a_key_does_not_carry_it_out() -> None:
    persona = {**PERSONA, "style_preferences": {"tone": "x", "elevenlabs_api_key": "abc"}}
    for wanted in (CardFormat.V2, CardFormat.V3, CardFormat.ELIZA):
        assert "abc" not in str(written_card(persona, None, wanted).document)


def test_what_would_not_be_read_again_is_not_packed_along() -> None:
    deep: Any = 1
    for _ in range(58):
        deep = [deep]
    card = read_card(as_json(v2(extensions={"deep": deep}))).card
    written = written_card(persona_fields(card).values, kept_card(card), CardFormat.ELIZA)
    assert "kept" not in written.document["settings"]["gator"]
    read_card(as_json(written.document))


def test_every_field_of_a_persona_is_decided_on() -> None:
    """A new one goes into `MAPPED` or `UNMAPPED`, or is named here as one that stays at home."""
    decided = {*MAPPED, *UNMAPPED, "style_preferences"} - {"aesthetic", "voice_style", "tone"}
    assert set(PersonaCreate.model_fields) == decided | {"base_image_status"}


def test_the_page_names_every_field() -> None:
    page = PAGE.read_text("utf-8")
    rows = "\n".join(re.findall(r"^\|.*\|$", page, re.MULTILINE))
    for name in (*MAPPED, *UNMAPPED, *v3()["data"], *eliza()):
        assert f"`{name}`" in rows or f"`style_preferences.{name}`" in rows, name
