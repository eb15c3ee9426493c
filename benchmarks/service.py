"""What the service holds on the cores that it shares with its clients.

python benchmarks/service.py        # needs wrk (Debian: apt-get install wrk)

wrk sends every request from this machine to 127.0.0.1. It is a closed loop by itself. For a rate
that is held, a script delays each request until its moment of a random schedule, over more
connections than there are requests at a time, which makes it an open loop.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from report import table, write

from pyg_kd.retrieval import TopKIndex, save_index

#: Users, items, seen items of each user, and width: the size of CiteULike, and of Gowalla.
SIZES = {"citeulike": (5_220, 25_182, 20, 64), "gowalla": (29_858, 40_981, 27, 64)}

#: Most requests that are ranked together, as by default.
BATCH = 32

#: Requests at a fixed rate: a Poisson process, drawn by each thread of wrk for itself.
SCRIPT = """
local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long ns; } moment; int clock_gettime(int, moment *);")
local held = ffi.new("moment")
local function now()
  ffi.C.clock_gettime(1, held)
  return tonumber(held.s) * 1e3 + tonumber(held.ns) / 1e6
end
local due, number, kinds = nil, 0, "%(kinds)s"
math.randomseed(7)
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
function delay()
  if %(rate)s == 0 then return 0 end
  if due == nil then due = now() end
  due = due - math.log(1 - math.random()) * 1e3 / %(rate)s
  return math.max(0, math.floor(due - now() + 0.5))
end
function request()
  number = number + 1
  local user = math.random(0, %(users)d - 1)
  if kinds == "mixed" and number %% 10 == 0 then
    local body = '{"user":' .. user .. ',"item":' .. math.random(0, %(items)d - 1) .. '}'
    return wrk.format(nil, "/events", nil, body)
  elseif kinds == "mixed" and number %% 10 == 5 then
    local item = math.random(0, %(items)d - 9)
    local history = item .. "," .. item + 3 .. "," .. item + 8
    return wrk.format(nil, "/recommend", nil, '{"history":[' .. history .. '],"k":20}')
  end
  return wrk.format(nil, "/recommend", nil, '{"user":' .. user .. ',"k":20}')
end
function done(summary, latency, requests)
  local failed, told = 0, {}
  for _, count in pairs(summary.errors) do failed = failed + count end
  for _, p in ipairs({50, 95, 99, 99.9}) do
    table.insert(told, '"p' .. p .. '":' .. latency:percentile(p) / 1e3)
  end
  print("RESULT {" .. table.concat(told, ",") .. ',"max":' .. latency.max / 1e3
    .. ',"requests":' .. summary.requests .. ',"failed":' .. failed
    .. ',"seconds":' .. summary.duration / 1e6 .. "}")
end
"""

SERVE = """
import json, sys
from pyg_kd.retrieval.service import Limits, serve
told = json.loads(sys.argv[1])
serve(told["bundle"], port=0, workers=told["workers"], limits=Limits(batch=told["batch"]))
"""


def make_bundle(path: Path, users: int, items: int, degree: int, dim: int) -> None:
    """Random vectors and items of a student's size: neither changes what a request costs."""
    draw = np.random.default_rng(0)
    x_user, x_item = (draw.normal(size=(n, dim)).astype(np.float32) for n in (users, items))
    seen = np.arange(users + 1) * degree, draw.integers(0, items, users * degree)
    save_index(TopKIndex(x_user, x_item, seen=seen), path)


