"""All randomness of an epoch derives from the seed of a run and the number of the epoch."""

from __future__ import annotations

import torch


def seed_epoch(seed: int, epoch: int) -> None:
    """Seed PyTorch for an epoch, the same in all processes and whenever a run goes on from it."""
    torch.manual_seed((seed + 1) * 7_919 + epoch)
