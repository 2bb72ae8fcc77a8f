"""Groups of somebody else's worlds in processes of their own: in step with this one, whatever goes wrong in one of them."""

import contextlib
import multiprocessing
import os
import pickle
import signal

import numpy as np
import pytest

from simreal_envs.fleets import Fleets


class Picky(Exception):
    """It cannot be made again from what it says, as pickle would."""

    def __init__(self, what, where):
        super().__init__(f"{what} in {where}")


class Group:
    """Some worlds that count; those of the first group fail at 3."""

    def __init__(self, first, count):
        self._at, self._first = np.zeros(count, dtype=int), first and count == 2

    def add(self, numbers):
        self._at = self._at + numbers
        if self._first and (self._at == 3).any():
            raise Picky("three", "the first group")
        return self._at

    def some(self, ids, numbers):
        return numbers + ids

    def one(self, world):
        return f"world {world} of {len(self._at)}"

    def pid(self):
        return os.getpid()

    def unsendable(self):
        return lambda: None

    def close(self):
        pass


@pytest.fixture
def fleets():
    """Two groups, of two and of three worlds, in two processes."""
    with contextlib.closing(Fleets(Group, (True,), 5, 2)) as made:
        yield made


def test_groups_in_processes_answer_as_one_group_here_does(fleets):
    alone, ids = Fleets(Group, (False,), 5, 0), np.array([1, 2, 4])
    assert [rows.stop for rows in fleets.rows] == [2, 5] and [rows.stop for rows in alone.rows] == [5]
    for each in (alone, fleets):
        own = [(np.arange(5)[rows],) for rows in each.rows]
        assert np.concatenate(each.call("add", own)).tolist() == [0, 1, 2, 3, 4]
        assert sum(len(part) for part in each.some("some", ids, 10 * ids)) == 3
    assert alone.some("some", ids, 10 * ids)[0].tolist() == [11, 22, 44]
    assert [part.tolist() for part in fleets.some("some", ids, 10 * ids)] == [[11], [20, 42]]
    assert fleets.one("one", 4) == "world 2 of 3" and alone.one("one", 4) == "world 4 of 5"
    assert alone.all("pid") == [os.getpid()] and len({os.getpid(), *fleets.all("pid")}) == 3


def test_after_an_error_in_one_process_the_others_answer_what_they_are_asked(fleets):
    fleets.all("add", 2)
    with pytest.raises(RuntimeError, match="three in the first group"):  # pickle could not make it again
        fleets.all("add", 1)
    assert [part.tolist() for part in fleets.all("add", 1)] == [[4, 4], [4, 4, 4]]


def test_what_cannot_be_sent_is_told_and_the_process_survives(fleets):
    before = fleets.all("pid")
    with pytest.raises((AttributeError, pickle.PicklingError), match=r"pickle|local object"):
        fleets.all("unsendable")
    assert fleets.all("pid") == before


def test_processes_survive_interrupts_and_their_death_is_reported_every_time(fleets):
    first, second = fleets.all("pid")
    os.kill(first, signal.SIGINT)  # as Ctrl-C does to all processes of a terminal
    assert fleets.all("pid") == [first, second]
    os.kill(second, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="a process with worlds died with exit code -9"):
            fleets.all("pid")
    fleets.close()
    fleets.close()


def test_a_group_that_cannot_be_made_is_an_error_and_leaves_no_process():
    before = multiprocessing.active_children()
    with pytest.raises(TypeError, match="positional argument"):
        Fleets(Group, (), 5, 2)
    assert multiprocessing.active_children() == before
