"""What a running sweep shows: plain lines in a pipe, a live bar on a terminal, and failures in one line each."""

import io
import re
import time
from typing import Any

import pytest
from rich.console import Console

from sweeps.progress import SweepProgress, duration
from sweeps.schedule import error_line
from sweeps.spec import SweepOptions

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


NAME = SweepOptions(task="splice").spec().name


def point(**changes: Any) -> dict[str, Any]:
    return {"seed": 2, "optimizer": "adam", "learning_rate": 1e-5, "init": "pretrained", **changes}


def result(score: float, test_score: float | None = 0.75, outcome: str = "finished") -> dict[str, Any]:
    return {"outcome": outcome, "score": score, "test_score": test_score, "epoch": 4, "time_total_s": 150.0}


def in_a_pipe(num_cells: int) -> tuple[SweepProgress, io.StringIO]:
    written = io.StringIO()
    console = Console(file=written, force_terminal=False, highlight=False, soft_wrap=True)
    return SweepProgress(num_cells, NAME, console), written


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Console:
    """A console that takes its text for a terminal's, wide enough for every line."""
    monkeypatch.setenv("TERM", "xterm-256color")
    return Console(file=io.StringIO(), force_terminal=True, width=200, highlight=False, soft_wrap=True)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# In a pipe


def test_a_pipe_gets_one_plain_line_for_every_trial_that_ended() -> None:
    progress, output = in_a_pipe(4)
    with progress:
        second_point = point(seed=3, init="scratch", learning_rate=1e-4)
        progress.trial_started(point())
        progress.trial_started(second_point)
        progress.trial_reported(0.5)
        assert output.getvalue() == "", "nothing has ended yet"
        progress.trial_finished(point(), result(0.8125))
        progress.started = time.monotonic() - 6000
        progress.trial_started(point(seed=4))
        progress.trial_finished(second_point, result(0.625, 0.5))
    first, second = output.getvalue().splitlines()
    assert first.startswith(
        "[1/4] pretrained adam 1e-05 seed 2: valid 0.8125, test 0.7500, 4 epochs, 2 min "
        "(1 running, 0 failed, 0 diverged, best valid 0.8125, about "
    )
    assert second == (
        "[2/4] scratch adam 0.0001 seed 3: valid 0.6250, test 0.5000, 4 epochs, 2 min "
        "(1 running, 0 failed, 0 diverged, best valid 0.8125, about 1.7 h left)"
    )
    assert "\x1b" not in output.getvalue() and "\r" not in output.getvalue()
    assert output.getvalue().endswith(")\n")


def test_the_last_line_has_no_time_left() -> None:
    progress, output = in_a_pipe(1)
    with progress:
        progress.trial_started(point())
        progress.trial_finished(point(), result(0.5))
    assert output.getvalue().endswith("(0 running, 0 failed, 0 diverged, best valid 0.5000)\n")


def test_the_best_score_is_of_all_evaluations_and_may_be_negative() -> None:
    progress, output = in_a_pipe(3)
    for score in (-0.5, -0.25, -0.75):
        progress.trial_started(point())
        progress.trial_finished(point(), result(score))
    assert [re.findall(r"best valid (\S+?)[,)]", line) for line in output.getvalue().splitlines()] == [
        ["-0.5000"],
        ["-0.2500"],
        ["-0.2500"],
    ]
    progress.trial_reported(0.125)
    assert progress.best == 0.125


def test_a_diverged_trial_says_so_and_is_no_failure_and_never_the_best() -> None:
    progress, output = in_a_pipe(2)
    progress.trial_started(point())
    progress.trial_finished(point(), result(float("-inf"), None, outcome="diverged"))
    (line,) = output.getvalue().splitlines()
    assert "seed 2: diverged (the training loss became NaN or infinite), 4 epochs, 2 min (" in line
    assert "(0 running, 0 failed, 1 diverged, about " in line
    assert (progress.done, progress.failed, progress.diverged, progress.best) == (1, 0, 1, None)


def test_a_failed_trial_says_why_as_it_stands() -> None:
    progress, output = in_a_pipe(2)
    progress.trial_started(point())
    progress.trial_failed(point(), "UserError: model: [bold]odd[/bold] [/name] cannot be read")
    (line,) = output.getvalue().splitlines()
    assert line.startswith(
        "[1/2] pretrained adam 1e-05 seed 2: FAILED: UserError: model: [bold]odd[/bold] [/name] cannot be read "
        "(0 running, 1 failed, 0 diverged, about "
    )
    assert (progress.done, progress.failed, progress.running) == (0, 1, 0)


def test_a_trial_that_failed_before_it_started_takes_nothing_from_the_count() -> None:
    progress, _ = in_a_pipe(2)
    progress.trial_started(point(seed=0))
    progress.trial_failed(point(seed=1), "no room")
    assert progress.running == 1
    progress.trial_finished(point(seed=0), result(0.5))
    assert progress.running == 0


def test_a_long_line_stays_one_line_on_the_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    progress = SweepProgress(1, NAME)
    with progress:
        progress.trial_started(point())
        progress.trial_failed(point(), "a reason " * 50)
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1 and len(printed) > 450


# On a terminal


