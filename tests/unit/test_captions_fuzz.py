"""Whatever a persona holds, text comes out, and it keeps the promises."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.captions.packs import Library
from backend.captions.scoring import STYLES
from backend.captions.voice import read_voice
from backend.services.template_service import TemplateService

NAMES = (
    "name",
    "appearance",
    "personality",
    "content_themes",
    "style_preferences",
    "base_appearance_description",
    "appearance_locked",
)
NASTY = (
    "",
    " ",
    "\x00",
    "\ud800",
    "{opening}",
    "{0}",
    "%(x)s",
    "مرحبا بالعالم",
    "🎨🔥",
    "👩‍👩‍👧‍👦" * 20,
    "a" * 500,
    "#R&D",
    "##vegan",
    "\u202eevil",
    "not creative",
    "today",
    "thoughts",
    "<b>hi</b>",
    "x\ny\tz",
    "'; DROP",
)
texts = st.one_of(st.text(max_size=60), st.sampled_from(NASTY))
junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.binary(max_size=5), texts),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner),
        st.sets(texts, max_size=3),
        st.dictionaries(st.one_of(texts, st.integers()), inner, max_size=3),
    ),
    max_leaves=6,
)
preferences = st.one_of(
    junk,
    st.fixed_dictionaries({}, optional=dict.fromkeys(("aesthetic", "voice_style", "tone"), junk)),
)
personas = st.fixed_dictionaries(
    {}, optional={name: preferences if name == "style_preferences" else junk for name in NAMES}
)


class Raising:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_any_persona_gives_a_caption(rounds: Any) -> None:
    service, library = TemplateService(Library()), Library()

    @settings(max_examples=rounds(300, 10_000), derandomize=True, deadline=None)
    @given(fields=personas, prompt=st.one_of(st.none(), junk), rating=junk, seed=st.integers())
    def check(fields: dict[str, Any], prompt: Any, rating: Any, seed: int) -> None:
        persona = SimpleNamespace(**fields)
        text = service.generate_fallback_text(persona, prompt, rating, seed=seed)
        assert 50 < len(text) <= 2_200
        assert text == text.encode("utf-8").decode("utf-8")
        assert "\x00" not in text
        assert any(library.pack(style).shows_style(text) for style in STYLES)
        themes = read_voice(persona).themes
        assert not themes or any(theme in text for theme in themes)

    check()


@pytest.mark.parametrize(
    "persona",
    [
        None,
        0,
        "a persona",
        object(),
        [],
        {},
        pytest.param(Raising(), id="raising"),
        type("Empty", (), {}),
        {"personality": "creative", "content_themes": ("a", "b")},
        SimpleNamespace(content_themes="x" * 100_000, personality="y" * 100_000),
        SimpleNamespace(content_themes={"b", "a"}, personality=["creative", None, 3]),
    ],
)
def test_no_persona_is_too_strange(persona: Any) -> None:
    assert len(TemplateService().generate_fallback_text(persona, "z" * 100_000)) > 50


def test_the_methods_take_junk_too() -> None:
    service = TemplateService()
    for value in (None, 3, object(), [None], {"a": 1}, {1, 2}, b"x", "x" * 100_000):
        assert service._determine_content_style(value, value, value) in STYLES
        assert isinstance(service._determine_voice_modifiers(value, value), list)
        assert service._generate_appearance_context(value, value, value) == ""
        assert 3 <= len(service._generate_templates_for_style("tech", value, "", [])) <= 5
        assert isinstance(service._customize_template("today", value), str)


def test_a_seed_means_the_same_in_another_process() -> None:
    code = (
        "from backend.captions.brief import Brief;"
        "from backend.captions.composer import compose;"
        "from backend.captions.topic import read_topic;"
        "from backend.captions.voice import Voice;"
        "voice = Voice(personality='bold', traits=('creative',), themes=('a', 'b'));"
        "topic = read_topic('a cat on a wall');"
        "print(ascii([compose(Brief(voice, topic, s)).text for s in range(20)]))"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": "src", "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_a_voice_is_read_once_and_frozen() -> None:
    persona = SimpleNamespace(
        name="Mira\x00", personality="bold, witty", content_themes=["#tea", "Tea", " AI. ", None]
    )
    voice = read_voice(persona)
    assert (voice.name, voice.traits, voice.themes) == ("Mira", ("bold", "witty"), ("tea", "AI"))
    with pytest.raises(AttributeError):
        voice.name = "Other"  # type: ignore[misc]
