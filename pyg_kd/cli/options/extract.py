"""The options of the command ``extract``."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Extracted:
    """What is extracted

    Args:
        run: The folder of a run of train or distill.
        model: Which model of a run of distill: teacher, alone or student; the teacher by default.
        num_items: Items to keep for each user; 500 by default, or all there are.
        num_users: Users to keep for each item; they are found in the same pass.
        users: File with the id of a user on each line; all users by default.
        vectors: Write the embeddings, too.
    """

    run: str = field(metadata={"positional": True})
    model: str | None = None
    num_items: int | None = None
    num_users: int = 0
    users: str | None = None
    vectors: bool = True


@dataclass(frozen=True)
class Shards:
    """The result

    Args:
        out: A folder of Parquet files. An interrupted command is continued when it is given again.
        overwrite: Replace shards of another command.
        part_size: Users, or items, in a file; what an interruption may cost.
        progress: Show progress on standard error.
    """

    out: str
    overwrite: bool = False
    part_size: int = 65_536
    progress: bool = True
