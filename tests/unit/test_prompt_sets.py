"""Prompt sets: what the syntax means, that the count is true, that nothing gets out of hand."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from itertools import islice
from math import comb, perm, prod
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import InvalidRequest
from backend.services.prompt_plan import ordered_ways
from backend.services.prompt_sets import WildcardFolder, compile_prompts

FILES = {
    "colour.txt": "# comment\n red \n{dark|light} blue\n\n#green\nred\nteal # not the bird\n",
    "tone-cold.txt": "ice\nsteel\n",
    "tone-warm.txt": "amber\n",
    "sub/deep.txt": "first\nsecond\n",
    "one/same.txt": "a\n",
    "two/same.txt": "b\n",
    "outfit.txt": "${c=!{black|white}}${c} coat and ${c} boots\n",
    "season.txt": "in ${season:spring}, ${season:spring} light\n",
    "nested.txt": "__colour__ sky\n__sub/deep__\n",
    "round.txt": "__robin__\n",
    "robin.txt": "__round__\n",
    "empty.txt": "# nothing\n",
    "structured.yaml": "- a\n",
    ".hidden.txt": "secret\n",
}


@pytest.fixture
def wildcards(tmp_path: Path) -> WildcardFolder:
    root = tmp_path / "wildcards"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    return WildcardFolder(root)


def expanded(text: str, wildcards: WildcardFolder | None = None) -> list[str]:
    compiled = compile_prompts(text, wildcards)
    found = list(compiled.all())
    assert len(found) == compiled.count()
    assert set(compiled.sample(20, seed=1)) <= set(found)
    return found


def refusal(text: str, wildcards: WildcardFolder | None = None) -> str:
    with pytest.raises(InvalidRequest) as caught:
        compile_prompts(text, wildcards)
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ("plain words", ["plain words"]),
        ("a {red|blue} hat", ["a red hat", "a blue hat"]),
        ("{a|b} {c|d}", ["a c", "a d", "b c", "b d"]),
        ("{a|{b|{c|d}} e}", ["a", "b e", "c e", "d e"]),
        ("{very |}big", ["very big", "big"]),
        ("x { a | b } y", ["x a y", "x b y"]),
        ("{3::a|.5::b|c}", ["a", "b", "c"]),
        ("{0::a|b}", ["b"]),
        ("{a|a|{b|a}}", ["a", "b"]),
        ("{2$$a|b|c}", ["a,b", "a,c", "b,a", "b,c", "c,a", "c,b"]),
        ("{2$$ a | b }", ["a,b", "b,a"]),
        ("{1-2$$ and $$a|b}", ["a", "b", "a and b", "b and a"]),
        ("{-2$$+$$a|b}", ["a", "b", "a+b", "b+a"]),
        ("{2-$$a|b}", ["a,b", "b,a"]),
        ("{2-1$$a|b}", ["a", "b", "a,b", "b,a"]),
        ("{9$$a|b}", ["a,b", "b,a"]),
        ("{2$$$$a|b}", ["ab", "ba"]),
        ("{2$$|$$a|b}", ["a|b", "b|a"]),
        ("{2$$a|a|b}", ["a,b", "b,a"]),
        ("x{0-1$$, a|, b}", ["x", "x, a", "x, b"]),
        ("x {0$$a|b}", ["x"]),
        ("{2$${a|b}|c}", ["a,c", "b,c", "c,a", "c,b"]),
    ],
)
def test_choices(text: str, prompts: list[str]) -> None:
    assert expanded(text) == prompts


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        (r"\{a\} \| \\ \#1 \_\_x\_\_ \$\{y\} \%\{z\}", r"{a} | \ #1 __x__ ${y} %{z}"),
        (r"(cat:1.2) \(series\) [a|b] <lora:x:0.8>", r"(cat:1.2) \(series\) [a|b] <lora:x:0.8>"),
        ("a sign that says $10 at 50% #1 C# https://x.org/a", None),
        ("#hashtag, C# and a_b", None),
        ("a # a comment\nb", "a b"),
        ("# a comment\n  b\n\n\tc ## another", "b c"),
        (r"{\@home\|away}", "@home|away"),
        ("{10$10}", "10$10"),
        ("{2 :: b}", "2 :: b"),
    ],
)
def test_text_stays_text(text: str, prompt: str | None) -> None:
    assert expanded(text) == [prompt or text]


def test_an_option_may_be_a_line_with_a_bar_in_it() -> None:
    assert expanded(r"{blue eyes|\|_\|}") == ["blue eyes", "|_|"]


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ("__colour__", ["red", "dark blue", "light blue", "teal"]),
        ("__tone-*__", ["ice", "steel", "amber"]),
        ("__sub/deep__", ["first", "second"]),
        ("__deep__", ["first", "second"]),
        ("{x|__sub/deep__}", ["x", "first", "second"]),
        ("{2$$__sub/deep__}", ["first,second", "second,first"]),
        ("{2$$__sub/d?ep__|__sub/deep__}", None),
        (
            "__nested__",
            ["red sky", "dark blue sky", "light blue sky", "teal sky", "first", "second"],
        ),
        ("__outfit__", ["black coat and black boots", "white coat and white boots"]),
        ("__season__", ["in spring, spring light"]),
        ("__season(season=winter)__", ["in winter, winter light"]),
        ("${season=autumn}__season__", ["in autumn, autumn light"]),
        ("__season(season=wet)__; __season__", ["in wet, wet light; in spring, spring light"]),
    ],
)
def test_wildcards(wildcards: WildcardFolder, text: str, prompts: list[str] | None) -> None:
    found = expanded(text, wildcards)
    assert prompts is None or found == prompts


def test_a_line_is_taken_once_but_two_wildcards_may_agree(wildcards: WildcardFolder) -> None:
    assert "first,first" not in expanded("{2$$__sub/deep__}", wildcards)
    assert "first,first" in expanded("{2$$__sub/deep__|__sub/deep__}", wildcards)


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ("${x={a|b}}${x}${x}", ["aa", "ab", "ba", "bb"]),
        ("${x=!{a|b}}${x}${x}", ["aa", "bb"]),
        ("${x=!{a|b}}${y=!{c|d}}${x}${y}${x}", ["aca", "ada", "bcb", "bdb"]),
        ("${x=!{a|b}}${y=!${x}{c|d}}${y}${y}", ["acac", "adad", "bcbc", "bdbd"]),
        ("${x:c} ${x=a} ${x?=b} ${x}", ["c a"]),
        ("${x=a}${x=${x}b}${x}", ["ab"]),
        ("{${x=a}${x}|${x:b}}", ["a", "b"]),
        ("{1-2$$${x=!{a|b}}${x}${x}|c}", ["aa", "bb", "c", "aa,c", "bb,c", "c,aa", "c,bb"]),
    ],
)
def test_variables(text: str, prompts: list[str]) -> None:
    assert expanded(text) == prompts


def test_a_held_variable_is_held_apart_in_each_place(wildcards: WildcardFolder) -> None:
    found = expanded("__outfit__; __outfit__", wildcards)
    assert len(found) == len(set(found)) == 4
    assert "black coat and black boots; white coat and white boots" in found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "character 1: the prompt is empty"),
        ("# only a comment", "the prompt is empty"),
        ("{a|}", "one of its prompts would be empty"),
        ("{0-1$$a}", "one of its prompts would be empty"),
        ("a {b|c", "character 3: this brace is not closed"),
        ("a b} c", "character 4: nothing opened this brace"),
        ("{$$ and $$a|b}", "a number of options belongs before $$"),
        ("{@a|b}", "character 2: the sampler mark @ is not supported"),
        ("%{a$$b}", "wrap commands are not supported"),
        ("x ${y} z", "character 3: the variable y is not set here"),
        ("${y}${y=a}", "character 1: the variable y is not set here"),
        ("${1=a}", "character 3: a name is missing"),
        ("${y=a", "this brace is not closed"),
        ("{0::a|0::b}", "every option has the weight 0"),
        ("a__b", "character 2: a wildcard's name begins here"),
        ("__sub/deep(x)__", "parameters are written as in"),
        ("__sub/deep(x=1", "not closed by a round bracket"),
        ("__sub/deep(x=1)", "two underscores are missing"),
        ("__colr__", "there is no wildcard 'colr'; did you mean 'colour'?"),
        ("__zzz*__", "there are 12, such as 'colour'"),
        ("__same__", "may be any of one/same, two/same; write which"),
        ("__structured__", "is .yaml here; only text files (.txt) are read"),
        ("__empty__", "the wildcard empty has no lines"),
        ("__.hidden__", "there is no wildcard '.hidden'"),
        ("__round__", "wildcard robin, line 1, character 1: the wildcards go round in a circle"),
        ("__robin__", "robin → round → robin"),
        ("__../wildcards/colour__", "is a path"),
        ("__/etc/passwd__", "is a path"),
        ("__a\\b__", "a wildcard's name begins here"),
        ("__{a|b}__", "a wildcard's name begins here"),
        ("a\x00b", "character 2: U+0000 is not text"),
        ("a\ud800b", "character 2: U+D800 is not text"),
    ],
)  # fmt: skip
def test_refusals_name_the_place(wildcards: WildcardFolder, text: str, says: str) -> None:
    assert says in refusal(text, wildcards)


def test_a_refusal_carries_the_position(wildcards: WildcardFolder) -> None:
    with pytest.raises(InvalidRequest) as caught:
        compile_prompts("hat, __round__", wildcards)
    [error] = caught.value.details["errors"]
    assert (error["field"], error["source"]) == ("template", "wildcard robin, line 1")
    assert error["position"] == 0


def test_without_a_folder_there_are_no_wildcards(tmp_path: Path) -> None:
    assert "there are no wildcards here" in refusal("__a__")
    assert "GATOR_HOME has none" in refusal("__a__", WildcardFolder(tmp_path / "not there"))


def test_names_never_lead_out_of_the_folder(tmp_path: Path, wildcards: WildcardFolder) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "secret.txt").write_text("secret")
    (wildcards.root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (wildcards.root / "folder").symlink_to(tmp_path / "other")
    (wildcards.root / "inside.txt").symlink_to(wildcards.root / "tone-warm.txt")
    os.mkfifo(wildcards.root / "pipe.txt")
    assert expanded("__inside__", wildcards) == ["amber"]
    for name in ("link", "folder/secret", "secret", "pipe"):
        assert "there is no wildcard" in refusal(f"__{name}__", wildcards)
    assert "secret" not in expanded("__*__", without_faults(wildcards))


def without_faults(wildcards: WildcardFolder) -> WildcardFolder:
    """Take away the files that are there to be refused."""
    for name in ("round", "robin", "empty"):
        (wildcards.root / f"{name}.txt").unlink()
    return WildcardFolder(wildcards.root)


def test_files_that_cannot_be_read_are_named(wildcards: WildcardFolder) -> None:
    (wildcards.root / "latin.txt").write_bytes(b"good\nb\xe4d\n")
    (wildcards.root / "bom.txt").write_bytes(b"\xef\xbb\xbfgood\r\nbetter\r\n")
    (wildcards.root / "broken.txt").write_text("fine\n{never closed\n")
    assert "wildcard latin, line 2: is not UTF-8" in refusal("__latin__", wildcards)
    assert "wildcard broken, line 2, character 1: this brace" in refusal("__broken__", wildcards)
    assert expanded("__bom__", wildcards) == ["good", "better"]


def test_a_sample_is_seeded_and_each_prompt_stands_alone() -> None:
    compiled = compile_prompts("{a|b|c|d} {e|f|g} {1-2$$h|i|j}", None)
    ten = list(compiled.sample(10, seed=7))
    assert list(compiled.sample(10, seed=7)) == ten
    assert list(compiled.sample(4, seed=7)) == ten[:4]
    assert compiled.drawn(7, 9) == ten[9]
    assert list(compiled.sample(10, seed=8)) != ten


def test_a_sample_is_the_same_everywhere() -> None:
    compiled = compile_prompts("{a|b|c} {2::d|e} {2$$f|g|h}", None)
    assert list(compiled.sample(4, seed=1)) == GOLDEN


GOLDEN = ["b d g,f", "b d h,g", "c d h,g", "b e g,h"]


def test_weights_are_kept() -> None:
    drawn = Counter(compile_prompts("{3::a|1::{b|c}}", None).sample(8_000, seed=0))
    assert drawn["a"] == pytest.approx(6_000, rel=0.05)
    assert drawn["b"] == pytest.approx(1_000, rel=0.1)
    first = Counter(p[0] for p in compile_prompts("{2$$8::a|1::b|1::c}", None).sample(4_000, 0))
    assert first["a"] == pytest.approx(3_200, rel=0.05)
    even = Counter(compile_prompts("{2$$a|b|c|d}", None).sample(12_000, seed=0))
    assert len(even) == 12
    assert all(count == pytest.approx(1_000, rel=0.15) for count in even.values())


def test_the_count_needs_no_expansion() -> None:
    text = "{2$$" + "|".join(f"{{a{i}|b{i}}}" for i in range(300)) + "} " + "{x|y|z}" * 500
    started = time.perf_counter()
    compiled = compile_prompts(text, None)
    assert compiled.count() == perm(300, 2) * 4 * 3**500
    assert len(list(islice(compiled.all(), 1_000))) == 1_000
    assert len(list(compiled.sample(10, seed=1))) == 10
    assert time.perf_counter() - started < 5


def test_a_hundred_thousand_lines_are_compiled_once_and_drawn_quickly(tmp_path: Path) -> None:
    (tmp_path / "many.txt").write_text("\n".join(f"thing {i}" for i in range(100_000)))
    started = time.perf_counter()
    compiled = compile_prompts("__many__ and {2$$__many__}", WildcardFolder(tmp_path))
    assert compiled.count() == 100_000 * perm(100_000, 2)
    assert sum(1 for _ in compiled.sample(20_000, seed=3)) == 20_000
    assert time.perf_counter() - started < 20


LAUGHS = "".join(f"${{v{i + 1}=${{v{i}}}${{v{i}}}}}" for i in range(60))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("${v0=ha}" + LAUGHS + "${v60}", "at most 4,000"),
        ("x${v0={,|.}}" + LAUGHS + "${v60}", "at most 4,000"),
        ("x${v0=!{,|.}}" + LAUGHS + "${v60}", "at most 4,000"),
        ("x" + "{a|b}" * 2_100, "10^600 ways"),
        ("{65$$" + "|".join(map(str, range(65))) + "}", "at most 64 can be"),
        ("{" * 33 + "a" + "}" * 33, "braces are nested deeper than 32"),
        ("${x=" * 40 + "a" + "}" * 40, "braces are nested deeper than 32"),
        ("a" * 4_001 + "{b|c}", "the longest prompt would have 4,001 characters"),
        ("a" * 32_001, "at most 32,000 characters are read"),
        ("".join(f"${{v{i + 1}={{${{v{i}:a}}|b}} c}}" for i in range(200)) + "${v200}", "depend"),
        ("__" * 15_000, "a wildcard's name begins here"),
        ("{2$$" * 7_000, "braces are nested"),
        ("{" + "a$$" * 9_000, "this brace is not closed"),
    ],
)
def test_what_would_be_too_much_is_refused_at_once(text: str, says: str) -> None:
    started = time.perf_counter()
    assert says in refusal(text)
    assert time.perf_counter() - started < 5


def test_wildcards_are_bounded_too(tmp_path: Path) -> None:
    for level in range(40):
        (tmp_path / f"n{level}.txt").write_text(f"__n{level + 1}__ a\n__n{level + 1}__ b\n")
    assert "wildcards are nested deeper than 32" in refusal("__n0__", WildcardFolder(tmp_path))
    (tmp_path / "many.txt").write_text("\n".join(f"{i}" for i in range(100_000)))
    started = time.perf_counter()
    assert compile_prompts("x" + "__many__" * 120, WildcardFolder(tmp_path)).count() == 10**600
    assert "options" in refusal("x" + "{2$$__many__}" * 2_000, WildcardFolder(tmp_path))
    assert time.perf_counter() - started < 30
    (tmp_path / "large.txt").write_bytes(b"a\n" * (9 * 1024**2))
    assert "larger than 16 MiB" in refusal("__large__", WildcardFolder(tmp_path))
    started = time.perf_counter()
    for name in ("a" * 200, "a*" * 90, "*a" * 20 + "b"):
        assert "there is no wildcard" in refusal(f"__{name}__", WildcardFolder(tmp_path))
    assert time.perf_counter() - started < 2


WORDS = st.sampled_from(["a", "b", "cc", "d e", r"\|", "$5", ", "])


def _variants(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    options = st.lists(inner, min_size=1, max_size=3).map("|".join)
    bounds = st.sampled_from(["", "1$$", "2$$", "1-2$$ and $$", "-2$$", "0-1$$", "2$$|$$"])
    return st.builds("{{{}{}}}".format, bounds, options)


TEMPLATES = st.recursive(
    WORDS,
    lambda inner: st.one_of(
        _variants(inner),
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.builds("${{v=!{}}}${{v}}-${{v}}".format, inner),
        st.builds("${{w={}}}${{w}}{}${{w}}".format, inner, inner),
    ),
    max_leaves=8,
)


@given(TEMPLATES)
def test_the_count_is_the_number_of_prompts(text: str) -> None:
    compiled = compile_prompts(f"x{text}", None)
    found = list(islice(compiled.all(), 3_000))
    assert len(found) == min(compiled.count(), 3_000)
    if compiled.count() <= 3_000:
        assert set(compiled.sample(15, seed=compiled.count())) <= set(found)


@given(st.text(alphabet="{}|$:_#!~@%\\-=(),.?*/ \nab1", max_size=60) | st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        compiled = compile_prompts(text, None)
    except InvalidRequest as exc:
        refused = exc.message
    else:
        refused = ""
    if refused:
        assert re.match(r"template: character \d+: ", refused)
        return
    prompts = list(islice(compiled.all(), 50))
    assert len(prompts) == min(compiled.count(), 50)
    assert all(prompt and len(prompt) <= 4_000 for prompt in prompts)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 4))
def test_ordered_ways_against_counting_them(counts: list[int], high: int) -> None:
    from itertools import permutations

    high = min(high, len(counts))
    brute = sum(prod(p) for k in range(high + 1) for p in permutations(counts, k))
    assert ordered_ways(counts, 0, high) == brute
    assert ordered_ways([1] * 10, 3, 3) == comb(10, 3) * 6
