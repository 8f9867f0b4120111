"""Build the tokenizer: a standard fast tokenizer whose normaliser reads portrait phrases.

"long-wavy spiky red hair" becomes HAIR_RED REAR_LONG_WAVY FRONT_SPIKY: a colour is bound to the
noun it describes before the text encoder sees it, so "red hair" and "red jacket" share nothing and
a small model need not learn syntax. Words outside the vocabulary are dropped.
"""

from pathlib import Path

from portraits import ATTRIBUTES, token_name
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

MAX_LENGTH = 16
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")

_HAIR_WORDS = (
    r"(?:long|short|neck|shoulder|length|straight|wavy|side|combed|swept|spiky|spiked|"
    r"undercut|bun|bob|and|with|curly|thick|HAIR_[A-Z]+)"
)
_GARMENT = r"(?:dress|jacket|shirt|t-shirt|turtleneck)"
_BETWEEN_HAIR = rf"(?=(?:[ -]+{_HAIR_WORDS})*[ -]+hair\b)"
_BETWEEN_GARMENT = rf"(?= {_GARMENT}\b)"
_BETWEEN_BACKGROUND = r"(?=(?: (?:plain|flat|studio|solid))* background\b)"

# Other ways to say it, rewritten first. A comma ends a phrase.
SYNONYMS = (
    (r"[.;:!?()\[\]\"/]", " , "),
    (r",", " , "),
    (r"\s+", " "),
    (r"\bgray\b", "grey"),
    (r"[- ]haired\b", " hair"),
    (r"[- ]skinned\b", " skin"),
    (r"\b(?:sweater|jumper|polo[- ]neck|roll[- ]neck)\b", "turtleneck"),
    (r"\b(?:suit|coat|blazer|cardigan)\b", "jacket"),
    (r"\bblouse\b", "shirt"),
    (r"\b(?:t shirt|tshirt|tee)\b", "t-shirt"),
    (r"\b(?:gown|sundress)\b", "dress"),
    (r"\bbackdrop\b", "background"),
    (rf"\b(?:blond|golden){_BETWEEN_HAIR}", "blonde"),
    (rf"\b(?:ginger|auburn|copper|orange){_BETWEEN_HAIR}", "red"),
    (rf"\b(?:silver|white){_BETWEEN_HAIR}", "grey"),
    (rf"\bdark{_BETWEEN_HAIR}", "black"),
    (r"\b(?:light|fair|white)(?= skin\b)", "pale"),
    (r"\b(?:olive|tanned)(?= skin\b)", "tan"),
    (r"\bblack(?= skin\b)", "dark"),
)
# What binds the words of one attribute value, beyond its own name.
_PHRASES = {
    "front": {
        "bun": r"\bbun\b",
        "side-combed": r"\bside[- ](?:combed|swept|parted)\b",
        "spiky": r"\bspik(?:y|ed)\b",
        "undercut": r"\bundercut\b",
    },
    "beard": {
        "clean-shaven": r"\bclean[- ]shaven\b|\b(?:no|without(?: a)?) beard\b",
        "long-beard": r"\blong[- ]beard\b",
        "goatee": r"\bgoatee\b",
        "full-beard": r"\b(?:full[- ])?beard(?:ed)?\b",
        "moustache": r"\bm(?:o)?ustache\b",
    },
    "glasses": {"glasses": r"\b(?:glasses|spectacles|eyeglasses)\b"},
    "expression": {
        "smiling": r"\b(?:smiling|smile|happy|friendly)\b",
        "laughing": r"\b(?:laughing|laugh|joyful)\b",
        "sad": r"\b(?:sad|melancholic|crying)\b",
        "angry": r"\b(?:angry|furious|stern)\b",
        "surprised": r"\b(?:surprised|astonished|shocked)\b",
        "winking": r"\b(?:winking|wink)\b",
    },
}


def _phrase(attribute: str, value: str) -> str:
    if attribute in ("hair", "skin", "clothes_colour", "background"):
        after = {
            "hair": _BETWEEN_HAIR,
            "skin": r"(?= skin\b)",
            "clothes_colour": _BETWEEN_GARMENT,
            "background": _BETWEEN_BACKGROUND,
        }[attribute]
        return rf"\b{value}{after}"
    if attribute == "rear":
        spoken = value.replace("-", "[- ]")
        if value == "short":
            return rf"\bshort{_BETWEEN_HAIR}"
        if value == "long-straight":  # the plainest reading of "long hair"
            return rf"\b{spoken}\b|\b(?:long|straight){_BETWEEN_HAIR}"
        if value == "long-wavy":
            return rf"\b{spoken}\b|\b(?:wavy|curly){_BETWEEN_HAIR}"
        if value == "neck-length":
            return rf"\b{spoken}\b|\bbob\b"
        return rf"\b{spoken}\b"
    return _PHRASES.get(attribute, {}).get(value, rf"\b{value}\b")


def rules() -> list[tuple[str, str]]:
    """List the rewrites in order: synonyms, then attribute phrases, then the rest dropped."""
    # "hair" and its adjectives are looked at by the colours, so the colours go first.
    order = (
        "hair",
        "skin",
        "clothes_colour",
        "background",
        "rear",
        "front",
        "beard",
        "glasses",
        "expression",
        "clothes",
    )
    found = list(SYNONYMS)
    for attribute in order:
        values = list(ATTRIBUTES[attribute])
        if attribute == "rear":  # "long wavy" before the bare "long"
            values = ["long-wavy", "shoulder-length", "neck-length", "long-straight", "short"]
        if attribute == "beard":  # "long beard" and "no beard" before the bare "beard"
            values = ["clean-shaven", "long-beard", "full-beard", "goatee", "moustache"]
        if attribute == "clothes":  # "t-shirt" before "shirt"
            values = ["t-shirt", "shirt", "dress", "jacket", "turtleneck"]
        if attribute == "glasses":
            values = ["glasses"]
        found += [(_phrase(attribute, v), f" {token_name(attribute, v)} ") for v in values]
    found.append((r"[^A-Z_ ]+", " "))
    found.append((r"(?<![A-Z_])_+|\s+", " "))
    return found


def vocabulary() -> dict[str, int]:
    names = [
        token_name(a, v)
        for a, table in ATTRIBUTES.items()
        for v in table
        if (a, v) != ("glasses", "none")
    ]
    return {token: index for index, token in enumerate((*SPECIAL, *names))}


def build_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel(vocabulary(), unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Lowercase(),
            *(normalizers.Replace(Regex(pattern), text) for pattern, text in rules()),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_LENGTH,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )


def save_tokenizer(folder: Path) -> None:
    """Save under the class name that transformers 4 and 5 both know."""
    build_tokenizer().save_pretrained(folder)
    config = folder / "tokenizer_config.json"
    config.write_text(config.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))
