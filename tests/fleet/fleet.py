"""The fleet: starts its members, kills some of them by turns, starts those again, and counts what each has got."""

from __future__ import annotations

import importlib
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
# How long nothing may come before it is given up, in seconds: groups and leases of killed members end within that.
SILENCE = 90.0
PAUSE = 0.02


@dataclass
class Counted:
    """What one consumer has got, over all its lives."""

    numbers: Counter[int] = field(default_factory=Counter)
    by: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def twice(self) -> int:
        return sum(self.numbers.values()) - len(self.numbers)


class Member:
    """A member, started again each time it was killed."""

    def __init__(self, broker: str, flavour: str, url: str, subject: str, numbers: range | None, logs: Path) -> None:
        self.flavour = flavour
        self.numbers = numbers
        self.next = None if numbers is None else numbers.start
        self.counted = Counted()
        self.kills = 0
        self.readied = threading.Event()
        self._command = [sys.executable, "-m", "tests.fleet.member", broker, flavour, url, subject]
        self._log = logs / f"{flavour}-{'consumes' if numbers is None else 'publishes'}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._readers: list[threading.Thread] = []

    @property
    def done(self) -> bool:
        """Whether it has published all that it is to."""
        return self.numbers is not None and self.next == self.numbers.stop

    def start(self) -> None:
        numbers = [] if self.numbers is None else [str(self.next), str(self.numbers.stop)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*self._command, *numbers], cwd=ROOT, stdout=subprocess.PIPE, stderr=log)
        assert self._process.stdout is not None
        reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        reader.start()
        self._readers.append(reader)

    def kill(self) -> None:
        """Kill it, by its pid, and hear what it said last."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._readers[-1].join()

    def killed_and_again(self) -> None:
        self.kills += 1
        self.kill()
        self.start()

    def look_after(self) -> None:
        """Start a publisher again that has ended before it was done; a client may have lost its connection."""
        if self._process is not None and self._process.poll() is not None and not self.done:
            self._readers[-1].join()
            if not self.done:
                self.start()

    def _read(self, lines: IO[bytes]) -> None:
        for line in lines:
            word, _, rest = line.decode().strip().partition(" ")
            if word == "got":
                number, by = rest.split()
                self.counted.numbers[int(number)] += 1
                self.counted.by[by] += 1
            elif word == "published":
                self.next = int(rest) + 1
            elif word == "ready":
                self.readied.set()
            else:
                self.counted.wrong.append(line.decode())


@dataclass
class Fleet:
    """Members on one broker.

    Attributes:
        events: how many are published, by all publishers together.
        kills: how many members are killed meanwhile.
    """

    broker: str
    url: str
    subject: str
    events: int
    kills: int
    seed: int
    logs: Path
    publishers: list[Member] = field(default_factory=list)
    consumers: list[Member] = field(default_factory=list)
    seconds: float = 0.0

    def run(self) -> None:
        """Publish all, kill some, and wait until each consumer has got all, or nothing comes any more."""
        self.logs.mkdir(parents=True, exist_ok=True)
        self._enlist()
        started = time.monotonic()
        try:
            for member in self.consumers:  # ours first: it makes what the others find
                member.start()
                if not member.readied.wait(SILENCE):
                    raise RuntimeError(f"{member.flavour} did not begin; its log is in {self.logs}")
            for member in self.publishers:
                member.start()
            self._see_through()
        finally:
            for member in (*self.publishers, *self.consumers):
                member.kill()
            self.seconds = time.monotonic() - started

    def missing(self) -> dict[str, int]:
        """How many events each consumer has not got, of those that miss some."""
        left = {each.flavour: self.events - len(each.counted.numbers) for each in self.consumers}
        return {flavour: count for flavour, count in left.items() if count}

    def _enlist(self) -> None:
        members = importlib.import_module(f"tests.fleet.{self.broker}")
        where, share = (self.url, self.subject), self.events // len(members.PUBLISHERS)
        for place, flavour in enumerate(members.PUBLISHERS):
            end = self.events if place == len(members.PUBLISHERS) - 1 else (place + 1) * share
            numbers = range(place * share, end)
            self.publishers.append(Member(self.broker, flavour, *where, numbers, self.logs))
        self.consumers += [Member(self.broker, flavour, *where, None, self.logs) for flavour in members.CONSUMERS]

    def _see_through(self) -> None:
        chance = random.Random(self.seed)
        whole, count, heard = self.events * len(self.consumers), 0, time.monotonic()
        at = sorted(chance.sample(range(1, whole), self.kills))
        everybody = [*self.publishers, *self.consumers]
        order = [everybody[each % len(everybody)] for each in chance.sample(range(self.kills), self.kills)]
        while count < whole and time.monotonic() - heard < SILENCE:
            now = sum(len(each.counted.numbers) for each in self.consumers)
            if now > count:
                count, heard = now, time.monotonic()
            while at and count >= at[0]:
                at.pop(0)
                self._kill(order.pop(), everybody)
            for member in self.publishers:
                member.look_after()
            time.sleep(PAUSE)

    def _kill(self, member: Member, everybody: list[Member]) -> None:
        """Kill a member; in the place of a publisher that is done the next one that is not, or a consumer."""
        start = everybody.index(member)
        living = [each for each in everybody[start:] + everybody[:start] if not each.done]
        living[0].killed_and_again()