def test_a_terminal_gets_a_live_bar_with_the_counts_below_the_lines_and_keeps_its_cursor(terminal: Console) -> None:
    progress = SweepProgress(3, NAME, terminal)
    with progress:
        for seed in (2, 5, 6):
            progress.trial_started(point(seed=seed))
        progress.trial_finished(point(), result(0.8125))
        progress.trial_failed(point(seed=5), "no room")
    text = written(terminal)
    assert text.count(HIDE_CURSOR) == text.count(SHOW_CURSOR) == 1
    assert text.index(HIDE_CURSOR) < text.index(SHOW_CURSOR)
    assert text.replace(SHOW_CURSOR, "").endswith("\n"), "the prompt gets a line of its own"
    plain = [line.strip() for line in re.split(r"[\r\n]+", ANSI.sub("", text)) if line.strip()]
    assert "[1/3] pretrained adam 1e-05 seed 2: valid 0.8125, test 0.7500, 4 epochs, 2 min" in plain
    assert "[2/3] pretrained adam 1e-05 seed 5: FAILED: no room" in plain
    assert plain[-1].startswith("2/3 trials ")
    assert "1 running, 1 failed, 0 diverged, best valid 0.8125, about " in plain[-1]


def test_the_bar_is_closed_when_the_sweep_breaks_off(terminal: Console) -> None:
    with pytest.raises(KeyboardInterrupt), SweepProgress(3, NAME, terminal) as progress:
        progress.trial_started(point())
        raise KeyboardInterrupt
    text = written(terminal)
    assert text.count(HIDE_CURSOR) == text.count(SHOW_CURSOR) == 1
    assert "0/3 trials" in ANSI.sub("", text) and "1 running, 0 failed" in ANSI.sub("", text)
    before = len(text)
    terminal.print("the shell goes on")
    assert written(terminal)[before:] == "the shell goes on\n", "no bar is drawn any more"


# Durations and errors in a few words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (45.4, "45 s"),
        (89, "89 s"),
        (90, "2 min"),
        (720, "12 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (12_600, "3.5 h"),
        (360_000, "100.0 h"),
    ],
)
def test_a_duration_is_in_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


USER_ERROR = """\
Failure # 1 (occurred at 2026-11-21_03-07-12)
\x1b[36mray::WorkerTrial.train()\x1b[39m (pid=12817, ip=192.0.2.2, actor_id=b828b7bd, repr=<sweeps.worker.WorkerTrial>)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/project/trainer/models.py", line 99, in load
    raise UserError(f"model: the weights in {folder} cannot be read")
trainer.errors.UserError: model: the weights in /models/bert cannot be read (HeaderTooLarge)
"""

CHAINED = """\
Failure # 1 (occurred at 2026-11-21_03-07-12)
safetensors_rust.SafetensorError: Error while deserializing header: header too large

During handling of the above exception, another exception occurred:

\x1b[36mray::WorkerTrial.train()\x1b[39m (pid=12817, ip=192.0.2.2)
  File "/project/sweeps/worker.py", line 63, in step
    report = next(self.trial)
RuntimeError: the last one counts: it says more
"""

MULTI_LINE = """\
Failure # 1 (occurred at 2026-11-21_03-07-12)
\x1b[36mray::WorkerTrial.__init__()\x1b[39m (pid=12817, ip=192.0.2.2, actor_id=b828b7bd)
sqlite3.IntegrityError: UNIQUE constraint failed: datasets.experiment_id, datasets.name, datasets.digest

The above exception was the direct cause of the following exception:

\x1b[36mray::WorkerTrial.__init__()\x1b[39m (pid=12817, ip=192.0.2.2, actor_id=b828b7bd)
  File "/site-packages/mlflow/store/db/utils.py", line 188, in make_managed_session
    raise MlflowException(message=e, error_code=BAD_REQUEST) from e
mlflow.exceptions.MlflowException: (sqlite3.IntegrityError) UNIQUE constraint failed: datasets.name
[SQL: INSERT INTO datasets (dataset_uuid, experiment_id, name) VALUES (?, ?, ?)]
[parameters: ('d1', 1, 'splice')]
(Background on this error at: https://sqlalche.me/e/20/gkpj)
"""

ACTOR_DIED = """\
Failure # 1 (occurred at 2026-11-21_03-07-12)
The actor died unexpectedly before finishing this task.
\tclass_name: WorkerTrial
\tactor_id: b828b7bd
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            USER_ERROR,
            "UserError: model: the weights in /models/bert cannot be read (HeaderTooLarge)",
        ),
        (CHAINED, "RuntimeError: the last one counts: it says more"),
        (MULTI_LINE, "MlflowException: (sqlite3.IntegrityError) UNIQUE constraint failed: datasets.name"),
        (ACTOR_DIED, "its worker process died"),
        (ACTOR_DIED.replace("worker process", "node"), "its node died"),
        ("no word of an exception\n\n", "no word of an exception"),
        ("KeyError: 'task'", "KeyError: 'task'"),
    ],
    ids=["user error", "chained", "multi-line", "dead worker", "dead node", "plain text", "one line"],
)
def test_the_line_that_names_the_error_is_found_in_rays_account_of_it(text: str, line: str) -> None:
    assert error_line(text) == line


# What happens besides


def test_a_trial_that_is_taken_up_again_is_told_and_one_that_is_elsewhere_is_not() -> None:
    progress, output = in_a_pipe(3)
    with progress:
        progress.trial_started(point())
        progress.trial_recovers(point(), "its worker process died")
        assert progress.running == 0
        progress.trial_started(point())
        progress.trial_finished(point(), result(0.5))
        progress.trial_started(point(seed=3))
        progress.trial_finished(point(seed=3), {**result(0.5), "outcome": "elsewhere"})
        progress.found_done()
        progress.trial_failed(point(seed=4), "RuntimeError: no luck")
    told, finished, failed = output.getvalue().splitlines()
    assert told == "pretrained adam 1e-05 seed 2: taken up again (its worker process died)"
    assert finished.startswith("[1/3]") and failed.startswith("[3/3]")
    assert (progress.done, progress.found, progress.failed, progress.settled, progress.running) == (1, 1, 1, 3, 0)
