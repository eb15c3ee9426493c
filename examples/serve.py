"""From MovieLens-100K to a running service and a request.

Trains a teacher, distils it into a narrow student, saves the student as a bundle, reads lists from
the bundle, and asks a service that runs in a process of its own.

    python examples/serve.py                # about a minute
    python examples/serve.py --no-serve     # without the service, which needs pyg_kd[serve]

The same service, with a page to try it, until it is stopped:

    pyg-kd serve out/serve/bundle --teacher out/serve/teacher --titles out/serve/titles.csv
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import torch

from pyg_kd import RelaxedRankingDistillation, Trainer, evaluate, extract_knowledge
from pyg_kd.datasets import MovieLens100K, SyntheticInteractions
from pyg_kd.models import LightGCN
from pyg_kd.retrieval import load_student, save_student
from pyg_kd.transforms import UserSplit

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument("--dataset", default="movielens-100k", choices=["movielens-100k", "synthetic"])
parser.add_argument("--root", help="folder of the data set (default: $PYG_KD_DATA or data/)")
parser.add_argument("--out", default="out/serve", type=Path, help="folder for the bundle")
parser.add_argument("--epochs", default=15, type=int, help="maximum number of epochs")
parser.add_argument("--no-serve", action="store_true", help="stop before the service")
args = parser.parse_args()

# 1. Data: who rated what. Ids of users and films are those of the file, and films have titles.
label = args.dataset
try:
    if args.dataset == "movielens-100k":
        root = args.root or Path(os.environ.get("PYG_KD_DATA", "data")) / "ml-100k"
        data = MovieLens100K(root)[0]
except OSError as error:
    print(f"{error}\n{args.dataset} is unavailable: using SYNTHETIC data instead", flush=True)
    args.dataset = "synthetic"
if args.dataset == "synthetic":
    label = "SYNTHETIC"
    data = SyntheticInteractions(num_users=600, num_items=300, num_edges=15_000, seed=0)[0]
train, val, test = UserSplit(val=0.1, test=0.2, seed=0)(data)
films = train["item"].get("raw_id", torch.arange(train["item"].num_nodes)).tolist()
titles = dict(zip(films, train["item"].get("title") or map("item {}".format, films), strict=True))

# 2. A teacher of width 64, and a student of width 8 that learns from its lists.
trainer = Trainer(max_epochs=args.epochs, batch_size=2048, lr=0.01, seed=0)
torch.manual_seed(0)
teacher = LightGCN(train, dim=64)
trainer.fit(teacher, train, val_data=val)
graph = extract_knowledge(teacher, train, num_items=100)
student = LightGCN(graph, dim=8)
distillation = RelaxedRankingDistillation(num_uninteresting=200, scale=10.0)
trainer.fit(student, graph, val_data=val, distillations=[(distillation, 1.0)])
for name, model in {"teacher": teacher, "student": student}.items():
    print(f"{label}, {name}: Recall@20 {evaluate(model, train, test)['recall@20']:.4f}")

# 3. Everything that is served goes into one folder: tables of a byte a number, ids, seen items.
save_student(student, args.out / "bundle", graph=graph, dtype="int8", validation=val)
save_student(teacher, args.out / "teacher", graph=train)
index = load_student(args.out / "bundle")  # this needs neither PyTorch nor the graph
print(f"{index}: {index.nbytes:,} bytes in {args.out / 'bundle'}")


def show(heading, items):
    print(f"\n{heading}", *(f"  {titles[item]}" for item in items), sep="\n")


# 4. Lists: of a user who was there in training, and of a new one who liked three films.
user = train["user"].get("raw_id", torch.arange(train["user"].num_nodes)).tolist()[0]
show(f"for user {user}:", index.search([user], k=5)[0][0].tolist())
liked = {"Star Wars (1977)", "Alien (1979)", "Blade Runner (1982)"}
history = [film for film in films if titles[film] in liked] or films[:3]
show("a new user's history:", history)
show("for this new user:", index.search_history(history, k=5)[0][0].tolist())
if args.no_serve:
    raise SystemExit

# 5. The service, as `pyg-kd serve` starts it, at a free port, which it tells on the error stream.
with (args.out / "titles.csv").open("w", newline="") as file:
    csv.writer(file).writerows([("item", "title"), *titles.items()])
command = [sys.executable, "-m", "pyg_kd.cli", "serve", args.out / "bundle", "--port", 0]
command += ["--teacher", args.out / "teacher", "--titles", args.out / "titles.csv"]
service = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
for line in service.stderr:
    print(line, end="", file=sys.stderr)
    if listening := re.search(r'"port":(\d+)', line):
        break
else:
    raise SystemExit("the service did not start")
try:
    url, body = f"http://127.0.0.1:{listening[1]}/recommend", json.dumps({"user": user, "k": 5})
    request = Request(url, body.encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as response:
        answer = json.load(response)
finally:
    service.send_signal(signal.SIGTERM)  # what was asked by then is answered
show(f"POST {url} {body}:", [item["id"] for item in answer["items"]])
print(f"\nthe service stopped with exit code {service.wait(timeout=30)}")
