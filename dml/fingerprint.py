"""A hash of code that tells when a result could have changed, so that a cache knows what it may reuse."""

import ast
import hashlib
from functools import cache, lru_cache
from pathlib import Path

PACKAGE = Path(__file__).parent


@lru_cache
def fingerprint(modules: tuple[str, ...]) -> str:
    """A hash of what modules of this package ("arms.outputs") define: the *set* of their top-level statements.

    It is blind to comments, docstrings and layout, to import lines, and to which module a statement stands in: a move
    of code computes nothing again.
    """
    files = (PACKAGE / f"{name.replace('.', '/')}.py" for name in modules)
    statements = (statement for file in files for statement in _statements(file.read_text(encoding="utf-8")))
    return hashlib.sha256("\n".join(sorted(statements)).encode()).hexdigest()


@cache  # each set of modules asks for most of the same ones
def _statements(source: str) -> tuple[str, ...]:
    return tuple(
        ast.dump(node)
        for node in _Bare().visit(ast.parse(source)).body
        if not (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__")
    )


class _Bare(ast.NodeTransformer):
    """Takes import lines and docstrings out of a tree."""

    def visit_Import(self, node: ast.Import) -> None:
        return None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        return None

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
        return super().generic_visit(node)
