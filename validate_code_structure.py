"""Hold the code against its contract: the names, signatures and values that other code relies on.

Classes and functions are read from the source with `ast`, columns and states from what Python
makes of them. It names what is missing and exits 0 only where everything holds.

    python validate_code_structure.py
"""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent

PERSONA = "src/backend/models/persona.py"
AI_MODELS = "src/backend/services/ai_models.py"
TEMPLATES = "src/backend/services/template_service.py"
CONTENT = "src/backend/services/content_generation_service.py"
MIGRATE = "migrate_add_base_image_status.py"
REVISIONS = "src/backend/database/migrations/versions"

STATUSES = {
    "PENDING_UPLOAD": "pending_upload",
    "DRAFT": "draft",
    "APPROVED": "approved",
    "REJECTED": "rejected",
}
CONTRACT = {
    PERSONA: """
class PersonaModel:
    name: str; appearance: str; personality: str; content_themes: list[str]
    style_preferences: dict; base_appearance_description: str; base_image_path: str
    base_image_status: str; appearance_locked: bool
class PersonaCreate:
    base_image_status: str
class PersonaUpdate:
    base_image_status: str
class PersonaResponse:
    base_image_status: str
""",
    AI_MODELS: """
class AIModelManager:
    available_models: dict
    async def generate_image(self, prompt: str, **kwargs) -> dict: ...
    async def generate_images_batch(
        self, prompts: List[str], **kwargs
    ) -> List[Dict[str, Any]]: ...
    async def _generate_image_on_device(
        self, prompt: str, model: Dict[str, Any], device_id: int, **kwargs
    ): ...
    async def _generate_image_local(self, prompt: str, model: dict, **kwargs) -> dict: ...
""",
    TEMPLATES: """
class TemplateService:
    def generate_fallback_text(self, persona, prompt=None, content_rating=None) -> str: ...
    def _determine_content_style(self, personality_traits, aesthetic, voice_style) -> str: ...
    def _generate_appearance_context(self, persona, appearance_desc, aesthetic) -> str: ...
    def _determine_voice_modifiers(self, tone_pref, personality_full) -> list[str]: ...
    def _generate_templates_for_style(
        self, style, themes, appearance_context, voice_modifiers
    ) -> list[str]: ...
    def _select_weighted_template(self, templates, prompt_keywords) -> str: ...
    def _customize_template(self, template, prompt_keywords) -> str: ...
""",
    CONTENT: """
class ContentGenerationService:
    template_service: TemplateService
    async def _create_enhanced_fallback_text(self, persona, request) -> str: ...
class GenerationRequest:
    persona_id: str; content_type: str; content_rating: str; prompt: str
""",
}
DELEGATE = "_create_enhanced_fallback_text"
DELEGATION = (
    "return self.template_service.generate_fallback_text(persona=persona, prompt=request.prompt,"
    " content_rating=request.content_rating.value)"
)
DELEGATION_LINES = 13
CASES = {
    "tests/unit/test_multi_gpu_generation.py": 8,
    "tests/unit/test_template_service.py": 30,
}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Check = Callable[[Path], Iterator[str]]


class Missing(Exception):
    """Something that a check needs is not there; the message names it."""


def parsed(root: Path, path: str) -> ast.Module:
    """Parse a file of the tree."""
    try:
        return ast.parse((root / path).read_text("utf-8"))
    except FileNotFoundError as exc:
        raise Missing(f"{path} does not exist") from exc
    except SyntaxError as exc:
        raise Missing(f"{path} does not parse: {exc}") from exc


def class_of(root: Path, path: str, name: str) -> ast.ClassDef:
    """Find a class at the top of a module."""
    for node in parsed(root, path).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
    raise Missing(f"{path}: there is no class {name}")


def methods_of(owner: ast.ClassDef) -> dict[str, Function]:
    """Name the methods that stand in a class's own body."""
    return {node.name: node for node in owner.body if isinstance(node, Function)}


def attributes_of(owner: ast.ClassDef) -> set[str]:
    """Name what a class has: assigned in its body or to `self`, or a property."""
    names = {name for name, method in methods_of(owner).items() if method.decorator_list}
    for node in ast.walk(owner):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            names |= {ast.unparse(target).removeprefix("self.") for target in targets}
    return names


def annotation_fits(wanted: ast.expr | None, found: ast.expr | None) -> bool:
    """Tell whether an annotation is the contract's; a bare `dict` may say more than `dict`."""
    if wanted is None or found is None:
        return wanted is None
    want, have = (
        ast.unparse(node).replace("List[", "list[").replace("Dict[", "dict[").replace("typing.", "")
        for node in (wanted, found)
    )
    return have == want or have.startswith(f"{want}[")


