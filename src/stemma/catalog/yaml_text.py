"""A manifest as YAML, for people: readable, writable, and the same value as its JSON.

Invariants:
    * ``from_yaml(to_yaml(manifest)) == manifest``.
    * Only ``true``, ``false`` and decimal integers are not strings: ``no``, ``1e3``,
      ``2026-05-03`` and ``~`` stay what they look like.
    * Text that another YAML reader could take for something else is written in quotes.
    * Duplicate keys, anchors, aliases, tags, many documents and deep nesting are refused.

YAML is never hashed; the identity is the sha256 of the canonical JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import yaml
from typing_extensions import override

from stemma.domain import canonical
from stemma.domain.canonical import Plain
from stemma.domain.errors import InvalidInputError
from stemma.domain.manifest import Manifest

_LENGTH_LIMIT: Final = 16 * 1024 * 1024
_DEPTH_LIMIT: Final = 32
_STRING: Final = "tag:yaml.org,2002:str"
_BOOLEAN: Final = "tag:yaml.org,2002:bool"
_INTEGER: Final = "tag:yaml.org,2002:int"
_SAFE: Final = re.compile(r"[A-Za-z_/](?:[A-Za-z0-9_/.@+-]|:(?=\S)| (?=\w))*")
_WORDS: Final = frozenset(
    "y n yes no on off true false null nan inf".split()  # noqa: SIM905 - reads as the list it is
)


class _Loader(yaml.SafeLoader):
    """Builds nodes only, with three implicit types, and refuses what can surprise."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    depth = 0

    @override
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases, anchors and deep nesting before they cost anything."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _refuse("anchors and aliases are not allowed", event.start_mark)
        self.depth += 1
        if self.depth > _DEPTH_LIMIT:
            raise _refuse(f"nested deeper than {_DEPTH_LIMIT}", event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_Loader.add_implicit_resolver(_BOOLEAN, re.compile(r"(?:true|false)\Z"), ["t", "f"])
_Loader.add_implicit_resolver(
    _INTEGER, re.compile(r"-?(?:0|[1-9][0-9]{0,17})\Z"), list("-0123456789")
)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that is not plainly a word."""

    @override
    def ignore_aliases(self, data: object) -> bool:
        """Write equal lists twice, not as an anchor."""
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    is_plain = _SAFE.fullmatch(text) and text.lower() not in _WORDS
    return dumper.represent_scalar(_STRING, text, style=None if is_plain else '"')


_Dumper.add_representer(str, _represent_text)


def _refuse(reason: str, mark: yaml.Mark | None) -> InvalidInputError:
    where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return InvalidInputError(
        f"not a manifest in YAML: {reason}{where}",
        code="bad-manifest",
        hint="compare with what stemma show REF --format yaml writes",
    )


def to_yaml(value: Manifest | Mapping[str, object]) -> str:
    """Write a manifest, or JSON values to be looked at, as YAML with sorted keys."""
    return yaml.dump(
        canonical.to_plain(value) if isinstance(value, Manifest) else value,
        Dumper=_Dumper,
        allow_unicode=True,
        default_flow_style=False,
        width=1_000_000,
    )


def from_yaml(text: str) -> Manifest:
    """Read a manifest from YAML.

    Raises:
        InvalidInputError: If it is not YAML of a manifest, or uses what is refused.
    """
    if len(text) > _LENGTH_LIMIT:
        raise _refuse(f"longer than {_LENGTH_LIMIT:,} characters", None)
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise _refuse(str(error.problem), error.problem_mark) from error
    except yaml.YAMLError as error:
        raise _refuse(str(error).splitlines()[0], None) from error
    if node is None:
        raise _refuse("it is empty", None)
    return canonical.from_plain(_plain(node), Manifest, what="manifest")


def _plain(node: yaml.Node) -> Plain:
    """Turn a node into objects, arrays, strings, booleans and integers."""
    if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
        return _mapping(node)
    if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        return [_plain(item) for item in node.value]
    if isinstance(node, yaml.ScalarNode):
        text = str(node.value)
        if node.tag == _STRING:
            return text
        if node.tag == _BOOLEAN and text in {"true", "false"}:
            return text == "true"
        if node.tag == _INTEGER and re.fullmatch(r"-?[0-9]{1,18}", text):
            return int(text)
    raise _refuse(f"the tag {node.tag} is not allowed here", node.start_mark)


def _mapping(node: yaml.MappingNode) -> dict[str, Plain]:
    result: dict[str, Plain] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _refuse("a key must be text", key.start_mark)
        name = str(key.value)
        if name in result:
            raise _refuse(f"the key {name!r} occurs twice", key.start_mark)
        result[name] = _plain(value)
    return result
