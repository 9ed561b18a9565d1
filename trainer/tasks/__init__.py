"""Every task by name. A new task is one class in its family's file and one line here."""

from trainer.errors import UserError, near, one_of
from trainer.tasks.demo import DEMO
from trainer.tasks.dna import H3, H3K9AC, H4, SPLICE
from trainer.tasks.glue import COLA, MNLI, MRPC, QNLI, QQP, RTE, SST2, STSB
from trainer.tasks.music import COMPOSER
from trainer.tasks.own import LABELS, looks_like_a_path, own_task
from trainer.tasks.protein import FLUORESCENCE, LOCALIZATION, STABILITY
from trainer.tasks.task import Task

OWN = "the path of your own CSV, TSV, Parquet or FASTA file or folder of MIDI files"

TASKS: dict[str, Task] = {
    "cola": COLA,
    "sst2": SST2,
    "mrpc": MRPC,
    "qqp": QQP,
    "stsb": STSB,
    "mnli": MNLI,
    "qnli": QNLI,
    "rte": RTE,
    "localization": LOCALIZATION,
    "stability": STABILITY,
    "fluorescence": FLUORESCENCE,
    "h3": H3,
    "h4": H4,
    "h3k9ac": H3K9AC,
    "splice": SPLICE,
    "composer": COMPOSER,
    "demo": DEMO,
}


def find_task(name: str, separator: str | None = None, labels: str = "auto") -> Task:
    """The task of a name, or the one that a user's own file or folder of sequences makes.

    Args:
        name: a key of ``TASKS``, or the path of a CSV, TSV, Parquet or FASTA file or a folder of MIDI files.
        separator, labels: how to read an own file; see :func:`trainer.tasks.own.own_task`.

    Raises:
        UserError: for a name that is neither, or options that a task of our own has no use for.
    """
    one_of("labels", labels, LABELS)
    if name in TASKS:
        if separator is not None or labels != "auto":
            option = "labels" if separator is None else "separator"
            raise UserError(f"{option}: this is for your own files, and {name!r} is none; leave it out")
        return TASKS[name]
    if looks_like_a_path(name):
        return own_task(name, separator=separator, labels=labels)
    raise UserError(f"task: unknown value {name!r}; allowed: {', '.join(TASKS)}, or {OWN}{near(name, TASKS)}")
