"""Put a request into the portrait model's own words.

What belongs to the persona (hair, skin, beard, glasses) comes from its approved look, then from the
words of its appearance, then from its identity by a stable hash; never from the prompt of one
picture. What belongs to the picture (expression, clothes, background) comes from the prompt first.
Only vocabulary words reach the model: a user's text is compared, never copied.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from backend.imaging.builtin.reading import Finding, Reading, read
from backend.imaging.builtin.vocabulary import Vocabulary, vocabulary
from backend.imaging.types import AdaptedPrompt, ImageRequest

_NOT_SAID = {"beard": "clean-shaven", "glasses": "none"}
"""What stands where a beard or glasses are denied."""


def adapt(request: ImageRequest) -> AdaptedPrompt:
    """Map a request's free words to the portrait model's vocabulary."""
    settlement = settle(request)
    prompt = phrase(settlement.values)
    return AdaptedPrompt(prompt, settlement.look, {"prompt": prompt, **settlement.report()})


def phrase(values: Mapping[str, str]) -> str:
    """Say attribute values in the form that the model was trained on, leaving out the unsettled."""

    def words(*parts: str) -> str:
        return " ".join(part for part in parts if part)

    def noun(name: str, *parts: str) -> str:
        return words(*parts, name) if any(parts) else ""

    said = {attribute: values.get(attribute, "") for attribute in vocabulary().values}
    parts = (
        "portrait",
        noun("hair", said["rear"], said["front"], said["hair"]),
        noun("skin", said["skin"]),
        said["beard"],
        said["glasses"].replace("none", ""),
        said["expression"],
        words("wearing", said["clothes_colour"], said["clothes"]) if said["clothes"] else "",
        noun("background", said["background"]),
    )
    return ", ".join(part for part in parts if part)


def persona_key(request: ImageRequest) -> str:
    """Name the persona whose traits are drawn; empty where the request has none."""
    return (
        request.identity.strip()
        or request.appearance.strip()
        or (json.dumps(dict(request.look), sort_keys=True, default=str) if request.look else "")
    )


def fraction(*parts: object) -> float:
    """Hash parts to a number in [0, 1): the same in every process."""
    named = json.dumps([str(part) for part in parts]).encode()
    return int.from_bytes(hashlib.sha256(named).digest()[:6]) / 2**48


def draw(weights: Mapping[str, float], *parts: object) -> str:
    """Choose a value by its weight, always the same for the same parts."""
    point = fraction(*parts) * sum(weights.values())
    for value, weight in weights.items():
        point -= weight
        if point < 0:
            return value
    return next(reversed(list(weights)))


def without(weights: Mapping[str, int], refused: Collection[str]) -> Mapping[str, int]:
    """Leave refused values out, unless none would be left."""
    return {v: w for v, w in weights.items() if v not in refused} or weights


@dataclass
class Settlement:
    """The values settled for one picture, and how each came about.

    Attributes:
        values: attribute to value, in the portrait model's words.
        look: the identity traits among them.
        said: attribute to the words that settled it.
        overruled: words to the value that stands in their place.
        excluded: attribute to values that nothing open may be drawn as.
        ignored: position and text; words of the prompt go before words of the appearance.
    """

    values: dict[str, str] = field(default_factory=dict)
    look: dict[str, str] = field(default_factory=dict)
    said: dict[str, Finding] = field(default_factory=dict)
    understood: dict[str, str] = field(default_factory=dict)
    approximated: dict[str, str] = field(default_factory=dict)
    drawn: dict[str, str] = field(default_factory=dict)
    overruled: dict[str, str] = field(default_factory=dict)
    excluded: dict[str, set[str]] = field(default_factory=dict)
    ignored: list[tuple[int, int, str]] = field(default_factory=list)

    def ignored_words(self) -> list[str]:
        """List what no trait could be made of, once each, in order."""
        return list(dict.fromkeys(text for _, _, text in sorted(self.ignored)))

    def report(self) -> dict[str, object]:
        """Say how the words were taken."""
        return {
            "understood": self.understood,
            "approximated": self.approximated,
            "drawn": self.drawn,
            "overruled": self.overruled,
            "ignored": self.ignored_words(),
            "look": self.look,
        }


def settle(request: ImageRequest) -> Settlement:
    """Decide every attribute of a picture that words, look, identity or seed can decide."""
    return _Settler(request).settle()


class _Settler:
    def __init__(self, request: ImageRequest) -> None:
        self.request = request
        self.words: Vocabulary = vocabulary()
        self.result = Settlement()
        self.told: set[tuple[int, int]] = set()  # garments reported with their colour
        self.persona = persona_key(request)
        self.prompt, self.appearance = read(request.prompt), read(request.appearance)
        self.found = tuple(
            self._meant(reading, source) for source, reading in enumerate(self._readings())
        )
        self._exclude(read(request.negative_prompt or ""))
        self.hints = self._heard(self.appearance if self.persona else self.prompt)
        self.leaned: dict[str, list[str]] = {}

    def settle(self) -> Settlement:
        for source, reading in enumerate(self._readings()):
            self.result.ignored += [(source, at, text) for at, text in reading.ignored]
        look = self._checked_look()
        for attribute in self.words.identity:
            self._settle_trait(attribute, look)
        for attribute in self.words.scene:
            self._settle_scene(attribute)
        self._report_hints()
        values = self.result.values
        self.result.values = {a: values[a] for a in self.words.values if a in values}
        return self.result

    def _readings(self) -> tuple[Reading, Reading]:
        return self.prompt, self.appearance

    def _checked_look(self) -> dict[str, str]:
        look = {}
        for attribute, value in self.request.look.items():
            known = attribute in self.words.identity and value in self.words.values[attribute]
            if known:
                look[str(attribute)] = str(value)
            else:
                self.result.ignored.append((2, 0, f"look {attribute}: {value}".lower()[:80]))
        return look

    def _meant(self, reading: Reading, source: int) -> dict[str, list[Finding]]:
        """Sort findings by attribute, best first; turn denials into what they leave."""
        found: dict[str, list[Finding]] = {}
        denied: dict[str, list[Finding]] = {}
        for finding in reading.findings:
            (denied if finding.negated else found).setdefault(finding.attribute, []).append(finding)
        for attribute, findings in denied.items():
            for finding in findings:
                self._deny(finding, found.setdefault(attribute, []), source)
        for attribute, findings in found.items():
            by_place = attribute == "clothes"  # of several garments the first, "kimono" or not
            findings.sort(key=lambda f: (f.negated, not (f.exact or by_place), f.position))
        self._match_colour(found, source)
        return found

    def _match_colour(self, found: dict[str, list[Finding]], source: int) -> None:
        """Keep the colours of the garment that is worn, not those of another."""
        worn = found.get("clothes")
        if worn and "clothes_colour" in found:
            ours = [f for f in found["clothes_colour"] if f.noun in (-1, worn[0].position)]
            others = [f for f in found.pop("clothes_colour") if f not in ours]
            self.result.ignored += [(source, f.position, f.phrase) for f in others]
            self.told |= {(source, f.noun) for f in others}
            if ours:
                found["clothes_colour"] = ours

    def _deny(self, finding: Finding, found: list[Finding], source: int) -> None:
        attribute, value = finding.attribute, finding.value
        left, exact = _NOT_SAID.get(attribute, ""), True
        if attribute == "expression":
            left, exact = self.words.instead[value], False
        if left:
            kept = (left, finding.phrase, finding.phrase, exact, True, finding.position)
            found.append(Finding(attribute, *kept))
        else:
            if source or self._free(attribute):
                self.result.excluded.setdefault(attribute, set()).add(value)
            self.result.ignored.append((source, finding.position, finding.phrase))

    def _exclude(self, unwanted: Reading) -> None:
        """Keep what the negative prompt names from being drawn."""
        for finding in unwanted.findings:
            if self._free(finding.attribute) and not finding.negated:
                self.result.excluded.setdefault(finding.attribute, set()).add(finding.value)

    def _free(self, attribute: str) -> bool:
        """Tell whether the words of one picture may decide an attribute."""
        return attribute in self.words.scene or not self.persona

    def _heard(self, reading: Reading) -> dict[str, str]:
        """Note which hints may lean the drawing: of woman and man, the first."""
        heard: dict[str, str] = {}
        for _, name, text in reading.hints:
            heard.setdefault(name, text)
        if "woman" in heard and "man" in heard:
            order = list(heard)
            del heard[max(("woman", "man"), key=order.index)]
        return heard

    def _settle_trait(self, attribute: str, look: Mapping[str, str]) -> None:
        prompt, appearance = (found.get(attribute, ()) for found in self.found)
        if attribute in look:
            self._put(attribute, look[attribute])
            self._overrule(attribute, prompt, appearance)
        elif self.persona and appearance:
            self._say(attribute, appearance[0])
            self._overrule(attribute, prompt, appearance)
        elif self.persona:
            self._put(attribute, self._drawn(attribute, self.persona))
            self._overrule(attribute, prompt)
        elif prompt:
            self._say(attribute, prompt[0])
            self._leave_out(attribute, 0, prompt)
        elif value := self._hinted(attribute):
            self._put(attribute, value)
        if attribute in self.result.values:
            self.result.look[attribute] = self.result.values[attribute]

    def _settle_scene(self, attribute: str) -> None:
        prompt, appearance = (found.get(attribute, ()) for found in self.found)
        if prompt:
            self._say(attribute, prompt[0])
            self._leave_out(attribute, 0, prompt)
            self._overrule(attribute, appearance)
        elif appearance:
            self._say(attribute, appearance[0])
            self._leave_out(attribute, 1, appearance)
        elif self.persona:
            seed = (self.request.seed,) if attribute == "background" else ()
            self._put(attribute, self._drawn(attribute, self.persona, *seed))
        elif attribute == "clothes" and any(f.get("clothes_colour") for f in self.found):
            self._put(attribute, self._drawn(attribute, self.request.seed))  # a colour needs one

    def _put(self, attribute: str, value: str) -> None:
        self.result.values[attribute] = value

    def _say(self, attribute: str, finding: Finding) -> None:
        self._put(attribute, finding.value)
        self.result.said[attribute] = finding
        if finding.exact:
            self.result.understood[attribute] = finding.value
            return
        near, word = self.result.approximated, finding.word
        if near.get(word, finding.value) != finding.value and word != finding.phrase:
            word = finding.phrase  # "gold hair" is not "gold"
        said = [value for value in (near.get(word), finding.value) if value]
        near[word] = ", ".join(dict.fromkeys(said))

    def _overrule(self, attribute: str, *sources: Sequence[Finding]) -> None:
        kept = self.result.values[attribute]
        for finding in (finding for findings in sources for finding in findings):
            if finding.value != kept:
                self.result.overruled.setdefault(finding.phrase, kept)
            elif finding.exact:
                self.result.understood.setdefault(attribute, kept)
            else:
                self.result.approximated.setdefault(finding.word, kept)

    def _leave_out(self, attribute: str, source: int, findings: Sequence[Finding]) -> None:
        """Report the words that lost against better ones of the same text."""
        kept = self.result.values[attribute]
        for finding in findings:
            if finding.value != kept and (source, finding.position) not in self.told:
                self.result.ignored.append((source, finding.position, finding.phrase))

    def _hinted(self, attribute: str) -> str:
        for name, text in self.hints.items():
            if value := self.words.hints[name].sets.get(attribute):
                self.leaned.setdefault(text, []).append(value)
                return value
        return ""

    def _drawn(self, attribute: str, *parts: object) -> str:
        if value := self._hinted(attribute):
            return value
        weights = self.words.weights[attribute]
        leaning = next((n for n in self.hints if attribute in self.words.hints[n].weights), None)
        if leaning:
            weights = self.words.hints[leaning].weights[attribute]
        weights = without(weights, self.result.excluded.get(attribute, ()))
        value = draw(weights, "gator-portrait", attribute, *parts)
        self.result.drawn[attribute] = value
        if leaning:
            self.leaned.setdefault(self.hints[leaning], []).append(value)
        return value

    def _report_hints(self) -> None:
        for text, values in self.leaned.items():
            self.result.approximated.setdefault(text, ", ".join(values))
        for source, reading in enumerate(self._readings()):
            self.result.ignored += [
                (source, at, text)
                for at, _, text in reading.hints
                if text not in self.leaned and text not in self.words.stop
            ]