def positional(function: Function) -> list[tuple[str, str | None]]:
    """List the parameters that go by place, each with its default."""
    arguments = [*function.args.posonlyargs, *function.args.args]
    defaults = [None] * (len(arguments) - len(function.args.defaults)) + [
        ast.unparse(default) for default in function.args.defaults
    ]
    named = [(a.arg, default) for a, default in zip(arguments, defaults, strict=True)]
    return named[1:] if named and named[0][0] in ("self", "cls") else named


def shown(function: Function) -> str:
    """Write a signature for a message."""
    start = "async def" if isinstance(function, ast.AsyncFunctionDef) else "def"
    returns = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    return f"{start} {function.name}({ast.unparse(function.args)}){returns}"


def signature_fits(wanted: Function, found: Function) -> bool:
    """Tell whether a method is the contract's; keyword-only extras with defaults are allowed."""
    if type(wanted) is not type(found) or positional(wanted) != positional(found):
        return False
    if bool(wanted.args.kwarg) and not found.args.kwarg:
        return False
    if found.args.vararg or None in found.args.kw_defaults:
        return False
    hints = {a.arg: a.annotation for a in [*found.args.posonlyargs, *found.args.args]}
    return annotation_fits(wanted.returns, found.returns) and all(
        annotation_fits(argument.annotation, hints.get(argument.arg))
        for argument in wanted.args.args
    )


def check_classes(root: Path) -> Iterator[str]:
    """Every fixed class has its attributes, and its methods with their parameters in order."""
    for path, stub in CONTRACT.items():
        for contract in ast.parse(stub).body:
            if isinstance(contract, ast.ClassDef):
                try:
                    owner = class_of(root, path, contract.name)
                except Missing as missing:
                    yield str(missing)
                else:
                    yield from (f"{path}: {fault}" for fault in class_faults(contract, owner))


def class_faults(contract: ast.ClassDef, owner: ast.ClassDef) -> Iterator[str]:
    """Compare a class with what the contract says of it."""
    methods = methods_of(owner)
    for name in sorted(attributes_of(contract) - attributes_of(owner)):
        yield f"{owner.name} has no {name}"
    for name, wanted in methods_of(contract).items():
        found = methods.get(name)
        if found is None:
            yield f"{owner.name} has no method {name}"
        elif not signature_fits(wanted, found):
            yield f"{owner.name} has `{shown(found)}`, not `{shown(wanted)}`"


def check_devices(root: Path) -> Iterator[str]:
    """The manager's way to diffusers can be told the device."""
    method = "_generate_image_diffusers"
    found = methods_of(class_of(root, AI_MODELS, "AIModelManager")).get(method)
    if not isinstance(found, ast.AsyncFunctionDef):
        yield f"{AI_MODELS}: AIModelManager has no async {method}"
    elif "device_id" not in {n.arg for n in ast.walk(found.args) if isinstance(n, ast.arg)}:
        yield f"{AI_MODELS}: {method} does not take device_id"


def check_no_arguments(root: Path) -> Iterator[str]:
    """`AIModelManager()` and `TemplateService()` need no argument."""
    for path, name in ((AI_MODELS, "AIModelManager"), (TEMPLATES, "TemplateService")):
        init = methods_of(class_of(root, path, name)).get("__init__")
        needed = [n for n, default in positional(init) if default is None] if init else []
        if init and None in init.args.kw_defaults:
            needed.append("a keyword")
        if needed:
            yield f"{path}: {name}() needs {', '.join(needed)}"


