from __future__ import annotations

import asyncio
import threading

import pytest

from pyg_kd.retrieval.service.batching import Batcher
from pyg_kd.retrieval.service.refused import Refused


def _run(main):
    return asyncio.run(asyncio.wait_for(main, 30))


def _batcher(do, **options) -> Batcher:
    return Batcher(do, **{"max_batch": 4, "max_waiting": 100, "name": "test", **options})


def test_everyone_gets_the_result_of_their_own():
    sizes = []

    def double(work):
        sizes.append(len(work))
        return [2 * number for number in work]

    async def main():
        batcher = _batcher(double)
        found = await asyncio.gather(*(batcher.submit(number) for number in range(30)))
        later = await batcher.submit(50)
        batcher.close()
        return found, later

    assert _run(main()) == ([2 * number for number in range(30)], 100)
    assert sizes == [4] * 7 + [2, 1]


def test_what_arrives_during_a_batch_is_the_next_one():
    sizes, begun, go = [], threading.Event(), threading.Event()

    def slow(work):
        sizes.append(len(work))
        begun.set()
        go.wait(20)
        return work

    async def main():
        batcher = _batcher(slow, max_batch=64)
        first = asyncio.ensure_future(batcher.submit(0))
        await asyncio.to_thread(begun.wait, 20)
        rest = [asyncio.ensure_future(batcher.submit(number)) for number in range(1, 6)]
        await asyncio.sleep(0)
        assert len(batcher) == 5 and not first.done()  # the loop runs on
        go.set()
        assert await asyncio.gather(first, *rest) == [0, 1, 2, 3, 4, 5]
        batcher.close()

    _run(main())
    assert sizes == [1, 5]


def test_a_failure_is_of_its_batch_and_an_exception_among_results_of_its_work():
    def some(work):
        if "all" in work:
            raise RuntimeError("all")
        return [Refused(422, word) if word == "one" else word for word in work]

    async def main():
        batcher = _batcher(some)
        asked = (batcher.submit(word) for word in ("fine", "one", "good"))
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert found[0] == "fine" and found[2] == "good" and found[1].error == "one"
        with pytest.raises(RuntimeError, match="all"):
            await batcher.submit("all")
        assert await batcher.submit("fine") == "fine"
        batcher.close()

    _run(main())


def test_more_than_may_wait_is_refused():
    go = threading.Event()

    def slow(work):
        go.wait(20)
        return work

    async def main():
        batcher = _batcher(slow, max_batch=1, max_waiting=3)
        asked = [asyncio.ensure_future(batcher.submit(number)) for number in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Refused) as refused:
            await batcher.submit(9)
        assert refused.value.status == 503 and refused.value.response().headers["retry-after"]
        go.set()
        assert await asyncio.gather(*asked) == [0, 1, 2]
        assert await batcher.submit(4) == 4
        batcher.close()

    _run(main())


def test_work_whose_asker_has_gone_is_left_out():
    done, begun, go = [], threading.Event(), threading.Event()

    def slow(work):
        done.extend(work)
        begun.set()
        go.wait(20)
        return work

    async def main():
        batcher = _batcher(slow)
        first = asyncio.ensure_future(batcher.submit(0))
        await asyncio.to_thread(begun.wait, 20)
        gone = asyncio.ensure_future(batcher.submit(1))
        stays = asyncio.ensure_future(batcher.submit(2))
        await asyncio.sleep(0)
        gone.cancel()
        first.cancel()  # while it is being worked on
        await asyncio.sleep(0)
        go.set()
        assert await stays == 2
        batcher.close()

    _run(main())
    assert done == [0, 2]
