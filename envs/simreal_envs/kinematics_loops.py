"""The walk from the root of a robot to its leaves, over all worlds, as loops that numba compiles."""

from __future__ import annotations

import numpy as np

from simreal_envs.compiled import compiled


@compiled
def turn(local, home, links, sine, versine, sin, ver):
    """Frames of links relative to the ones before: their homes, turned by their joints.

    Args:
        local: to be filled, ``(links, 3, 4, n)``. home: ``(links, 3, 4)``.
        links: that joints move, int64 ``(joints,)``.
        sine, versine: what a joint adds to its home, times sin t and 1 - cos t of its angle, ``(joints, 3, 3)``.
        sin, ver: these of the angles, ``(joints, n)``.
    """
    for link in range(len(home)):
        for row in range(3):
            for column in range(4):
                local[link, row, column] = home[link, row, column]
    for joint in range(len(links)):
        for row in range(3):
            for column in range(3):
                a, b, out = sine[joint, row, column], versine[joint, row, column], local[links[joint], row, column]
                for world in range(len(out)):
                    out[world] += a * sin[joint, world] + b * ver[joint, world]


@compiled
def chain(local, parents, rows):
    """Frames in the world, in place of those relative to the links before: their first rows.

    Args:
        local: ``(links, 3, 4, n)``. parents: of links, 0 for the world, int64 ``(links,)``.
    """
    moved = np.empty((3, local.shape[3]))
    for link in range(len(parents)):
        if parents[link] == 0:  # local is global
            continue
        above, own = local[parents[link]], local[link]
        for column in range(4):
            x, y, z = own[0, column], own[1, column], own[2, column]
            for row in range(rows):
                a, b, c, place, out = above[row, 0], above[row, 1], above[row, 2], above[row, 3], moved[row]
                if column == 3:
                    for world in range(len(out)):
                        out[world] = a[world] * x[world] + b[world] * y[world] + c[world] * z[world] + place[world]
                else:
                    for world in range(len(out)):
                        out[world] = a[world] * x[world] + b[world] * y[world] + c[world] * z[world]
            for row in range(rows):
                own[row, column] = moved[row]