def check_delegation(root: Path) -> Iterator[str]:
    """The content service hands its fallback to the template service and does nothing else."""
    imported = {
        f"{node.module}.{alias.name}"
        for node in parsed(root, CONTENT).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    if "backend.services.template_service.TemplateService" not in imported:
        yield f"{CONTENT}: does not import TemplateService from its module"
    method = methods_of(class_of(root, CONTENT, "ContentGenerationService")).get(DELEGATE)
    if method:
        lines = (method.end_lineno or method.lineno) - method.lineno + 1
        body = method.body[1:] if ast.get_docstring(method) is not None else method.body
        if lines > DELEGATION_LINES:
            yield f"{CONTENT}: {DELEGATE} has {lines} lines, over {DELEGATION_LINES}"
        if [ast.unparse(statement) for statement in body] != [DELEGATION]:
            yield f"{CONTENT}: {DELEGATE} does more, or other, than `{DELEGATION}`"


def persona_class(root: Path, name: str) -> Any:
    """Import this tree's persona module and find a class in it."""
    try:
        module = importlib.import_module("backend.models.persona")
    except (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError) as exc:
        raise Missing(f"{PERSONA} does not import: {exc}") from exc
    if not Path(str(module.__file__)).is_relative_to(root):
        raise Missing(f"{PERSONA} is shadowed by {module.__file__}")
    if not hasattr(module, name):
        raise Missing(f"{PERSONA}: there is no {name}")
    return getattr(module, name)


def check_statuses(root: Path) -> Iterator[str]:
    """The base image has exactly its four states."""
    status = persona_class(root, "BaseImageStatus")
    found = {name: member.value for name, member in status.__members__.items()}
    if found != STATUSES or not issubclass(status, str):
        yield f"{PERSONA}: BaseImageStatus is {found}, not str values {STATUSES}"


def check_columns(root: Path) -> Iterator[str]:
    """The status is a VARCHAR(20), not null, indexed, pending by default on both sides."""
    columns = persona_class(root, "PersonaModel").__table__.columns
    status, locked = columns.get("base_image_status"), columns.get("appearance_locked")
    if status is None or locked is None:
        raise Missing(f"{PERSONA}: base_image_status or appearance_locked is no column")
    default = getattr(status.default, "arg", None)
    server = str(getattr(status.server_default, "arg", None)).strip("'")
    facts = {
        "base_image_status type": (str(status.type), "VARCHAR(20)"),
        "base_image_status nullable": (status.nullable, False),
        "base_image_status index": (bool(status.index), True),
        "base_image_status default": (getattr(default, "value", default), "pending_upload"),
        "base_image_status server default": (server, "pending_upload"),
        "appearance_locked default": (getattr(locked.default, "arg", None), False),
    }
    for fact, (found, wanted) in facts.items():
        if found != wanted:
            yield f"{PERSONA}: {fact} is {found!r}, not {wanted!r}"


def check_migration(root: Path) -> Iterator[str]:
    """The migration's door is there, and behind it one history with one head."""
    if not (root / MIGRATE).is_file():
        yield f"{MIGRATE} does not exist"
    files = (str(path.relative_to(root)) for path in sorted((root / REVISIONS).glob("*.py")))
    named = [constants(parsed(root, path)) for path in files]
    history = {
        ast.literal_eval(values["revision"]): ast.literal_eval(values["down_revision"])
        for values in named
        if {"revision", "down_revision"} <= values.keys()
    }
    heads = sorted(set(history) - set(history.values()))
    roots = [revision for revision, parent in history.items() if parent is None]
    if len(heads) != 1 or len(roots) != 1:
        yield f"{REVISIONS}: there is not one history; heads: {heads}, roots: {roots}"


def constants(module: ast.Module) -> dict[str, ast.expr]:
    """Map the names that a module assigns to what they are given."""
    found = {}
    for node in module.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            found[ast.unparse(target)] = node.value
    return found


def cases_in(module: ast.Module) -> int:
    """Count test cases: a function each, times its literal parametrisations."""
    named = constants(module)
    return sum(
        cases_of(node, named)
        for node in ast.walk(module)
        if isinstance(node, Function) and node.name.startswith("test_")
    )


def cases_of(function: Function, named: Mapping[str, ast.expr]) -> int:
    """Count the cases of one test function."""
    count = 1
    for mark in function.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func).endswith(".parametrize"):
            values = mark.args[1] if len(mark.args) > 1 else None
            if isinstance(values, ast.Name):
                values = named.get(values.id)
            if isinstance(values, ast.List | ast.Tuple | ast.Set):
                count *= len(values.elts)
    return count


def check_cases(root: Path) -> Iterator[str]:
    """The contract's test files are there with enough cases."""
    for path, least in CASES.items():
        try:
            count = cases_in(parsed(root, path))
        except Missing as missing:
            yield str(missing)
        else:
            if count < least:
                yield f"{path} has {count} cases, under {least}"


def check_imports(root: Path) -> Iterator[str]:
    """The import contracts of pyproject.toml hold."""
    command = "import importlinter.cli as c; raise SystemExit(c.lint_imports(no_logo=True))"
    done = subprocess.run(  # noqa: S603 - our own words and this very interpreter
        [sys.executable, "-c", command],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "src"), "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        broken = [line for line in said if line.endswith("BROKEN") or "not allowed to" in line]
        yield from broken or said[-5:]


CHECKS: Mapping[str, Check] = {
    "classes, attributes and signatures": check_classes,
    "states of a base image": check_statuses,
    "columns of a persona": check_columns,
    "migration": check_migration,
    "device of a diffusers call": check_devices,
    "construction without arguments": check_no_arguments,
    "delegation of captions": check_delegation,
    "test cases": check_cases,
    "import contracts": check_imports,
}


def faults_of(check: Check, root: Path) -> Iterator[str]:
    """Run a check; what it needed and did not find is a fault too."""
    try:
        yield from check(root)
    except Missing as missing:
        yield str(missing)


def main(root: Path = ROOT) -> int:
    """Run every check on the tree, say what holds and name what does not."""
    sys.path.insert(0, str(root / "src"))
    failed = 0
    for name, check in CHECKS.items():
        faults = list(dict.fromkeys(faults_of(check, root)))
        failed += bool(faults)
        sys.stdout.write(f"{'MISSING' if faults else 'ok     '}  {name}\n")
        sys.stdout.writelines(f"         {fault}\n" for fault in faults)
    verdict = f"{failed} of {len(CHECKS)} checks failed." if failed else "The contract holds."
    sys.stdout.write(f"{verdict}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
