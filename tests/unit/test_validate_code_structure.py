"""The structure check passes on this tree, and names what is broken in a copy of it."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = "validate_code_structure.py"
COPIED = ("src", "tests/unit", SCRIPT, "pyproject.toml", "migrate_add_base_image_status.py")

PERSONA = "src/backend/models/persona.py"
AI_MODELS = "src/backend/services/ai_models.py"
TEMPLATES = "src/backend/services/template_service.py"
CONTENT = "src/backend/services/content_generation_service.py"


def load() -> ModuleType:
    """Import the script as a module."""
    spec = importlib.util.spec_from_file_location("validate_code_structure", ROOT / SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


validate = load()


def run(root: Path) -> subprocess.CompletedProcess[str]:
    """Run the tree's own script as a user does."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, SCRIPT], cwd=root, env=environment, capture_output=True, text=True
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of everything that the script looks at, without weights and caches."""
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.pyc")
    for name in COPIED:
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=ignored)
        else:
            shutil.copy2(source, target)
    return tmp_path


def edit(root: Path, path: str, old: str, new: str) -> None:
    """Replace a text that must be there."""
    text = (root / path).read_text("utf-8")
    assert old in text, f"{old!r} is no longer in {path}"
    (root / path).write_text(text.replace(old, new), "utf-8")


def faults(root: Path, *checks: str) -> str:
    """Run some checks on a tree and join what they find."""
    return "\n".join(
        fault
        for name in checks
        for fault in validate.faults_of(getattr(validate, f"check_{name}"), root)
    )


def test_this_tree_holds() -> None:
    done = run(ROOT)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("The contract holds.\n")
    assert "MISSING" not in done.stdout


def test_a_tree_with_several_faults_names_each_and_exits_1(tree: Path) -> None:
    edit(tree, PERSONA, 'REJECTED = "rejected"', 'REJECTED = "refused"')
    edit(tree, PERSONA, "String(20),\n        index=True,", "String(40),")
    edit(tree, TEMPLATES, "def _customize_template(", "def _adapt_template(")
    (tree / "tests/unit/test_template_service.py").write_text("def test_one() -> None: ...\n")
    (tree / "migrate_add_base_image_status.py").unlink()
    with (tree / "src/backend/services/persona_service.py").open("a", encoding="utf-8") as file:
        file.write("import fastapi\n")

    done = run(tree)

    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr == ""
    for words in (
        "'REJECTED': 'refused'",
        "base_image_status type is 'VARCHAR(40)', not 'VARCHAR(20)'",
        "base_image_status index is False, not True",
        "TemplateService has no method _customize_template",
        "tests/unit/test_template_service.py has 1 cases, under 30",
        "migrate_add_base_image_status.py does not exist",
        "HTTP stays at the edge BROKEN",
    ):
        assert words in done.stdout
    assert "ok       delegation of captions" in done.stdout


@pytest.mark.parametrize(
    ("path", "old", "new", "named"),
    [
        (
            AI_MODELS,
            "def generate_images_batch(",
            "def generate_batch(",
            "AIModelManager has no method generate_images_batch",
        ),
        (
            AI_MODELS,
            "async def generate_image(",
            "def generate_image(",
            "AIModelManager has `def generate_image(",
        ),
        (
            AI_MODELS,
            "device_id: int, **kwargs",
            "card: int, **kwargs",
            "not `async def _generate_image_on_device(self, prompt: str, model: Dict[str, Any]",
        ),
        (AI_MODELS, "class AIModelManager", "class Manager", "there is no class AIModelManager"),
        (AI_MODELS, "self.available_models", "self.models", "has no available_models"),
        (
            TEMPLATES,
            "self, personality_traits",
            "self, traits",
            "TemplateService has `def _determine_content_style(self, traits",
        ),
        (
            TEMPLATES,
            "def __init__(self, library: Library | None = None)",
            "def __init__(self, packs, *, seed)",
            "TemplateService() needs packs, a keyword",
        ),
        (CONTENT, "content_rating=request", "rating=request", "does more, or other, than"),
        (CONTENT, "self.template_service", "self.templates", "has no template_service"),
        (
            CONTENT,
            "from backend.services.template_service import",
            "from backend.services.templates_service import",
            "does not import TemplateService from its module",
        ),
        (CONTENT, "    content_rating:", "    rating:", "GenerationRequest has no content_rating"),
        (PERSONA, "class PersonaUpdate", "class PersonaPatch", "there is no class PersonaUpdate"),
        (PERSONA, "class PersonaUpdate", "class (", "does not parse"),
    ],
)
def test_a_broken_name_or_signature_is_named(
    tree: Path, path: str, old: str, new: str, named: str
) -> None:
    edit(tree, path, old, new)

    assert named in faults(tree, "classes", "no_arguments", "delegation")


def test_a_delegation_that_grew_is_named(tree: Path) -> None:
    edit(tree, CONTENT, "return self.template_service", "pass\n" * 14 + "        return self.x")
    source = (tree / CONTENT).read_text("utf-8").replace("\npass", "\n        pass")
    (tree / CONTENT).write_text(source, "utf-8")

    found = faults(tree, "delegation")
    assert "lines, over 13" in found
    assert "does more, or other" in found


def test_a_second_history_of_migrations_is_named(tree: Path) -> None:
    versions = tree / validate.REVISIONS
    (versions / "9999_other.py").write_text('revision = "other"\ndown_revision = None\n')

    assert "there is not one history" in faults(tree, "migration")


def test_a_missing_file_is_named_by_every_check_that_needs_it(tree: Path) -> None:
    (tree / CONTENT).unlink()

    assert f"{CONTENT} does not exist" in faults(tree, "classes")
    assert f"{CONTENT} does not exist" in faults(tree, "delegation")


@pytest.mark.parametrize(
    ("found", "fits"),
    [
        ("async def f(self, a: List[str], b=None, **kwargs) -> Dict[str, Any]", True),
        ("async def f(self, a: list[str], b=None, **kw: Any) -> dict[str, Any]", True),
        ("async def f(self, a: list[str], b=None, *, c: int = 1, **kw) -> dict[str, Any]", True),
        ("async def f(self, a: list[str], b=None, *, c: int, **kw) -> dict[str, Any]", False),
        ("async def f(self, a: list[str], b=1, **kw) -> dict[str, Any]", False),
        ("async def f(self, a: list[str], b=None) -> dict[str, Any]", False),
        ("async def f(self, b=None, a: list[str] = (), **kw) -> dict[str, Any]", False),
        ("async def f(self, a: list[int], b=None, **kw) -> dict[str, Any]", False),
        ("async def f(self, a: list[str], b=None, **kw)", False),
        ("def f(self, a: list[str], b=None, **kw) -> dict[str, Any]", False),
    ],
)
def test_signatures_are_compared_by_meaning(found: str, fits: bool) -> None:
    wanted = "async def f(self, a: List[str], b=None, **kwargs) -> Dict[str, Any]"
    function = [ast.parse(f"{text}: ...").body[0] for text in (wanted, found)]

    assert validate.signature_fits(*function) is fits


@pytest.mark.parametrize(
    ("source", "cases"),
    [
        ("def test_a(): ...\nasync def test_b(): ...\ndef helper(): ...", 2),
        ("class TestX:\n    def test_a(self): ...", 1),
        ("@pytest.mark.parametrize('a', [1, 2, 3])\ndef test_a(a): ...", 3),
        ("@p.parametrize('a', (1, 2))\n@p.parametrize('b', [1, 2])\ndef test_a(a, b): ...", 4),
        ("CASES = [1, 2]\n@pytest.mark.parametrize('a', CASES)\ndef test_a(a): ...", 2),
        ("@pytest.mark.parametrize('a', made())\ndef test_a(a): ...", 1),
        ("@pytest.mark.slow\ndef test_a(): ...", 1),
    ],
)
def test_cases_are_counted(source: str, cases: int) -> None:
    assert validate.cases_in(ast.parse(source)) == cases
