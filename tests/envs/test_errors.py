"""The words of a user error."""

import pytest

from simreal_envs.errors import Unsupported, UserError, nearest, require_a, require_known, told


def _bare():
    raise AssertionError


def test_a_known_name_is_returned():
    assert require_known("b", ["a", "b"], "letter") == "b"


def test_options_may_be_an_iterator_that_is_read_once():
    with pytest.raises(UserError, match="valid: a, b"):
        require_known("x", iter(["b", "a"]), "letter")


def test_an_unknown_name_is_one_sentence_with_place_kind_name_nearest_and_all_valid_names():
    with pytest.raises(UserError) as error:
        require_known("fine_tun", ["scratch", "fine_tune"], "strategy", "quick.yaml:3")
    expected = "quick.yaml:3: unknown strategy 'fine_tun'; did you mean 'fine_tune'? valid: fine_tune, scratch"
    assert str(error.value) == expected


def test_nothing_near_means_no_guess():
    assert nearest("zzz", ["scratch"]) == "valid: scratch"


def test_of_many_names_the_most_alike_are_shown_and_how_many_there_are():
    many = [f"{body}/{what}" for body in ("torso", "thigh", "leg", "foot") for what in ("mass", "com_x", "inertia")]
    sentence = nearest("torso/mas", many)
    assert sentence.startswith("did you mean 'torso/mass'? valid: torso/mass, ")
    assert sentence.endswith(", ... (12 in all)") and sentence.count("/") == 7
    assert nearest("zzz", many).startswith("valid: ") and nearest("zzz", many).endswith(", ... (12 in all)")
    assert nearest("zzz", many[:8]) == f"valid: {', '.join(sorted(many[:8]))}"


def test_no_options_at_all_is_said():
    assert nearest("a", []) == "valid: none"


def test_a_name_that_is_not_text_is_reported_too():
    with pytest.raises(UserError, match="unknown task 3; valid: a"):
        require_known(3, ["a"], "task")


def test_unsupported_is_a_user_error_and_a_value_error():
    assert issubclass(Unsupported, UserError) and issubclass(UserError, ValueError)


def test_what_somebody_elses_exception_says_is_one_line_with_its_kind():
    assert told(ValueError("Error: a\n  b")) == "ValueError: a b" and told(KeyError("x")) == "KeyError: 'x'"
    with pytest.raises(AssertionError) as caught:
        _bare()
    assert told(caught.value).startswith("AssertionError: raise AssertionError (") and __file__ in told(caught.value)
    assert told(AssertionError()) == "AssertionError: "
    assert told(ImportError("no module")) == "no module" and told(UserError("what, where")) == "what, where"


def test_what_is_of_another_kind_is_named_in_short():
    require_a(int, 1, "the number", "counting")
    with pytest.raises(UserError) as raised:
        require_a(int, "x" * 1000, "the number", "counting")
    assert (
        str(raised.value).startswith("the number must be what counting gives, not 'xxx") and len(str(raised.value)) < 90
    )
