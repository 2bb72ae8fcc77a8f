"""The strict YAML reader, where it differs from PyYAML."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simreal.yaml_strict import dumps, read
from simreal_envs.errors import UserError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1.5E+3", 1500.0),
        (".5", 0.5),
        ("1_000.5", 1000.5),
        ("200_000", 200_000),
        ("-7", -7),
        ("0", 0),
        ("0x1F", 31),
        ("0o17", 15),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("1:30", "1:30"),
        ("2026-11-21", "2026-11-21"),
        ("1__0", "1__0"),
        ("-", "-"),
        ("'010'", "010"),
        ('"1e-3"', "1e-3"),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    found = read(f"key: {text}" if text != "-" else 'key: "-"', "f").value["key"]
    assert found == value
    assert type(found) is type(value)


def test_what_json_escapes_in_two_halves_is_one_character():
    data = {"\N{ROBOT FACE}": "simreal run \N{ROBOT FACE}.yaml", "\ufeffa": "\ufeffb"}
    assert read(json.dumps(data), "f.json").value == data


def test_special_floats():
    found = read("[.inf, -.inf, .nan]", "f").value
    assert found[:2] == [math.inf, -math.inf]
    assert math.isnan(found[2])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb: 010", 'f.yaml:2: b: 010 starts with a zero, .* write 10 or "010"'),
        ("a: 1\nb: 2\na: 3", "f.yaml:3: a: the key is given twice, first at f.yaml:1"),
        ("a: {b: 1, 'b': 2}", "f.yaml:1: a.b: the key is given twice"),
        ("a: [1,\nb: }", "f.yaml:2: not valid YAML"),
        ("a: !!python/object/apply:os.system [ls]", "f.yaml:1: the tag .* is not allowed"),
        ("a: &x [*x]", "f.yaml:1: an alias that contains itself"),
        ("a: *x", "f.yaml:1: not valid YAML: found undefined alias"),
        ("a: &x {c: 1}\nb:\n  <<: *x", "f.yaml:3: merge keys"),
        ("[a, b]: 1", "f.yaml:1: keys must be text"),
        ("a: 1\n---\nb: 1", "f.yaml:2: not valid YAML"),
        (
            "a: {b: 1\nc: 2",
            "f.yaml:2: not valid YAML: expected .* while parsing a flow mapping, which begins in line 1$",
        ),
        ("a: 1\n!!int b: 1", "f.yaml:2: the tag 'tag:yaml.org,2002:int' is not allowed"),
        ("!!binary aGVsbG8=: 1", "f.yaml:1: the tag 'tag:yaml.org,2002:binary' is not allowed"),
        ("{? !!map {} : 1}", "f.yaml:1: keys must be text"),
        ("a: !!str [1]", "f.yaml:1: the tag 'tag:yaml.org,2002:str' is not allowed"),
        ("a: 1\nb: 1e400", "f.yaml:2: b: 1e400 is too large"),
        ("a: " + "9" * 400, "f.yaml:1: a: a number of 400 digits is too large"),
        ('a: "\\ud800"', r"f.yaml:1: '\\ud800' holds half a character"),
        ("a: " + "[" * 5000, "f.yaml: .*nested too deeply"),
        ("a: \x00", "f.yaml: not valid YAML"),
        ("a: " + "9" * 5000, "f.yaml:1: a: "),
        ("#" * 1_000_001, "too many for a config"),
    ],
)
def test_what_is_ambiguous_or_dangerous_is_refused_with_its_line(text, sentence):
    with pytest.raises(UserError, match=sentence):
        read(text, "f.yaml")


def test_aliases_are_copies_but_cannot_explode():
    assert read("a: &x [1]\nb: *x", "f").value == {"a": [1], "b": [1]}
    bomb = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    with pytest.raises(UserError, match="more than 20,000 values"):
        read(bomb, "f")


def test_every_value_knows_its_line():
    marks = read("a:\n  b: 1\n  c:\n    - x\n    - y\n", "f").marks
    assert (marks["a", "b"], marks["a", "c"], marks["a", "c", 1]) == ("f:2", "f:3", "f:5")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=80)
@given(
    plain | st.sampled_from(["010", "1e-3", "no", "null", "<<", "~", "", "0x1F", ".nan", "1_0", {"<<": {"010": "1e5"}}])
)
def test_what_is_written_reads_back_equal(value):
    found = read(dumps({"value": value}), "f").value["value"]
    assert found == value
    assert repr(found) == repr(value)
