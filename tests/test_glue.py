"""What the GLUE readers promise: the paper's counts, the same examples from both forms, QQP's broken rows left out."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import refusal
from tests.glue_files import tsv
from trainer.sources import Source
from trainer.tasks.glue import COLA, MNLI, MRPC, QNLI, QQP, RTE, SST2, STSB, Glue
from trainer.tasks.task import Examples

TASKS = {"CoLA": COLA, "SST-2": SST2, "MRPC": MRPC, "QQP": QQP, "STS-B": STSB, "MNLI": MNLI, "QNLI": QNLI, "RTE": RTE}
all_tasks = pytest.mark.parametrize("name", TASKS)


def sources(task: Glue, form: str) -> tuple[Source, ...]:
    return task.files if form == "parquet" else task.alternatives[0]


def read(task: Glue, folder: Path, form: str = "tsv") -> Examples:
    return task.read(*(folder / source.path for source in sources(task, form)))


def test_tasks_say_how_they_are_scored_and_where_their_files_are() -> None:
    expected = {"CoLA": "matthews", "MRPC": "f1", "QQP": "f1", "STS-B": "spearman"}
    for name, task in TASKS.items():
        assert task.metric == expected.get(name, "accuracy")
        assert (task.is_text, task.symbols, task.max_length, task.num_epochs) == (True, "", 128, 3)
        assert task.checkpoint == "final"
        assert all(source.url.endswith(source.path.removeprefix("glue")) for source in task.files)
        assert all(source.path.startswith(f"glue/{name}/") and not source.url for source in task.alternatives[0])
    assert STSB.classes == () and MNLI.classes == ("entailment", "neutral", "contradiction")
    assert MRPC.classes[1] == "paraphrase" and QQP.classes[1] == "duplicate"


# -- real files


@pytest.mark.parametrize(
    ("name", "num_train", "num_dev", "train_labels", "dev_labels"),
    [
        ("CoLA", 8551, 1043, {"unacceptable": 2528, "acceptable": 6023}, {"unacceptable": 322, "acceptable": 721}),
        ("SST-2", 67349, 872, {"negative": 29780, "positive": 37569}, {"negative": 428, "positive": 444}),
        ("MRPC", 3668, 408, {"not_paraphrase": 1194, "paraphrase": 2474}, {"not_paraphrase": 129, "paraphrase": 279}),
    ],
)
def test_real_files_have_the_papers_counts(
    real_data: Path, name: str, num_train: int, num_dev: int, train_labels: dict[str, int], dev_labels: dict[str, int]
) -> None:
    task = TASKS[name]
    examples = read(task, real_data)
    assert examples.valid is not None
    assert (len(examples.train), len(examples.valid)) == (num_train, num_dev)
    assert Counter(task.classes[label] for label in examples.train.labels) == train_labels
    assert Counter(task.classes[label] for label in examples.valid.labels) == dev_labels
    dataset = task.dataset(examples, ())
    assert (dataset.num_examples, dataset.note) == (task.num_examples, "")
    assert dataset.split == "as given, valid is test"


def test_real_scores_are_the_published_ones(real_data: Path) -> None:
    examples = read(STSB, real_data)
    assert examples.valid is not None
    assert (len(examples.train), len(examples.valid)) == (5749, 1500)
    assert examples.train.labels.dtype == np.float64
    assert examples.train.labels[:3].tolist() == [5.0, 3.8, 3.8]
    assert examples.valid.labels[:2].tolist() == [5.0, 4.75]
    assert (examples.train.labels.min(), examples.train.labels.max()) == (0.0, 5.0)
    assert examples.train.sequences[0] == "A plane is taking off."
    assert examples.train.seconds[0] == "An air plane is taking off."


# -- what is read


@all_tasks
def test_both_forms_give_the_same_examples(glue_forms: Path, name: str) -> None:
    one, other = (read(TASKS[name], glue_forms, form) for form in ("tsv", "parquet"))
    assert one.valid is not None and other.valid is not None
    for left, right in ((one.train, other.train), (one.valid, other.valid)):
        assert left.sequences == right.sequences
        assert left.seconds == right.seconds
        assert left.labels.tolist() == right.labels.tolist()
        assert left.labels.dtype == right.labels.dtype
        assert left.digest == right.digest


@all_tasks
def test_dev_is_valid_and_test_and_every_label_stays_with_its_sentence(glue_forms: Path, name: str) -> None:
    task = TASKS[name]
    examples = read(task, glue_forms)
    assert examples.valid is not None and examples.valid is examples.test
    assert len(examples.train) == 24
    hints = ["crimson", "olive", "violet"][: 3 if name in ("MNLI", "STS-B") else 2]
    labels = dict(zip(hints, (0.0, 2.5, 3.8) if name == "STS-B" else range(3), strict=False))
    for split in (examples.train, examples.valid):
        hinted = [next(labels[hint] for hint in hints if hint in sentence) for sentence in split.sequences]
        assert hinted == split.labels.tolist()
        assert len(split.seconds) == (0 if name in ("CoLA", "SST-2") else len(split))
        assert all(
            hint.split(" is ")[1][:5] in second for hint, second in zip(split.sequences, split.seconds, strict=False)
        )


def test_mnli_dev_is_matched_then_mismatched_and_keeps_them_apart(glue_forms: Path) -> None:
    for form in ("tsv", "parquet"):
        valid = read(MNLI, glue_forms, form).valid
        assert valid is not None
        assert list(valid.subsets) == ["matched", "mismatched"]
        for subset, rows in valid.subsets.items():
            assert len(rows) == 12
            assert all(f" dev_{subset} " in sentence for sentence in valid.take(rows).sequences)
        assert sorted(np.concatenate(list(valid.subsets.values()))) == list(range(24))


def test_quotes_are_characters_and_swallow_no_lines(glue_folder: Path) -> None:
    (glue_folder / "glue/SST-2/train.tsv").write_text(
        'sentence\tlabel\n"so it begins\t1\nand " so " goes on\t0\n"ends"\t1\n'
    )
    train = read(SST2, glue_folder).train
    assert train.sequences == ('"so it begins', 'and " so " goes on', '"ends"')
    assert train.labels.tolist() == [1, 0, 1]


def test_cola_has_no_header_and_its_first_line_counts(glue_folder: Path) -> None:
    (glue_folder / "glue/CoLA/train.tsv").write_text("gj04\t0\t*\tThey drank the pub.\ngj04\t1\t\tThey drank.\n")
    train = read(COLA, glue_folder).train
    assert train.sequences == ("They drank the pub.", "They drank.")
    assert train.labels.tolist() == [0, 1]


def test_columns_are_found_by_name_wherever_they_stand(glue_folder: Path) -> None:
    lines = [line.split("\t") for line in (glue_folder / "glue/RTE/dev.tsv").read_text().splitlines()]
    expected = read(RTE, glue_folder).valid
    (glue_folder / "glue/RTE/dev.tsv").write_text("".join("\t".join(reversed(line)) + "\r\n" for line in lines))
    found = read(RTE, glue_folder).valid
    assert expected is not None and found is not None
    assert found.digest == expected.digest


def test_byte_order_mark_is_no_part_of_the_header(glue_folder: Path) -> None:
    assert (glue_folder / "glue/MRPC/dev.tsv").read_bytes().startswith(b"\xef\xbb\xbfQuality\t")
    assert read(MRPC, glue_folder).valid is not None


def test_sts_b_scores_of_double_precision_are_those_of_parquet(glue_folder: Path) -> None:
    header = tsv("STS-B", "train", 0).decode()
    row = "\t".join(["x"] * 7 + ["one", "two", "{}"]) + "\n"
    texts = ["3.8", "4.75999999999999", "2.733333", "0", "5"]
    (glue_folder / "glue/STS-B/train.tsv").write_text(header + "".join(row.format(text) for text in texts))
    train = read(STSB, glue_folder).train
    assert train.labels.tolist() == [3.8, 4.76, 2.73333, 0.0, 5.0]


# -- QQP's own flaws


QQP_HEADER = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"


def test_broken_rows_of_qqp_are_left_out_and_counted(glue_folder: Path) -> None:
    rows = ["1\t2\t3\tWhy?\tHow?\t0\n", '4\t5\t6\t"Who is\n', '"\tWho?\t1\n', "\n", "7\t8\t9\tWhen?\tWhere\rto?\t1\n"]
    (glue_folder / "glue/QQP/train.tsv").write_text(
        QQP_HEADER + "".join(rows) + "7\t8\t9\tWhat?\tWhich?\t1\n", newline=""
    )
    examples = read(QQP, glue_folder)
    assert examples.train.sequences == ("Why?", "What?")
    assert examples.train.labels.tolist() == [0, 1]
    assert examples.facts == {"skipped_rows": "4"}


def test_whole_files_have_no_skipped_rows_to_tell_of(glue_forms: Path) -> None:
    for form in ("tsv", "parquet"):
        assert all(read(task, glue_forms, form).facts == {} for task in TASKS.values())


def test_fifty_broken_rows_are_left_out_and_one_more_is_an_error(glue_folder: Path) -> None:
    path = glue_folder / "glue/QQP/train.tsv"
    path.write_text(QQP_HEADER + "1\t2\t3\tWhy?\tHow?\t0\n" + "broken\n" * 50 + "1\t2\t3\tWhy?\tHow?\t0\n")
    assert read(QQP, glue_folder).facts == {"skipped_rows": "50"}
    path.write_text(QQP_HEADER + "1\t2\t3\tWhy?\tHow?\t0\n" + "broken\n" * 51)
    message = refusal(lambda: read(QQP, glue_folder))
    assert message.startswith(f"{path}, line 3: 1 column(s) instead of 6: 'id, qid1, qid2, question1, question2, is_")
    assert "more than 50 broken rows" in message


@pytest.mark.parametrize("name", ["QQP", "MNLI"])
def test_a_second_sentence_may_be_missing_where_upstream_lacks_some(glue_folder: Path, name: str) -> None:
    path = glue_folder / "glue" / name / "train.tsv"
    second = read(TASKS[name], glue_folder).train.seconds[3]
    path.write_text(path.read_text().replace(second, ""))
    assert read(TASKS[name], glue_folder).train.seconds[3] == ""
