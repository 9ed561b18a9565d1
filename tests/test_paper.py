"""The paper's figures: the right one beside each of our rows, and none where there is none."""

import pytest

from analysis.paper import PaperFigure, paper_figure, rival_figure, setting_of


def test_h4_under_the_random_mapping_is_the_later_versions_table_5() -> None:
    assert paper_figure("h4", "pretrained", "random", "bert-base-uncased") == PaperFigure(
        value=85.9, std=0.9, metric="accuracy", model="bert-base-uncased", version="v2", table="table 5"
    )


def test_the_frequent_mapping_is_the_first_versions_which_gives_no_standard_deviation() -> None:
    figure = paper_figure("h4", "scratch", "frequent", "bert-base-uncased")
    assert figure is not None
    assert (figure.value, figure.std, figure.version, figure.table) == (66.5, None, "v1", "table 2")


@pytest.mark.parametrize("model", ["roberta-base", "FacebookAI/roberta-base", "/models/roberta-base/"])
def test_a_model_of_the_paper_is_known_by_the_last_part_of_its_name_or_folder(model: str) -> None:
    figure = paper_figure("h4", "pretrained", "random", model)
    assert figure is not None
    assert (figure.value, figure.model) == (86.5, "roberta-base")


@pytest.mark.parametrize("model, init", [("all-MiniLM-L6-v2", "pretrained"), ("roberta-base", "scratch")])
def test_where_the_paper_lacks_a_models_figure_it_is_bert_base_uncaseds_and_says_so(model: str, init: str) -> None:
    figure = paper_figure("h4", init, "random", model)
    assert figure is not None
    assert figure.model == "bert-base-uncased"
    assert figure == paper_figure("h4", init, "random", "bert-base-uncased")


def test_composer_is_in_a_table_of_its_own() -> None:
    figure = paper_figure("composer", "pretrained", "random", "bert-base-uncased")
    assert figure is not None
    assert (figure.value, figure.table) == (35.7, "table 6")


def test_glue_has_the_figures_of_its_dev_set_by_mapping() -> None:
    figures = {
        mapping: paper_figure("mnli", "pretrained", mapping, "bert-base-uncased")
        for mapping in ("identity", "shift 1000", "permutation")
    }
    assert [figure and figure.value for figure in figures.values()] == [84.15, 69.25, 68.4], "matched and mismatched"
    assert paper_figure("mnli", "pretrained", "shift 7", "bert-base-uncased") is None


@pytest.mark.parametrize(
    "task, init, mapping",
    [("demo", "pretrained", "random"), ("h4", "checkpoint", "random"), ("h4", "pretrained", "unused")],
)
def test_there_is_no_figure_for_what_the_paper_does_not_report(task: str, init: str, mapping: str) -> None:
    assert paper_figure(task, init, mapping, "bert-base-uncased") is None


@pytest.mark.parametrize(
    "task, model, value",
    [("h4", "hilbert-cnn", 87.3), ("splice", "hilbert-cnn", 94.1), ("stability", "plus-tfm", 76.0)],
)
def test_each_discipline_has_the_rival_that_the_first_version_names(task: str, model: str, value: float) -> None:
    figure = rival_figure(task)
    assert figure is not None
    assert (figure.model, figure.value, figure.version) == (model, value, "v1")


def test_text_and_music_have_no_rival() -> None:
    assert rival_figure("mrpc") is None
    assert rival_figure("composer") is None


@pytest.mark.parametrize(
    "config, setting",
    [
        ({"mapping": "random"}, "random"),
        ({"mapping": "shift", "params.shift_by": "1000"}, "shift 1000"),
        ({"mapping": "shift", "params.shift_by": "1000", "params.train_fraction": "0.01"}, "shift 1000, 1% data"),
        ({"mapping": "permutation", "params.keep_special_tokens": "True"}, "permutation, special tokens kept"),
        ({"mapping": None, "model": "kmer"}, "task-specific"),
        ({"mapping": "identity", "model": "/models/plus-tfm"}, "task-specific"),
    ],
)
def test_a_trials_setting_is_its_mapping_and_what_the_paper_varies_beside_it(
    config: dict[str, str], setting: str
) -> None:
    assert setting_of({"model": "bert-base-uncased", **config}) == setting


def test_one_percent_of_the_data_is_never_held_against_all_of_it() -> None:
    whole, part = (
        paper_figure("mrpc", "pretrained", setting, "bert-base-uncased")
        for setting in ("shift 1000", "shift 1000, 1% data")
    )
    assert whole and part
    assert (whole.value, part.value) == (82.9, 80.5)
    assert paper_figure("h4", "pretrained", "random, 1% data", "bert-base-uncased") is None


def test_a_figure_of_the_own_model_in_any_version_goes_before_the_reference_models() -> None:
    figure = paper_figure("rte", "scratch", "shift 1000", "albert-base-v1")
    assert figure is not None
    assert (figure.value, figure.model, figure.version) == (54.0, "albert-base-v1", "v1")