class Service:
    """A running service, and what its processes have used."""

    def __init__(self, process: subprocess.Popen[str], port: int, pids: list[int]) -> None:
        self.process, self.port, self.pids = process, port, pids

    def metric(self, pattern: str) -> float:
        """A number of ``/metrics``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        found = re.search(rf"^{pattern} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def cpu_seconds(self) -> float:
        """What the workers have computed for."""
        ticks = 0
        for pid in self.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def busy_seconds() -> float:
    """What all cores have computed for."""
    user, nice, system, *_ = Path("/proc/stat").read_text().split()[1:]
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(bundle: Path, workers: int, batch: int) -> Iterator[Service]:
    """The service in processes of its own, at a port that is free."""
    told = json.dumps({"bundle": str(bundle), "workers": workers, "batch": batch})
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, told], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    port, pids = 0, []
    for line in process.stderr:
        event = json.loads(line)
        port = event.get("port", port)
        pids += [event["pid"]] if event["event"] == "worker started" else []
        if event["event"] == "ready":
            break
    try:
        yield Service(process, port, pids)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def load(
    service: Service, size: str, *, connections: int, seconds: int, rate: int = 0, kinds: str = ""
) -> dict[str, Any]:
    """One run of wrk: latency in milliseconds, requests, and what the workers used."""
    users, items, _, _ = SIZES[size]
    script = SCRIPT % {"users": users, "items": items, "rate": rate, "kinds": kinds}
    before = service.cpu_seconds(), service.metric("pyg_kd_ranking_seconds_total")
    batches = service.metric("pyg_kd_batch_size_count"), service.metric("pyg_kd_batch_size_sum")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        url = f"http://127.0.0.1:{service.port}"
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", "-s", file.name, url]
        start, busy = os.times(), busy_seconds()
        told = subprocess.run(["wrk", *options], capture_output=True, text=True, check=True)
        used = os.times().children_user + os.times().children_system
        used -= start.children_user + start.children_system
    found: dict[str, Any] = json.loads(told.stdout.partition("RESULT ")[2])
    found["rate"] = found["requests"] / found["seconds"]
    each = 1e6 / found["requests"]
    workers = service.cpu_seconds() - before[0]
    found["worker_us"] = workers * each
    found["ranking_us"] = (service.metric("pyg_kd_ranking_seconds_total") - before[1]) * each
    found["client_us"] = used * each
    found["others"] = (busy_seconds() - busy - used - workers) / found["seconds"]
    count = service.metric("pyg_kd_batch_size_count") - batches[0]
    found["batch"] = (service.metric("pyg_kd_batch_size_sum") - batches[1]) / max(count, 1)
    return {name: round(value, 3) for name, value in found.items()}


def measure(size: str, seconds: int, held: int, rates: list[int]) -> dict[str, dict[str, Any]]:
    """All runs by name: how fast a closed loop goes, then which rates are held."""
    runs: dict[str, dict[str, Any]] = {}

    def run(name: str, service: Service, **options: Any) -> dict[str, Any]:
        runs[name] = {**options, **load(service, size, **options)}
        print(name, {key: runs[name][key] for key in COLUMNS}, flush=True)
        return runs[name]

    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder, "bundle")
        make_bundle(bundle, *SIZES[size])
        for workers, batch in ((1, BATCH), (1, 1), (2, BATCH), (2, 1)):
            with running(bundle, workers, batch) as service:
                load(service, size, connections=16, seconds=1)  # warm
                for connections in (1, 16, 64):
                    name = f"closed: {workers} workers, batch {batch}, {connections} connections"
                    run(name, service, connections=connections, seconds=seconds)
        for workers in (1, 2):
            with running(bundle, workers, BATCH) as service:
                load(service, size, connections=16, seconds=1)
                best = rates[0]
                for rate in rates:
                    options = {"connections": 128, "rate": rate}
                    name = f"held: {workers} workers, {rate} a second"
                    if not holds(run(name, service, seconds=seconds, **options), rate):
                        break
                    best = rate
                options = {"connections": 128, "rate": best}
                name = f"held for {held} s: {workers} workers, {best} a second"
                run(name, service, seconds=held, **options)
                name = f"held, with clicks and histories: {workers} workers, {rates[0]} a second"
                options = {"connections": 128, "rate": rates[0], "kinds": "mixed"}
                run(name, service, seconds=seconds, **options)
    return runs


def holds(found: dict[str, Any], rate: int) -> bool:
    """Whether a rate was reached, with a latency below 20 ms for 99 of 100 requests."""
    return bool(found["p99"] < 20 and found["rate"] > 0.97 * rate and not found["failed"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="citeulike")
    parser.add_argument("--seconds", type=int, default=4, help="of each short run")
    parser.add_argument("--held", type=int, default=60, help="seconds for which a rate is held")
    parser.add_argument("--rates", type=int, nargs="+", default=[500, 1000, 1500, 2000, 3000])
    args = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed (Debian: apt-get install wrk)")
    runs = measure(args.size, args.seconds, args.held, args.rates)
    ratios = {
        f"batching / none, {workers} workers, 64 connections": round(
            runs[f"closed: {workers} workers, batch {BATCH}, 64 connections"]["rate"]
            / runs[f"closed: {workers} workers, batch 1, 64 connections"]["rate"],
            2,
        )
        for workers in (1, 2)
    }
    table(
        ["run", *COLUMNS], [[name, *(told[key] for key in COLUMNS)] for name, told in runs.items()]
    )
    generator = subprocess.run(["wrk", "-v"], capture_output=True, text=True).stdout.split(" [")[0]
    write("service", {"size": args.size, "generator": generator, "ratios": ratios, "runs": runs})


#: What is told of a run: requests a second, milliseconds, requests that failed, requests that were
#: ranked together, microseconds of a request in workers, in ranking, and in wrk, and how many cores
#: other processes had meanwhile.
COLUMNS = [
    "rate",
    "p50",
    "p95",
    "p99",
    "p99.9",
    "max",
    "failed",
    "batch",
    "worker_us",
    "ranking_us",
    "client_us",
    "others",
]

if __name__ == "__main__":
    main()
