"""Settings dataclasses as command lines."""

from dataclasses import dataclass

import pytest

from trainer.commandline import parse, setting
from trainer.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Settings:
    name: str = setting("x", help="a name")
    max_length: int | None = setting(None, help="a length, 50 % at most", unit="tokens", none="all")
    rate: float = setting(1e-5, help="a rate")
    parts: tuple[str, ...] = setting(("a", "b"), help="some parts")
    keep: bool = setting(False, help="whether")


def read(*words: str) -> Settings:
    return parse(Settings, words, program="test", description="A test.")


def test_no_options_give_the_defaults() -> None:
    assert read() == Settings()


@pytest.mark.parametrize(
    "words", [("--max-length", "5"), ("--max_length", "5"), ("--max_length=5",), ("--max-length=5",)]
)
def test_dashes_underscores_and_equals_signs_all_work(words: tuple[str, ...]) -> None:
    assert read(*words).max_length == 5


@pytest.mark.parametrize("value", ["->", "-", "--", "--x", "-1", "a=b", ""])
def test_a_value_may_begin_with_a_dash(value: str) -> None:
    """As ``mlflow run`` hands it on: an option, then its value."""
    assert read("--name", value).name == read(f"--name={value}").name == value


@pytest.mark.parametrize("words", [("--keep",), ("--keep", "--rate", "1"), ("--keep", "true"), ("--keep=true",)])
def test_a_switch_may_stand_alone(words: tuple[str, ...]) -> None:
    assert read(*words).keep is True


def test_a_switch_can_be_turned_off() -> None:
    assert read("--keep", "false") == read("--keep=false") == Settings()


@pytest.mark.parametrize("word", ["", "all"])
def test_none_has_a_word_of_its_own_and_mlflows_empty_one(word: str) -> None:
    assert read("--max-length", word).max_length is None


def test_values_take_their_fields_type() -> None:
    given = read("--name", "a_b", "--rate", "3e-4", "--parts", "c, d,", "--keep", "True")
    assert given == Settings(name="a_b", rate=3e-4, parts=("c", "d"), keep=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--max-length", "five"), "max_length: 'five' is not a whole number; give a whole number or 'all'"),
        (("--rate", "fast"), "rate: 'fast' is not a number; give a number"),
        (("--keep=",), "keep: '' is not allowed; give true or false"),
        (("--keep", "1"), "keep: '1' is not allowed; give true or false"),
        (("--nam", "y"), "unknown option '--nam'.*did you mean '--name'"),
        (("stray",), "unknown option 'stray'"),
        (("--name",), "argument --name: expected one argument"),
        (("--name", "--rate", "1"), "argument --name: expected one argument"),
    ],
)
def test_mistakes_are_told_by_name(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(*words)


def test_help_gives_each_option_a_sentence_a_default_and_its_unit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "--max-length VALUE a length, 50 % at most [tokens] (default: all)" in text
    assert "--parts VALUE some parts (default: a,b)" in text
