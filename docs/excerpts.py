"""Code on the pages is the code of the product: `<!-- excerpt: FILE NAME -->` before a block is filled with its source.

NAME is a class, function or assignment, `Class.method`, or `*` for the whole file.

python -m docs.excerpts          fills the blocks
python -m docs.excerpts --check  only says which are out of date, and then ends with 1
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(
    r"^(?P<mark><!-- excerpt: (?P<file>\S+) (?P<name>\S+) -->\n```(?P<kind>\w*)\n)(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def main(arguments: list[str]) -> int:
    old = [
        page for page in sorted((ROOT / "docs").glob("*.md")) if filled(page.read_text()) != page.read_text()
    ]
    for page in old:
        if "--check" in arguments:
            print(f"{page.relative_to(ROOT)} shows old code: python -m docs.excerpts", file=sys.stderr)
        else:
            page.write_text(filled(page.read_text()), encoding="utf-8")
            print(f"wrote {page.relative_to(ROOT)}")
    return 1 if old and "--check" in arguments else 0


def filled(page: str) -> str:
    """The page with every excerpt as its file has it now. KeyError names what is not in the file."""
    return BLOCK.sub(
        lambda found: f"{found['mark']}{source_of(ROOT / found['file'], found['name'])}```", page
    )


def source_of(file: Path, name: str) -> str:
    """The source of one thing in a file, with its decorators, and not indented."""
    text = file.read_text(encoding="utf-8")
    if name == "*":
        return text
    node: ast.AST = ast.parse(text)
    for part in name.split("."):
        node = _inside(node, part, file)
    assert isinstance(node, ast.stmt)
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(each.lineno for each in decorators)])
    return textwrap.dedent("".join(text.splitlines(keepends=True)[first - 1 : node.end_lineno]))


def _inside(node: ast.AST, name: str, file: Path) -> ast.stmt:
    for child in getattr(node, "body", []):
        targets = getattr(child, "targets", [getattr(child, "target", None)])
        if getattr(child, "name", None) == name or any(getattr(t, "id", None) == name for t in targets):
            assert isinstance(child, ast.stmt)
            return child
    raise KeyError(f"{file.relative_to(ROOT)} has no {name}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
