"""One round: a sweep that is run, disturbed, run again where it was ended, and held against what it promises."""

import random
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.kinds import Fault
from benchmarks.processes import POLL_S, Command, is_worker, kill_all, title_of, trial_workers
from benchmarks.promise import Losses, Recorded, check_folders, check_sweeps, count_losses
from benchmarks.scene import NUM_CELLS, Scene, Wiring

ROUND_S = 420  # in which a round must end, on a busy machine
STOP_S = 10  # in which a driver must end when it is asked to
DEATH_S = 30  # in which workers must follow their driver
MOST_COMMANDS = 10  # that a round may need
REFUSED = "error: MLFLOW_TRACKING_URI: no answer from"


@dataclass(kw_only=True)
class Outcome:
    """What became of a round.

    Attributes:
        inflicted: the kind of each fault that struck before all was over.
        story: what happened, with the seconds since the start.
        exceptions: how many commands ended by themselves with an error.
        troubles: how the promise was broken.
    """

    seed: int
    inflicted: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    num_commands: int = 0
    exceptions: int = 0
    seconds: float = 0.0
    losses: Losses = field(default_factory=Losses)
    troubles: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        said = "kept" if not self.troubles else f"BROKEN: {'; '.join(self.troubles)}"
        what = f"{self.num_commands} commands, {self.seconds:.0f} s"
        return f"round {self.seed}: {'; '.join(self.story) or 'nothing struck'}; {what}: {said}"


