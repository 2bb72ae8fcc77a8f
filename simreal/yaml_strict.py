"""YAML without surprises: the YAML 1.2 core schema, every value with its line, and nothing that runs or explodes.

    read("seeds: 5", "a.yaml").value              {"seeds": 5}
    read("seeds: 5", "a.yaml").marks[("seeds",)]  "a.yaml:1"

Differences to plain PyYAML (which follows YAML 1.1):

    1e-3        a float (PyYAML: text)
    no, on      text (PyYAML: booleans); only true and false are booleans
    010         refused, because readers disagree (PyYAML: 8, YAML 1.2: 10); write 10, or 0o10, or "010" for text
    200_000     an integer; 1:30 is text (PyYAML: 90)
    keys        always text; a key given twice, `<<`, `!tags` and several documents in one file are refused
    aliases     allowed, but never recursive and never more than 20,000 values in all
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from simreal_envs.errors import UserError

MAX_VALUES = 20_000
MAX_CHARACTERS = 1_000_000

_PLAIN = "plain"
_TEXT = "tag:yaml.org,2002:str"
_ALLOWED = {
    yaml.ScalarNode: {_PLAIN, _TEXT},
    yaml.MappingNode: {"tag:yaml.org,2002:map"},
    yaml.SequenceNode: {"tag:yaml.org,2002:seq"},
}
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}
_DIGITS = r"[0-9]+(_[0-9]+)*"
_INTEGER = re.compile(rf"[-+]?(0x[0-9a-fA-F]+|0o[0-7]+|{_DIGITS})")
_FLOAT = re.compile(rf"[-+]?({_DIGITS}(\.({_DIGITS})?)?|\.{_DIGITS})([eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A parsed YAML text.

    Attributes:
        value: dicts with text keys, lists, str, int, float, bool and None.
        marks: for the path of each value, the place it was written at ("quickstart.yaml:12").
    """

    value: Any
    marks: Mapping[Path, str]


def read(text: str, file: str, lines: bool = True) -> Document:
    """Parse one YAML document.

    Args:
        file: begins error sentences and marks.
        lines: whether marks and errors carry line numbers (False for text that has only one line anyway).

    Raises:
        UserError: `file:line` and what is wrong there.
    """
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"{file}: {len(text):,} characters are too many for a config; at most {MAX_CHARACTERS:,}")
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            builder = _Builder(file, lines)
            value = None if node is None else builder.build(node, ())
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark and lines else ""
        problem = error.problem or error.context or "cannot be read"
        begun = error.context_mark.line + 1 if error.context_mark and mark and lines else 0
        where = f" {error.context}, which begins in line {begun}" if begun and begun <= mark.line else ""
        raise UserError(f"{file}{line}: not valid YAML: {problem}{where}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserError(f"{file}: not valid as a config: values are nested too deeply") from None
    return Document(value, builder.marks)


def dumps(value: Any) -> str:
    """Return YAML text that `read` turns back into an equal value; innermost lists and mappings stand on one line."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)


def scalar(text: str) -> Any:
    """Return what an unquoted scalar means: None, bool, int, float or text. Raises ValueError for `010` and `1e400`."""
    if text in _WORDS:
        return _WORDS[text]
    if _LEADING_ZERO.fullmatch(text):
        plain = text.replace("_", "").lstrip("+-0") or "0"
        raise ValueError(f'{text} starts with a zero, which readers understand differently; write {plain} or "{text}"')
    for pattern, number in ((_INTEGER, lambda text: int(text, 0)), (_FLOAT, float)):
        if pattern.fullmatch(text):
            if len(text) > 310 or not abs(value := number(text)) <= sys.float_info.max:
                raise ValueError(f"{text if len(text) < 20 else f'a number of {len(text)} digits'} is too large")
            return value
    return text


class _Loader(yaml.SafeLoader):
    """Leaves the meaning of unquoted scalars to `scalar`."""

    def resolve(self, kind: type, value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            return _PLAIN if implicit[0] else _TEXT
        return super().resolve(kind, value, implicit)


class _Dumper(yaml.SafeDumper):
    """Quotes exactly the text that `scalar` would not read as text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def resolve(self, kind: type, value: Any, implicit: Any) -> str:
        if kind is not yaml.ScalarNode or not implicit[0]:
            return super().resolve(kind, value, implicit)
        try:
            kind_of_value = type(None if value == "<<" else scalar(value))
        except ValueError:
            kind_of_value = type(None)
        return _TAGS[kind_of_value]


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Only the double-quoted style can escape line breaks and what cannot be seen.
    return dumper.represent_scalar(_TEXT, text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _represent_text)
_TAGS = {str: _TEXT, **{kind: f"tag:yaml.org,2002:{kind.__name__}" for kind in (bool, int, float)}}
_TAGS[type(None)] = "tag:yaml.org,2002:null"


class _Builder:
    """Turns composed nodes into plain values and remembers where each was written."""

    def __init__(self, file: str, lines: bool) -> None:
        self.file = file
        self.lines = lines
        self.marks: dict[Path, str] = {}
        self._open: set[int] = set()

    def build(self, node: yaml.Node, path: Path) -> Any:
        place = self._place(node)
        self.marks.setdefault(path, place)
        if len(self.marks) > MAX_VALUES:
            raise UserError(f"{place}: more than {MAX_VALUES:,} values after expanding aliases")
        if id(node) in self._open:
            raise UserError(f"{place}: an alias that contains itself")
        self._require_plain(node, place)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place, path)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        finally:
            self._open.discard(id(node))

    def _require_plain(self, node: yaml.Node, place: str) -> None:
        """Refuse tags, and halves of characters, which no file can hold; two that JSON has written as escapes become one."""
        if node.tag not in _ALLOWED[type(node)]:
            raise UserError(f"{place}: the tag {node.tag!r} is not allowed here; write plain values")
        if isinstance(node, yaml.ScalarNode):
            try:
                node.value = node.value.encode("utf-16", "surrogatepass").decode("utf-16")
            except UnicodeDecodeError:
                raise UserError(
                    f"{place}: {node.value!a} holds half a character, a surrogate without its other half"
                ) from None

    def _scalar(self, node: yaml.ScalarNode, place: str, path: Path) -> Any:
        try:
            return scalar(node.value) if node.tag == _PLAIN else node.value
        except ValueError as error:
            raise UserError(f"{place}: {dotted(path) or 'value'}: {error}") from None

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in node.value:
            place = self._place(key)
            if not isinstance(key, yaml.ScalarNode):
                raise UserError(f"{place}: keys must be text, not lists or mappings")
            self._require_plain(key, place)
            if key.value == "<<" and key.tag == _PLAIN:
                raise UserError(f"{place}: merge keys (<<) are not supported; write the values out")
            where = (*path, key.value)
            if key.value in result:
                raise UserError(f"{place}: {dotted(where)}: the key is given twice, first at {self.marks[where]}")
            self.marks[where] = place
            result[key.value] = self.build(value, where)
        return result

    def _place(self, node: yaml.Node) -> str:
        return f"{self.file}:{node.start_mark.line + 1}" if self.lines else self.file


def dotted(path: Path) -> str:
    """Return ("targets", "heavy", "steps") as "targets.heavy.steps"."""
    return ".".join(str(part) for part in path)
