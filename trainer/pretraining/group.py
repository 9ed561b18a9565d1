"""Several processes, on a GPU each, that share the sequences of every step."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Group:
    """This process among those that train together; alone unless said otherwise.

    Attributes:
        rank: from 0 to size - 1; the first one records.
        is_first_here: whether it is the first one on its machine.
    """

    rank: int = 0
    size: int = 1
    is_first_here: bool = True

    @classmethod
    def current(cls, *, is_first_here: bool) -> "Group":
        """The process group that torch.distributed has been told of; it must stand."""
        from torch import distributed

        return cls(rank=distributed.get_rank(), size=distributed.get_world_size(), is_first_here=is_first_here)

    @contextmanager
    def one_first(self) -> Iterator[None]:
        """The first one on each machine goes through the block before the others: what it leaves on disk serves all."""
        from torch import distributed

        if self.size > 1 and not self.is_first_here:
            distributed.barrier()
        try:
            yield
        finally:
            if self.size > 1 and self.is_first_here:
                distributed.barrier()

    def wrapped(self, model: torch.nn.Module) -> torch.nn.Module:
        """The model, its gradients the mean over the group."""
        return torch.nn.parallel.DistributedDataParallel(model) if self.size > 1 else model

    def without_exchange(self, model: torch.nn.Module) -> AbstractContextManager[None]:
        """Inside the block gradients are only added up; what is missing is exchanged with the next."""
        waits: Callable[[], AbstractContextManager[None]] = getattr(model, "no_sync", nullcontext)
        return waits()

    def gathered(self, said: str) -> list[str]:
        """What each of the group says, by rank."""
        if self.size == 1:
            return [said]
        from torch import distributed

        everything = [""] * self.size
        distributed.all_gather_object(everything, said)
        return everything

    def add_up(self, values: torch.Tensor) -> None:
        """Sums a tensor over the group, in place."""
        if self.size > 1:
            from torch import distributed

            distributed.all_reduce(values)
