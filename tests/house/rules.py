"""What the house forbids, as functions from a source text to sentences."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import PurePath

from tests.house.tree import STAGES

MAX_LINES = 400
NAMELESS = {"util", "utils", "helper", "helpers", "common", "base", "manager", "managers", "misc"}
LOOSE_ENDS = {
    "asyncio": "waits",
    "threading": "waits",
    "concurrent": "waits",
    "subprocess": "starts processes",
    "socket": "opens sockets",
    "ssl": "opens sockets",
    "selectors": "opens sockets",
    "http": "opens sockets",
    "aiohttp": "opens sockets",
    "websockets": "opens sockets",
    "requests": "opens sockets",
    "aiokafka": "opens sockets",
    "clickhouse_connect": "opens sockets",
    "time": "reads a clock",
    "random": "is different each time",
    "secrets": "is different each time",
}
CLOCKS = {"now", "utcnow", "today"}
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}
MACHINE = re.compile(
    r"(?<![\w.])/(?:root|work)/|/home/(?!cexdex)\w|/Users/\w|--(?:extra-)?index-url|--find-links|--trusted-host|\bindex-url\s*="
    r"|https?://\S+/simple/?(?:\s|$)"
)
REQUIREMENT = re.compile(r"^(?:[a-z0-9._-]+==\S+(?: ; .+?)? \\|    --hash=sha256:[0-9a-f]{64}(?: \\)?)$")


def may_wait(module: str) -> bool:
    """Whether a module may await, open sockets and read clocks; every other one is told what happened and when."""
    names = module.split(".")
    return (
        "runner" in names[1:]
        or names[0] in ("embedded", "simulator", "api")
        or bool(re.match(r"cexdex\.(runtime|cli|__main__)", module))
    )


def may_read_environment(module: str) -> bool:
    return may_wait(module) or module == "cexdex.config"


def impurities(source: str) -> Iterator[str]:
    """Every place where a module awaits, opens a socket, reads a clock or is different each time."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await):
            yield f"line {node.lineno}: awaits"
        elif isinstance(node, ast.comprehension) and node.is_async:
            yield f"line {node.target.lineno}: awaits"
        elif isinstance(node, ast.Attribute) and node.attr in CLOCKS and _is_dated(node.value):
            yield f"line {node.lineno}: {ast.unparse(node)} reads a clock"
        for line, name in _imports(node):
            if why := LOOSE_ENDS.get(name.split(".")[0]):
                yield f"line {line}: {name} {why}"
            elif name == "urllib.request" or name.startswith("urllib.request."):
                yield f"line {line}: {name} opens sockets"


def environment_reads(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT and _named(node.value, "os"):
            yield f"line {node.lineno}: {ast.unparse(node)} reads the environment"
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (
                f"line {node.lineno}: os.{n.name} reads the environment"
                for n in node.names
                if n.name in ENVIRONMENT
            )


def stage_imports(source: str) -> Iterator[str]:
    """Every import of a stage: only the command line may know them."""
    for node in ast.walk(ast.parse(source)):
        for line, name in _imports(node):
            if name.split(".")[0] in STAGES:
                yield f"line {line}: imports {name}"


def imports_of(source: str, forbidden: set[str]) -> Iterator[str]:
    """Every import of one of these modules or of something inside one."""
    for node in ast.walk(ast.parse(source)):
        for line, name in _imports(node):
            if any(name == module or name.startswith(f"{module}.") for module in forbidden):
                yield f"line {line}: imports {name}"


def has_assignment(source: str, name: str) -> bool:
    """Whether a module assigns this name at its top."""
    return any(
        isinstance(node, ast.Assign) and any(_named(target, name) for target in node.targets)
        for node in ast.parse(source).body
    )


def bad_name(path: PurePath) -> str | None:
    words = set(re.split(r"[_.]", path.name.lower().removesuffix(".py")))
    if path.suffix == ".py" and words & NAMELESS:
        return f"{path}: say what is in it; a word of the glossary is a name"
    return None


def too_long(path: PurePath, source: str) -> str | None:
    lines = source.count("\n")
    return f"{path}: {lines} lines, more than {MAX_LINES}" if lines > MAX_LINES else None


def machine_traces(text: str) -> Iterator[str]:
    """Every path of somebody's machine and every line that says where packages come from."""
    for number, line in enumerate(text.splitlines(), 1):
        if found := MACHINE.search(line):
            yield f"line {number}: {found.group().strip()}"


def unhashed(requirements: str) -> Iterator[str]:
    """Every line of a requirements file that is not a pinned version or its hash."""
    for number, line in enumerate(requirements.splitlines(), 1):
        if not REQUIREMENT.match(line):
            yield f"line {number}: {line}"


def _imports(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Import):
        yield from ((node.lineno, each.name) for each in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield from ((node.lineno, f"{node.module}.{each.name}") for each in node.names)
    elif isinstance(node, ast.Call) and _called(node.func) in ("import_module", "__import__") and node.args:
        name = node.args[0]
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            yield node.lineno, name.value


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _is_dated(value: ast.expr) -> bool:
    return any(_named(value, name) for name in ("datetime", "date")) or (
        isinstance(value, ast.Attribute) and value.attr in ("datetime", "date")
    )


def _named(value: ast.expr, name: str) -> bool:
    return isinstance(value, ast.Name) and value.id == name
