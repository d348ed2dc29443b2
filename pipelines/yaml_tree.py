"""YAML with line numbers, so that a mistake in a recipe can be pointed at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

MAX_BYTES = 1 << 20


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names the file, the line, and what is allowed."""


@dataclass(frozen=True)
class Tree:
    """A YAML value with its place: ``value`` is a scalar, a dict of trees or a list of trees."""

    value: Any
    place: str

    def fail(self, message: str) -> RecipeError:
        """An error that points here."""
        return RecipeError(f"{self.place}: {message}")

    def mapping(self, what: str, allowed: Sequence[str] | None = None) -> Mapping[str, Tree]:
        """The value as a mapping; with ``allowed``, only with these keys."""
        if not isinstance(self.value, dict):
            raise self.fail(f"{what} must be a mapping of names to values")
        if allowed is not None:
            for key, child in self.value.items():
                if key not in allowed:
                    raise child.fail(
                        f"unknown key {key!r} in {what}; allowed: {', '.join(sorted(allowed))}"
                    )
        return self.value

    def items(self, what: str) -> Iterator[Tree]:
        """The value as a list."""
        if not isinstance(self.value, list):
            raise self.fail(f"{what} must be a list")
        yield from self.value

    def text(self, what: str) -> str:
        """The value as a string."""
        if not isinstance(self.value, str):
            raise self.fail(f"{what} must be text, not {self.value!r}")
        return self.value

    def number(self, what: str) -> float | int:
        """The value as a number."""
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            raise self.fail(f"{what} must be a number, not {self.value!r}")
        return self.value

    def texts(self, what: str) -> tuple[str, ...]:
        """The value as a list of strings; one string stands for a list of one."""
        if isinstance(self.value, str):
            return (self.value,)
        return tuple(item.text(f"each of {what}") for item in self.items(what))

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value


class _Loader(yaml.SafeLoader):
    """Plain data only."""


def parse(text: str, name: str) -> Tree:
    """Parse one YAML document. Aliases, tags and repeated keys are refused.

    Raises:
      RecipeError: not valid YAML, or larger than a recipe can be.
    """
    if len(text) > MAX_BYTES:
        raise RecipeError(f"{name}: {len(text)} characters; a recipe has at most {MAX_BYTES}")
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=_Loader)):
            raise RecipeError(f"{name}: aliases (*name) are not allowed in a recipe")
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise RecipeError(f"{name}{line}: {getattr(error, 'problem', error)}") from None
    except RecursionError:
        raise RecipeError(f"{name}: nested too deeply") from None
    if node is None:
        raise RecipeError(f"{name}: empty")
    return _tree(node, name)


def _tree(node: yaml.Node, name: str) -> Tree:
    place = f"{name}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        children: dict[str, Tree] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            child = _tree(value_node, name)
            child = Tree(child.value, f"{name}:{key_node.start_mark.line + 1}")
            if key in children:
                raise child.fail(f"the key {key!r} stands twice")
            children[key] = child
        return Tree(children, place)
    if isinstance(node, yaml.SequenceNode):
        return Tree([_tree(child, name) for child in node.value], place)
    loader = _Loader("")
    try:
        value = loader.construct_object(node)
    except yaml.YAMLError as error:
        raise RecipeError(f"{place}: {getattr(error, 'problem', error)}") from None
    return Tree(value, place)
