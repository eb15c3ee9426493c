"""A student whose tables lie on several processes, distilled from a teacher whose tables do, too.

Trains a wide matrix factorisation and extracts its lists, trains a narrow one alone and with
relaxed ranking distillation, and exports that as a bundle, from which it recommends at the end.

    python examples/sharded_mf.py                                        # two processes
    torchrun --nproc-per-node 2 examples/sharded_mf.py                   # the same
    python examples/sharded_mf.py --dataset movielens-100k --root data/ml-100k --processes 2

On several machines, torchrun is called on each of them, with --nnodes, --node-rank and
--rdzv-endpoint, and ``--out`` is a folder that all of them see. A run that was interrupted goes on
with ``--resume``, on any number of processes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import distributed as dist
from torch_geometric.data import HeteroData

from pyg_kd import RelaxedRankingDistillation, evaluate, extract_knowledge
from pyg_kd.datasets import MovieLens100K, SyntheticInteractions
from pyg_kd.knowledge import load_knowledge, save_knowledge
from pyg_kd.retrieval import load_student
from pyg_kd.sharding import (
    ShardedMF,
    ShardedTrainer,
    launch,
    map_model,
    process_group,
    save_sharded_student,
)
from pyg_kd.transforms import UserSplit

LISTED = 100


def dataset(args: argparse.Namespace) -> HeteroData:
    """The interactions, the same in every process."""
    if args.dataset == "movielens-100k":
        return MovieLens100K(args.root)[0]
    return SyntheticInteractions(num_users=args.users, num_items=400, num_edges=40 * args.users)[0]


def taught(teacher: ShardedMF, train: HeteroData, out: Path) -> HeteroData:
    """The graph with the teacher's lists, which the first process extracts for all."""
    mapped, file = map_model(teacher, train, out / "teacher-tables"), out / "lists.safetensors"
    if dist.get_rank() == 0:
        save_knowledge(extract_knowledge(mapped, train, num_items=LISTED, progress=False), file)
    dist.barrier()
    return load_knowledge(file, train)


def main(args: argparse.Namespace) -> None:
    """What every process does."""
    first, out = dist.get_rank() == 0, Path(args.out)
    train, val, test = UserSplit(seed=0)(dataset(args))

    def fit(name: str, dim: int, graph: HeteroData, distillations: list) -> ShardedMF:
        model = ShardedMF(graph, dim, sharding=args.sharding, init_std=0.1)
        trainer = ShardedTrainer(
            max_epochs=args.epochs,
            batch_size=2048,
            lr=0.1,
            checkpoint_dir=out / name,
            progress=not args.quiet,
        )
        trainer.fit(model, graph, val_data=val, distillations=distillations, resume=args.resume)
        found = evaluate(
            map_model(model, graph, out / f"{name}-tables"), graph, test, k=20, progress=False
        )
        if first:
            print(f"{name:10} width {dim:3}  Recall@20 {found['recall@20']:.4f}", flush=True)
        return model

    teacher = fit("teacher", 64, train, [])
    graph = taught(teacher, train, out)
    fit("alone", args.dim, graph, [])
    ranking = RelaxedRankingDistillation(num_interesting=20, num_uninteresting=20)
    student = fit("student", args.dim, graph, [(ranking, args.weight)])
    save_sharded_student(student, out / "bundle", graph=graph)
    if first:
        user = int(graph["user"].raw_id[0]) if "raw_id" in graph["user"] else 0
        items, _ = load_student(out / "bundle").search([user], k=5)
        print(f"for user {user}: {items[0].tolist()}, served from {out / 'bundle'}")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--processes", type=int, default=2, help="without torchrun")
    parser.add_argument("--sharding", choices=["row", "table"], default="row")
    parser.add_argument("--dataset", choices=["synthetic", "movielens-100k"], default="synthetic")
    parser.add_argument("--root", default="data/ml-100k", help="folder of MovieLens-100K")
    parser.add_argument("--users", type=int, default=1000, help="of the synthetic data")
    parser.add_argument("--dim", type=int, default=8, help="width of the student")
    parser.add_argument("--weight", type=float, default=0.1, help="of the distillation")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", default="out/sharded")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    return parser.parse_args()


if __name__ == "__main__":
    options = parse()
    if dist.is_torchelastic_launched():
        with process_group("cpu"):
            torch.set_num_threads(1)
            main(options)
    else:
        launch(main, options, num_processes=options.processes, accelerator="cpu")