class Round:
    """A sweep of its own experiment and folder."""

    def __init__(self, scene: Scene, wiring: Wiring, name: str, seed: int) -> None:
        self.scene, self.wiring, self.experiment = scene, wiring, name
        self.folder = scene.folder / name
        self.folder.mkdir()
        self.commands: list[Command] = []
        self._seed, self._random = seed, random.Random(seed)
        self._healing: threading.Thread | None = None
        self._was_away = False  # the server, since the latest command was started

    # Running it

    def run(self, faults: Sequence[Fault]) -> Outcome:
        """Runs the sweep to its end, with faults."""
        outcome = self.outcome = Outcome(seed=self._seed)
        self._started = time.monotonic()
        try:
            self._start()
            for fault in faults:
                if self._await(fault):
                    self._inflict(fault)
            self._wait_for(lambda: False)
            while any(command.is_running for command in self.commands) and self._in_time():
                time.sleep(POLL_S)
            self._heal()
        finally:
            if any(command.is_running for command in self.commands):
                outcome.troubles.append(f"not over after {ROUND_S} s")
            for command in self.commands:
                command.end()
        outcome.num_commands, outcome.seconds = len(self.commands), time.monotonic() - self._started
        return outcome

    @property
    def output(self) -> str:
        """What the first command that came to the sweep's end has printed."""
        return next((command.output for command in self.commands if command.status == 0), "")

    def _start(self) -> None:
        log = self.folder / f"command-{len(self.commands)}.log"
        self._was_away = self._healing is not None
        environment = self.scene.environment(self.experiment, self.folder)
        self.commands.append(Command(self.wiring.words(self.scene, self.folder), environment, log))

    def _in_time(self) -> bool:
        return time.monotonic() - self._started < ROUND_S

    def _num_done(self) -> int:
        """How many cells are done, as the drivers say."""
        numbers = re.findall(rf"\[(\d+)/{NUM_CELLS}\]", "".join(command.output for command in self.commands))
        return max(map(int, numbers), default=0)

    def _await(self, fault: Fault) -> bool:
        """Waits for a fault's moment; False when the sweep is over before."""
        if not self._wait_for(lambda: self._num_done() >= fault.after):
            return False
        moment = time.monotonic() + fault.delay
        return self._wait_for(lambda: time.monotonic() >= moment)

    def _wait_for(self, condition: Callable[[], bool]) -> bool:
        """Waits, and runs the command again where it has ended too early; False when the sweep is over before."""
        while not condition():
            if not self._in_time():
                return False
            running = [command for command in self.commands if command.is_running]
            if not running and not self._go_on():
                return False
            time.sleep(POLL_S)
        return True

    def _go_on(self) -> bool:
        """When no driver is left: False when the sweep is over, else the same command runs again."""
        last = self.commands[-1]
        if any(command.status == 0 for command in self.commands):
            return False
        if last.status == 2 and self._was_away and REFUSED in last.output:
            self._tell("no server at the start, which it says")
        else:
            self.outcome.exceptions += 1
            said = last.output.strip().splitlines()[-1:] or ["nothing"]
            self._tell(f"{last.log.name} ended with status {last.status} ({said[0][:200]})")
        self._heal()
        if len(self.commands) >= MOST_COMMANDS:
            return False
        self._start()
        return True

    def _tell(self, text: str) -> None:
        self.outcome.story.append(f"{time.monotonic() - self._started:.0f} s {text}")

    # The faults

    def _inflict(self, fault: Fault) -> None:
        running = [command for command in self.commands if command.is_running]
        if not running or (fault.kind == "two" and not self.wiring.is_ours):  # a Tuner has one driver
            return
        self._tell(str(fault))
        struck = True
        match fault.kind:
            case "driver":
                self._kill_driver(self._random.choice(running))
            case "stop":
                self._stop_driver(self._random.choice(running))
            case "worker":
                struck = self._kill_worker()
            case "node":
                struck = self._kill_node()
            case "server":
                self._take_away(self.scene.server.kill, self.scene.server.start, fault.lasts)
            case "pause":
                server = self.scene.server
                self._take_away(
                    lambda: server.signal(signal.SIGSTOP), lambda: server.signal(signal.SIGCONT), fault.lasts
                )
            case "two":
                self._start()
        if struck:
            self.outcome.inflicted.append(fault.kind)

    def _kill_driver(self, command: Command) -> None:
        below = self._below(command)
        command.kill()
        self._run_again()
        self._bury(below, "its death")

    def _stop_driver(self, command: Command) -> None:
        below = self._below(command)
        asked = time.monotonic()
        command.process.terminate()
        while command.is_running and time.monotonic() - asked < 6 * STOP_S:
            time.sleep(POLL_S)
        seconds = time.monotonic() - asked
        self._tell(f"stopped within {seconds:.1f} s, status {command.status}")
        if seconds > STOP_S and self.wiring.is_ours:
            self.outcome.troubles.append(f"SIGTERM took {seconds:.1f} s")
        command.kill()
        if command.status != 0:
            self._run_again()
        self._bury(below, "its end")

    def _run_again(self) -> None:
        if not any(command.is_running for command in self.commands):
            self._start()

    def _below(self, command: Command) -> list[int]:
        """The workers that must not outlive a driver; some of Ray's own agents do, and are killed in the end."""
        if self.scene.cluster is None:
            return [pid for pid in command.below() if is_worker(pid)]
        is_alone = sum(command.is_running for command in self.commands) == 1
        return self.scene.workers_on_nodes() if is_alone else []

    def _bury(self, process_ids: Sequence[int], event: str) -> None:
        """Waits until a driver's workers have followed it, and kills those that do not."""
        killed = time.monotonic()
        while left := [pid for pid in process_ids if is_worker(pid)]:
            if time.monotonic() - killed > DEATH_S:
                names = ", ".join(sorted(f"{title_of(pid)} ({pid})" for pid in left))
                self.outcome.troubles.append(f"left {DEATH_S} s after {event}: {names}")
                kill_all(left)
                return
            time.sleep(POLL_S)

    def _kill_worker(self) -> bool:
        """Kills a trial's process, as soon as there is one; False when the sweep is over before."""
        found: list[int] = []

        def is_there() -> bool:
            found[:] = self._workers()
            return bool(found)

        if not self._wait_for(is_there):
            return False
        kill_all([self._random.choice(found)])
        return True

    def _workers(self) -> list[int]:
        if self.scene.cluster is not None:
            return self.scene.workers_on_nodes()
        return trial_workers(pid for command in self.commands if command.is_running for pid in command.below())

    def _kill_node(self) -> bool:
        cluster = self.scene.cluster
        if cluster is None:
            return False
        cluster.kill_node(self._random.choice(self.scene.nodes()))
        cluster.add_node()
        return True

    def _take_away(self, hurt: Callable[[], None], heal: Callable[[], None], seconds: float) -> None:
        """Takes the server away for a while, in which other things may happen."""
        self._heal()
        hurt()
        self._was_away = True

        def later() -> None:
            time.sleep(seconds)
            heal()

        self._healing = threading.Thread(target=later)
        self._healing.start()

    def _heal(self) -> None:
        """Waits until the server is back."""
        if self._healing is not None:
            self._healing.join()
            self._healing = None

    # The promise

    def check(self, outcome: Outcome, reference: Mapping[str, Recorded], table: str) -> None:
        """Holds the sweep against the undisturbed one."""
        store, kept = self.scene.store, self.wiring.kept
        outcome.losses = count_losses(store, self.experiment, reference, kept)
        if outcome.losses:
            outcome.troubles.append(str(outcome.losses))
        if outcome.exceptions:
            outcome.troubles.append(f"{outcome.exceptions} commands ended with an error")
        if not any(command.status == 0 for command in self.commands):
            outcome.troubles.append("the sweep did not come to its end")
        elif self.wiring.is_ours:
            ended = [command for command in self.commands if command.status == 0]
            outcome.troubles += [f"{one.log.name} has another table" for one in ended if table_of(one.output) != table]
            outcome.troubles += check_sweeps(store, self.experiment, kept) + check_folders(self.folder)


def table_of(output: str) -> str:
    """The rows of the table that a sweep prints at its end."""
    found = re.search(r"^init .*?\n\n", output, flags=re.MULTILINE | re.DOTALL)
    return found[0] if found else ""
