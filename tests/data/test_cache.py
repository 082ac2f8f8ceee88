"""The cache of blocks: shared, bounded, and indifferent to processes that die."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pickle
import random
import shutil
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from data_blocks import exit_code, forked

from jatsr_data.cache import Cache, default_cache_root
from shards.errors import ConfigError, EnvironmentFailure


def content(key: str, size: int) -> bytes:
    return hashlib.shake_128(key.encode()).digest(size)


def use(cache: Cache, key: str, size: int = 1000, log: Path | None = None) -> None:
    """Open a file, expect the right bytes; what is fetched is logged."""

    def fill(file):
        if log:
            handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(handle, f"{key}\n".encode())
            os.close(handle)
        data = content(key, size)
        file.write(data[: size // 2])
        file.write(data[size // 2 :])

    with cache.open(key, size, fill) as file:
        assert file.read() == content(key, size)
        assert not file.writable()


def fetched(log: Path) -> Counter[str]:
    return Counter(log.read_text().split()) if log.exists() else Counter()


def files(cache: Cache) -> dict[str, int]:
    """Name and size of all that is in the cache but its count."""
    found = {}
    for folder, _, names in os.walk(cache.root):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found[name] = os.stat(f"{folder}/{name}").st_size
    found.pop("bytes", None)
    return found


def unwanted(file):
    raise AssertionError("it is there already")


def test_processes_and_threads_fetch_each_file_once(tmp_path):
    cache, log = Cache(tmp_path / "a" / "cache", 1 << 30), tmp_path / "log"
    keys = [f"key{i}" for i in range(25)]
    start, started = os.pipe()

    def work():
        os.close(started)
        os.read(start, 1)  # until all are there
        with ThreadPoolExecutor(3) as pool:
            orders = [random.sample(keys, len(keys)) for _ in range(3)]
            list(pool.map(lambda keys: [use(cache, key, 50_000, log) for key in keys], orders))

    children = [forked(work) for _ in range(4)]
    os.close(started)
    assert [exit_code(child) for child in children] == [0] * 4
    os.close(start)
    assert fetched(log) == Counter(keys)
    assert sorted(files(cache).values()) == [50_000] * 25
    assert cache.root.stat().st_mode & 0o777 == 0o700


def test_who_comes_second_waits_for_the_first(tmp_path):
    cache, reached, release = Cache(tmp_path, 1 << 20), threading.Event(), threading.Event()

    def slowly(file):
        reached.set()
        assert release.wait(60)
        file.write(b"1234")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.open, "x", 4, slowly)
        assert reached.wait(60)
        second = pool.submit(pickle.loads(pickle.dumps(cache)).open, "x", 4, unwanted)
        use(cache, "y")  # another key does not wait
        assert not second.done()
        release.set()
        for future in (first, second):
            with future.result() as file:
                assert file.read() == b"1234"


def test_an_error_is_not_kept_and_the_next_one_tries(tmp_path):
    cache = Cache(tmp_path, 1 << 20)
    reached, release = threading.Event(), threading.Event()

    def failing(file):
        file.write(b"half")
        reached.set()
        assert release.wait(60)
        raise KeyError("the server said no")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.open, "x", 1000, failing)
        assert reached.wait(60)
        second = pool.submit(use, cache, "x")
        release.set()
        with pytest.raises(KeyError, match="the server said no"):
            first.result()
        second.result()
    for wrong in (b"", bytes(999), bytes(1001)):
        with pytest.raises(ValueError, match=f"expected 1000 bytes, {len(wrong)} were written"):
            cache.open("z", 1000, lambda file, wrong=wrong: file.write(wrong))
    assert list(files(cache).values()) == [1000]


def test_the_least_recently_used_files_go(tmp_path):
    cache, log = Cache(tmp_path / "cache", 16_000), tmp_path / "log"
    for i in range(16):
        use(cache, f"{i}", 1000, log)
    for age, path in enumerate(sorted(cache.root.glob("*/*"), key=lambda p: p.stat().st_mtime_ns)):
        os.utime(path, ns=(0, age * 10**9))
    with cache.open("1", 1000, unwanted) as open_file:
        use(cache, "0", 1000, log)
        use(cache, "new", 1000, log)
        assert sum(files(cache).values()) <= 16_000 - 1000
        for i in (0, 1, *range(4, 16)):
            use(cache, f"{i}", 1000, log)
        assert set(fetched(log).values()) == {1}
        for i in (2, 3):
            use(cache, f"{i}", 1000, log)
        assert (fetched(log)["2"], fetched(log)["3"]) == (2, 2)
        cache.drop("1")
        cache.drop("1")
        assert open_file.read() == content("1", 1000)


def test_the_limit_holds_with_many_processes(tmp_path):
    cache, largest = Cache(tmp_path / "cache", 400_000), 12_000

    def work(seed):
        draw, worst = random.Random(seed), 0
        for i in range(100):
            size = draw.randrange(1, largest)
            use(cache, f"{size}" if i % 3 else "always", size if i % 3 else 5000)
            if i % 8 == 0:
                worst = max(worst, sum(files(cache).values()))
        (tmp_path / f"peak{seed}").write_text(str(worst))

    children = [forked(lambda seed=seed: work(seed)) for seed in range(4)]
    assert [exit_code(child) for child in children] == [0] * 4
    worst = max(int((tmp_path / f"peak{seed}").read_text()) for seed in range(4))
    assert 0.8 * cache.limit < worst < 1.25 * cache.limit
    use(cache, "always", 5000, tmp_path / "log")
    assert not fetched(tmp_path / "log")  # it was in use all the time


def kill_while_it_fills(cache: Cache, key: str) -> None:
    """Kill a process between two writes."""
    alive, report = os.pipe()

    def fill(file):
        file.write(bytes(500))
        file.flush()
        os.write(report, b"x")
        signal.pause()

    child = forked(lambda: cache.open(key, 1000, fill))
    os.close(report)
    assert os.read(alive, 1) == b"x"
    os.close(alive)
    os.kill(child, signal.SIGKILL)
    assert exit_code(child) == -signal.SIGKILL


def test_a_killed_process_hinders_nobody(tmp_path):
    cache = Cache(tmp_path, 20_000)
    for key in ("x", "y"):
        kill_while_it_fills(cache, key)
    assert sorted(Path(name).suffix for name in files(cache)) == [".part", ".part"]
    use(cache, "x")
    assert sorted(Path(name).suffix for name in files(cache)) == ["", ".part"]
    for i in range(25):  # until there is no room
        use(cache, f"{i}")
    assert {Path(name).suffix for name in files(cache)} == {""}
    use(cache, "y")


def test_a_lock_does_not_live_on_in_a_child_of_the_killed(tmp_path):
    cache = Cache(tmp_path, 1 << 20)
    alive, report = os.pipe()
    held, holding = os.pipe()

    def work():
        filling = threading.Event()

        def fill(file):
            file.write(bytes(500))
            filling.set()
            signal.pause()

        os.close(holding)
        threading.Thread(target=cache.open, args=("x", 1000, fill), daemon=True).start()
        assert filling.wait(60)
        if os.fork() == 0:
            os.write(report, b"x")
            os.read(held, 1)  # lives until the test ends
            os._exit(0)
        signal.pause()

    child = forked(work)
    os.close(report)
    assert os.read(alive, 1) == b"x"
    os.kill(child, signal.SIGKILL)
    assert exit_code(child) == -signal.SIGKILL
    use(cache, "x")
    os.close(holding)
    assert os.read(alive, 1) == b""  # the orphan is gone
    os.close(alive)
    os.close(held)


def test_torn_files_and_a_lost_count_are_put_right(tmp_path):
    cache, log = Cache(tmp_path / "cache", 20_000), tmp_path / "log"
    for i in range(10):
        use(cache, f"{i}", 1000, log)
    for number, path in enumerate(cache.root.glob("*/*")):
        os.truncate(path, 137 * number)
    for i in range(10):
        use(cache, f"{i}", 1000, log)
    assert set(fetched(log).values()) == {2}
    for damage in (b"", b"not a number", b"-17", b"99999999999"):
        (cache.root / "bytes").write_bytes(damage)
        for i in range(25):
            use(cache, f"{damage!r}{i}")
        assert 10_000 < sum(files(cache).values()) <= 20_000
    (cache.root / "of somebody else").write_text("stays")
    shutil.rmtree(cache.root / "0", ignore_errors=True)
    use(cache, "x")
    assert (cache.root / "of somebody else").read_text() == "stays"
    shutil.rmtree(cache.root)
    use(cache, "x")


def test_the_folder_may_be_removed_while_it_is_used(tmp_path):
    cache = Cache(tmp_path / "cache", 100_000)

    def fill(file):
        shutil.rmtree(cache.root, ignore_errors=True)
        file.write(content("x", 1000))

    filled = iter([fill, lambda file: file.write(content("x", 1000))])
    with cache.open("x", 1000, lambda file: next(filled)(file)) as file:
        assert file.read() == content("x", 1000)


def test_errors_name_what_to_change(tmp_path):
    with pytest.raises(ConfigError, match=r"cache_bytes=99: expected at least the 100 bytes"):
        Cache(tmp_path, 99).open("x", 100, unwanted)
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    for root in (blocked, blocked / "below"):
        with pytest.raises(EnvironmentFailure, match="cannot be kept in the cache") as caught:
            Cache(root, 1000).open("x", 100, unwanted)
        assert str(root) in caught.value.message
        assert "cache_dir" in caught.value.hint
        assert "JATSR_CACHE" in caught.value.hint

    def full(file):
        file.write(b"some")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cache = Cache(tmp_path / "cache", 1000)
    with pytest.raises(EnvironmentFailure, match="No space left on device") as caught:
        cache.open("x", 100, full)
    assert "cache_bytes (now 1000)" in caught.value.hint
    assert files(cache) == {}
    for other in (FileNotFoundError, ConnectionResetError):

        def fail(file, other=other):
            raise other("of the source")

        with pytest.raises(other, match="of the source"):
            cache.open("x", 100, fail)


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("JATSR_CACHE", str(tmp_path / "x"))
    assert default_cache_root() == tmp_path / "x"
    monkeypatch.delenv("JATSR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_root() == tmp_path / "jatsr" / "blocks"
