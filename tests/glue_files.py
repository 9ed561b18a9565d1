"""Small generated files of the eight GLUE tasks, in both forms; every label is hinted by a word of its sentence."""

from pathlib import Path

NUM_TRAIN, NUM_DEV = 24, 12
HINTS = ("crimson", "olive", "violet")

HEADERS = {
    "CoLA": "",  # source, label, star, sentence
    "SST-2": "sentence label",
    "MRPC": "Quality|#1 ID|#2 ID|#1 String|#2 String",
    "QQP": "id qid1 qid2 question1 question2 is_duplicate",
    "STS-B": "index genre filename year old_index source1 source2 sentence1 sentence2 score",
    "MNLI": "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse "
    "sentence1 sentence2 label1 gold_label",
    "QNLI": "index question sentence label",
    "RTE": "index sentence1 sentence2 label",
}
MNLI_DEV_HEADER = HEADERS["MNLI"].replace("label1", "label1 label2 label3 label4 label5")
NLI = ("entailment", "not_entailment")
LABELS = {"MNLI": ("entailment", "neutral", "contradiction"), "QNLI": NLI, "RTE": NLI, "STS-B": ("0.000", "2.5", "3.8")}
LABEL_COLUMNS = {"label", "Quality", "is_duplicate", "score", "label1", "gold_label"}
FIRSTS = {"sentence", "sentence1", "question", "question1", "#1 String"}
SECONDS = {"sentence2", "question2", "#2 String"}
PARQUET_FOLDERS = {"CoLA": "cola", "SST-2": "sst2", "STS-B": "stsb"}
PARQUET_COLUMNS = {
    "MNLI": ("premise", "hypothesis"),
    "QQP": ("question1", "question2"),
    "QNLI": ("question", "sentence"),
}


def parts(name: str) -> dict[str, int]:
    """A task's tab-separated files without ``.tsv``, and how many rows they get."""
    devs = ("dev_matched", "dev_mismatched") if name == "MNLI" else ("dev",)
    return {"train": NUM_TRAIN, **dict.fromkeys(devs, NUM_DEV)}


def example(name: str, part: str, row: int) -> tuple[str, str, int]:
    """The first sentence, the second one, and the number of the label; quotes are unbalanced, and not all is ASCII."""
    label = row % len(LABELS.get(name, "01"))
    quote = '"' if row % 5 == 0 else ""
    return f"{quote}The café of {part} {row} is {HINTS[label]} .", f"It 's {HINTS[label]}{quote} , said {row}", label


def fields(name: str, part: str, header: list[str], row: int) -> list[str]:
    first, second, label = example(name, part, row)
    text = LABELS.get(name, "01")[label]
    if name == "CoLA":
        return ["gj04", text, "*" if text == "0" else "", first]
    pair = name == "QNLI"
    values = {"sentence": second if pair else first, **dict.fromkeys(FIRSTS - {"sentence"}, first)}
    values |= dict.fromkeys(SECONDS, second) | dict.fromkeys(LABEL_COLUMNS, text)
    return [values.get(column, f"{column}-{row}") for column in header]


def tsv(name: str, part: str, num_rows: int) -> bytes:
    """One file as GLUE ships it; MRPC's dev.tsv begins with a byte order mark."""
    text = MNLI_DEV_HEADER if part.startswith("dev_") else HEADERS[name]
    header = text.split("|") if "|" in text else text.split()
    rows = [*([header] if header else []), *(fields(name, part, header, row) for row in range(num_rows))]
    content = "".join("\t".join(row) + "\n" for row in rows).encode()
    return (b"\xef\xbb\xbf" if (name, part) == ("MRPC", "dev") else b"") + content


def write_glue(folder: Path) -> None:
    """Writes all eight tasks as ``glue_data`` has them into folder/"glue": 24 rows of train, 12 of each dev file."""
    for name in HEADERS:
        (folder / "glue" / name).mkdir(parents=True, exist_ok=True)
        for part, num_rows in parts(name).items():
            (folder / "glue" / name / f"{part}.tsv").write_bytes(tsv(name, part, num_rows))


def write_glue_parquet(folder: Path) -> None:
    """Writes the same examples as the Hugging Face Hub has them."""
    import pyarrow as pa
    from pyarrow import parquet

    for name in HEADERS:
        target = folder / "glue" / PARQUET_FOLDERS.get(name, name.lower())
        target.mkdir(parents=True, exist_ok=True)
        single = name in ("CoLA", "SST-2")
        columns = ("sentence",) if single else PARQUET_COLUMNS.get(name, ("sentence1", "sentence2"))
        for part, num_rows in parts(name).items():
            *sentences, labels = zip(*(example(name, part, row) for row in range(num_rows)), strict=True)
            values = {column: pa.array(texts) for column, texts in zip(columns, sentences, strict=False)}
            scores = pa.array([float(LABELS["STS-B"][label]) for label in labels], pa.float32())
            values |= {"label": scores if name == "STS-B" else pa.array(labels, pa.int64()), "idx": pa.array(labels)}
            file = f"{part.replace('dev', 'validation')}-00000-of-00001.parquet"
            parquet.write_table(pa.table(values), target / file)
