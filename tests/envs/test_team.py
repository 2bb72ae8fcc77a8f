"""What a team makes of a job is what one thread makes of it, whoever is there."""

import os
import threading
import time

import numpy as np
import pytest
from numba import carray

from simreal_envs import team as module
from simreal_envs.compiled import compiled
from simreal_envs.team import (
    BITS,
    DONE,
    FIELDS,
    MOST_PARTS,
    OPEN,
    SHORT,
    SOON,
    TICKET,
    Job,
    Team,
    _write,
    numbers_at,
    room,
    share,
)


def add_up(pointer, part):
    """Write something that takes a while to a row's first place, and how often that was done to its second."""
    fields = carray(pointer, (5,))
    row = carray(numbers_at(fields[1]), (fields[2], fields[3]))[part]
    total = np.float32(0)
    for i in range(fields[4]):
        total += np.float32(i % 7) * row[2]
    row[0] = total
    row[1] += 1


JOB = Job(add_up)


@compiled
def do(box, job, rows, long):
    fields = room(box)
    fields[1], fields[2], fields[3], fields[4] = rows.ctypes.data, rows.shape[0], rows.shape[1], long
    share(box, job, fields, len(rows))


def rows_of(many):
    rows = np.zeros((many, 16), np.float32)
    rows[:, 2] = np.arange(many)
    return rows


def done(team, many, long=50):
    rows = rows_of(many)
    do(team.box, JOB.address, rows, long)
    return rows


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    """More than there may be: threads take turns then."""
    monkeypatch.setattr(module, "_most", lambda: 4)


@pytest.fixture(scope="module")
def team():
    made = Team()
    done(made, 2)
    return made


@pytest.mark.parametrize("many", [0, 1, 2, 63])
@pytest.mark.parametrize("threads", [1, 2, 3, 100])
def test_every_part_is_done_once_to_the_same_bits(team, threads, many):
    alone = done(team, many)
    assert (alone[:, 1] == 1).all()
    with team.at_work(threads):
        for _ in range(300):
            np.testing.assert_array_equal(done(team, many), alone)
    np.testing.assert_array_equal(done(team, many), alone)


def test_others_take_part(team):
    rows = rows_of(8)
    with team.at_work(2):
        box = team.box
        box[FIELDS : FIELDS + 5] = JOB.address, rows.ctypes.data, *rows.shape, 50
        hand_out(box, 8)
        deadline = time.monotonic() + 60
        while box[DONE] < 8 and time.monotonic() < deadline:  # this thread does nothing
            time.sleep(0.001)
    assert (rows[:, 1] == 1).all()


@compiled
def hand_out(box, parts):
    _write(box, DONE, 0)
    _write(box, TICKET, 1 << 60 | parts << BITS)


def test_one_thread_has_the_team_and_others_go_on_alone(team):
    with team.at_work(2):
        mine, theirs = team.box, []
        other = threading.Thread(target=lambda: theirs.extend([team.box, done(team, 9)]))
        other.start()
        other.join()
        assert mine is not theirs[0] and not theirs[0][OPEN]
        np.testing.assert_array_equal(theirs[1], done(team, 9))
        with team.at_work(2):  # who has it keeps it
            assert team.box is mine
        assert team.box is mine
    assert team.box is not mine


def test_several_threads_that_work_at_once_do_not_disturb_each_other(team):
    wrong = []

    def work():
        for _ in range(200):
            with team.at_work(2):
                if not np.array_equal(done(team, 20), expected):
                    wrong.append(1)

    expected = done(team, 20)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_error_gives_the_team_back(team):
    with pytest.raises(KeyError), team.at_work(2):
        raise KeyError
    with team.at_work(2):
        assert team.box[OPEN]


def test_where_the_system_has_no_more_threads_those_that_there_are_go_on(monkeypatch):
    team, start, started = Team(), threading.Thread.start, []

    def start_one(thread):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_one)
    for _ in range(2):
        with team.at_work(4):
            assert (done(team, 9)[:, 1] == 1).all()
    assert len(started) == 1


@pytest.mark.parametrize("inside", [False, True])
def test_a_forked_process_has_a_team_of_its_own(team, inside):
    with team.at_work(2):
        expected = done(team, 9)
        if inside:
            child = os.fork()
    if not inside:
        child = os.fork()
    if not child:
        with team.at_work(2):
            good = np.array_equal(done(team, 9), expected)
        os._exit(not good)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_more_parts_than_a_ticket_can_count_are_done_alone(team):
    with team.at_work(2):
        assert (done(team, MOST_PARTS + 1, 1)[:, 1] == 1).all()


@pytest.mark.parametrize("times", [1, 3])
def test_members_sleep_while_there_is_no_work(team, times):
    for _ in range(times):
        with team.at_work(2):
            done(team, 9)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1


def test_members_stay_awake_where_work_follows_soon(team, monkeypatch):
    begun, soon = iter([1e9, 1e9 + 1, 1e9 + 1 + SHORT / 2, 2e9]), []
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(begun))
    for _ in range(4):
        with team.at_work(2):
            soon.append(bool(team.box[SOON]))
            done(team, 9)
    assert soon == [False, False, True, False]


def test_elsewhere_everything_is_done_alone(team, monkeypatch):
    monkeypatch.setattr(module, "LINUX", False)
    with team.at_work(2):
        assert not team.box[OPEN]
