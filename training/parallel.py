"""Train on CPU with a single-threaded process per core, averaging gradients.

On small convolutions this is faster than one process with as many threads. With one process
nothing is spawned and nothing is exchanged.
"""

import math
import os
import socket
import time
from argparse import Namespace
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

Worker = Callable[[int, Namespace], None]


def launch(worker: Worker, args: Namespace) -> None:
    """Run `worker(rank, args)` in each of `args.processes` processes of `args.threads` threads."""
    if args.processes == 1:
        torch.set_num_threads(args.threads)
        worker(0, args)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_enter, (worker, args, port), nprocs=args.processes)


def _enter(rank: int, worker: Worker, args: Namespace, port: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(args.threads)
    dist.init_process_group("gloo", rank=rank, world_size=args.processes)
    worker(rank, args)
    dist.barrier()
    dist.destroy_process_group()


def spend(minutes: float) -> Iterator[float]:
    """Yield the share of the time that is spent, from 0 until it reaches 1; rank 0 decides.

    At least one share is yielded, so that any budget trains a step.
    """
    started, share = time.perf_counter(), 0.0
    while share < 1:
        yield share
        share = (time.perf_counter() - started) / (minutes * 60)
        if dist.is_initialized():
            agreed = torch.tensor([share])
            dist.broadcast(agreed, 0)
            share = agreed.item()


class Trainer:
    """AdamW with warm-up, a cosine over the time budget, clipped averaged gradients and an EMA."""

    def __init__(
        self,
        parameters: list[torch.nn.Parameter],
        learning_rate: float,
        *,
        ema_decay: float,
        betas: tuple[float, float] = (0.9, 0.98),
        weight_decay: float = 0.01,
    ):
        self.parameters = parameters
        self.learning_rate = learning_rate
        self.ema_decay = ema_decay
        self.optimizer = torch.optim.AdamW(
            parameters, learning_rate, betas=betas, weight_decay=weight_decay, foreach=True
        )
        self.ema = [p.detach().clone() for p in parameters]
        self.step_count = 0

    def step(self, loss: torch.Tensor, share: float) -> float:
        """Apply one update at `share` of the schedule; return the gradient norm."""
        loss.backward()
        norm = self._average_gradients()
        warm_up = min(1.0, (self.step_count + 1) / 60)
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * warm_up * cosine
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step_count += 1
        decay = min(self.ema_decay, (self.step_count + 1) / (self.step_count + 20))
        torch._foreach_lerp_(self.ema, [p.detach() for p in self.parameters], 1 - decay)
        return norm

    def _average_gradients(self) -> float:
        """Put the processes' mean gradient, clipped to norm 1, in place; return its norm."""
        flat = torch.cat([p.grad.reshape(-1) for p in self.parameters])
        if dist.is_initialized():
            dist.all_reduce(flat)
            flat /= dist.get_world_size()
        norm = flat.norm().item()
        flat *= min(1.0, 1.0 / (norm + 1e-6))
        parts = flat.split([p.numel() for p in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.grad.copy_(part.view_as(parameter))
        return norm

    def use_ema(self) -> None:
        """Put the averaged weights into the model."""
        for parameter, average in zip(self.parameters, self.ema, strict=True):
            parameter.data.copy_(average)
