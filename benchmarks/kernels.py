"""The hot operations against their naive forms, all in one run.

python benchmarks/kernels.py --root DIR     # DIR holds gowalla/train.txt, or is downloaded to
"""

from __future__ import annotations

import argparse
import os

import torch
from report import milliseconds, table, write
from torch.nn.functional import normalize

from pyg_kd.datasets import Gowalla, SyntheticInteractions
from pyg_kd.functional import edge_scores, full_topology_loss, normalized_adjacency, propagate
from pyg_kd.typing import ITEM, USER


def propagation(data, dim: int, num_layers: int) -> dict[str, float]:
    """Ours; gather-scatter over both directions of the edges; the bare CSR products."""
    adjacency = normalized_adjacency(data)
    num_users, num_items = data[USER].num_nodes, data[ITEM].num_nodes
    x_user = torch.randn(num_users, dim, requires_grad=True)
    x_item = torch.randn(num_items, dim, requires_grad=True)
    user, item = data[USER, ITEM].edge_index
    source = torch.cat([item + num_users, user])
    target = torch.cat([user, item + num_users])
    degree = torch.bincount(source, minlength=num_users + num_items).clamp(min=1)
    weight = (degree[source] * degree[target]).float().rsqrt().unsqueeze(1)
    matrices = [
        torch.sparse_csr_tensor(block.ptr, block.col, block.value, size)
        for block, size in zip(
            adjacency, ((num_users, num_items), (num_items, num_users)), strict=True
        )
    ]

    def ours() -> None:
        out = propagate(x_user, x_item, adjacency, num_layers)
        torch.autograd.grad([o.sum() for o in out], [x_user, x_item])

    def gather_scatter() -> None:
        x = torch.cat([x_user, x_item])
        out = x
        for _ in range(num_layers):
            x = torch.zeros_like(x).index_add(0, target, weight * x[source])
            out = out + x
        torch.autograd.grad((out / (num_layers + 1)).sum(), [x_user, x_item])

    def bare() -> None:
        with torch.no_grad():
            for _ in range(2 * num_layers):  # forward and backward
                torch.mm(matrices[0], x_item)
                torch.mm(matrices[1], x_user)

    names = ("ours", "gather-scatter", "bare CSR products")
    return dict(zip(names, milliseconds(ours, gather_scatter, bare, runs=5), strict=True))


def scores(num_users: int, num_items: int, num_edges: int, dim: int) -> dict[str, float]:
    """Ours against gather, multiply, sum; forward and backward, edges sorted by user."""
    user = torch.randint(num_users, (num_edges,)).sort().values
    item = torch.randint(num_items, (num_edges,))
    edge_index = torch.stack([user, item])
    x_user = torch.randn(num_users, dim, requires_grad=True)
    x_item = torch.randn(num_items, dim, requires_grad=True)
    weight = torch.randn(num_edges)

    def ours() -> None:
        s = edge_scores(x_user, x_item, edge_index)
        torch.autograd.grad((s * weight).sum(), [x_user, x_item])

    def naive() -> None:
        s = (x_user[user] * x_item[item]).sum(1)
        torch.autograd.grad((s * weight).sum(), [x_user, x_item])

    return dict(zip(("ours", "naive"), milliseconds(ours, naive, runs=5), strict=True))


def topology(
    num_entities: int, dense: bool, width: int = 20, teacher: int = 200
) -> dict[str, float]:
    """Ours against the dense form; forward and backward."""
    t = torch.randn(num_entities, teacher)
    s = torch.randn(num_entities, width, requires_grad=True)

    def ours() -> None:
        torch.autograd.grad(full_topology_loss(s, t), s)

    def naive() -> None:
        a_t, a_s = normalize(t, dim=1), normalize(s, dim=1)
        torch.autograd.grad((a_t @ a_t.t() - a_s @ a_s.t()).square().sum(), s)

    if not dense:
        return {"ours": milliseconds(ours)[0]}
    return dict(zip(("ours", "naive"), milliseconds(ours, naive, runs=3), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default=os.environ.get("PYG_KD_DATA", "data") + "/gowalla")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    try:
        data, name = Gowalla(args.root)[0], "gowalla"
    except (FileNotFoundError, OSError) as error:
        print(f"{error}\ncontinuing on a SYNTHETIC graph of the same size")
        data = SyntheticInteractions(None, num_users=29858, num_items=40981, num_edges=810128)[0]
        name = "SYNTHETIC"

    result = {"graph": name, "propagation": propagation(data, dim=64, num_layers=2)}
    result["edge_scores"] = scores(29_858, 40_981, 1_000_000, dim=20)
    result["topology 10000"] = topology(10_000, dense=True)
    result["topology 40000"] = topology(40_000, dense=False)
    propagation_ms, scores_ms = result["propagation"], result["edge_scores"]
    small, large = result["topology 10000"], result["topology 40000"]
    ratios = {
        "propagation: gather-scatter / ours (aim 10)": propagation_ms["gather-scatter"]
        / propagation_ms["ours"],
        "propagation: ours / bare CSR (aim below 1.3)": propagation_ms["ours"]
        / propagation_ms["bare CSR products"],
        "edge scores: naive / ours (aim 8)": scores_ms["naive"] / scores_ms["ours"],
        "topology, 10,000 entities: dense / ours (aim 10)": small["naive"] / small["ours"],
        "topology: 40,000 / 10,000 entities (aim below 5)": large["ours"] / small["ours"],
    }
    table(
        ["milliseconds", "form", "median"],
        [
            [name, form, ms]
            for name, forms in result.items()
            if isinstance(forms, dict)
            for form, ms in forms.items()
        ],
    )
    table(["ratio", "value"], [[name, value] for name, value in ratios.items()])
    write("kernels", {"milliseconds": result, "ratios": ratios})


if __name__ == "__main__":
    main()
