"""Every task by name. A new task is one class in its family's file and one line here."""

from trainer.tasks.demo import DEMO
from trainer.tasks.dna import H3, H3K9AC, H4, SPLICE
from trainer.tasks.task import Task

TASKS: dict[str, Task] = {
    "splice": SPLICE,
    "h3": H3,
    "h4": H4,
    "h3k9ac": H3K9AC,
    "demo": DEMO,
}
