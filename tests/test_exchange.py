import time

import pytest
import torch

import wzfl
from wzfl import exchange
from wzfl.public import Public
from wzfl.threads import in_threads


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("chunk", [1, 700, 10**6])
@pytest.mark.parametrize("name", ["wyner_ziv", "topk", "none"])
def test_a_few_clients_at_a_time_are_all_at_once(monkeypatch, threads, name, chunk):
    monkeypatch.setitem(exchange._CHUNK, "cpu", chunk)
    updates = torch.randn(5, 300, generator=torch.Generator().manual_seed(0))
    side, public = 0.9 * updates, Public(0, 0, (3, 1, 4, 7, 5), torch.full((5,), 0.1))
    compressor = wzfl.build_compressor(name, bitrate=2)
    payloads = exchange.encode(compressor, updates, public)
    assert payloads == compressor.encode(updates, public)
    estimates, failed = exchange.decode(compressor, payloads, side, public)
    assert torch.equal(estimates, compressor.decode(payloads, side, public))
    assert not failed.any()


def test_results_come_in_the_order_of_the_items(threads):
    def slow_at_first(item):
        time.sleep(0.02 if item == 0 else 0)
        return item**2

    assert in_threads(slow_at_first, range(7)) == [item**2 for item in range(7)]


def test_each_thread_has_one_core(threads):
    cores = in_threads(lambda _: torch.get_num_threads(), range(7))
    assert set(cores) == {1}
    assert torch.get_num_threads() == threads


def test_an_error_is_raised_where_it_can_be_seen(threads):
    with pytest.raises(wzfl.PayloadError, match="got 0 bytes"):
        exchange.decode(
            wzfl.build_compressor("qsgd", bitrate=2),
            [b""] * 5,
            torch.zeros(5, 300),
            Public(0, 0, tuple(range(5))),
        )
