"""The rule sets that a worker can fold by: those it was started with, and those that are published.

A set is compiled when it is first asked for, in a thread of its own: a second of YAML must not hold
up the beats of the lease. One that is not known is looked for at the end of the topic of control,
each time: whoever gives the command has published it before.
"""

import asyncio
from collections.abc import Callable

from correlator.rules import RuleFaults, RuleSet
from correlator.rules.bundle import rules_of
from firstfault.log import Log
from firstfault.log.control import read_rules
from schemas.control import RuleFiles

OnTrouble = Callable[[str], None]


class Library:
    """Rule sets by hash; the partitions of a worker share one."""

    def __init__(self, log: Log, on_trouble: OnTrouble = lambda _: None) -> None:
        self._log, self._on_trouble = log, on_trouble
        self._published: dict[str, RuleFiles] = {}
        self._compiled: dict[str, RuleSet] = {}
        self._turn = asyncio.Lock()
        self._is_read = False

    async def published(self) -> frozenset[str]:
        """Return the hashes of the sets that were published when first asked, or since.

        Raises:
            LogError: the topic of control cannot be read.
        """
        async with self._turn:
            if not self._is_read:
                await self._read()
            return frozenset(self._published)

    async def find(self, name: str) -> RuleSet | None:
        """Return a published rule set by its hash; None where there is none as yet.

        Raises:
            LogError: the topic of control cannot be read.
        """
        async with self._turn:
            if name not in self._published:
                await self._read()
            bundle = self._published.get(name)
            if bundle is not None and name not in self._compiled:
                await self._compile(name, bundle)
            return self._compiled.get(name)

    async def _read(self) -> None:
        self._published.update(await read_rules(self._log))
        self._is_read = True

    async def _compile(self, name: str, bundle: RuleFiles) -> None:
        try:
            self._compiled[name] = await asyncio.to_thread(rules_of, name, bundle)
        except (RuleFaults, OSError) as error:
            first = str(error).partition("\n")[0]
            self._on_trouble(f"rules:{name} is published, and cannot be used: {first}")
