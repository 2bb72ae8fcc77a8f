"""Films of agents, where there is OpenGL to draw them with."""

import contextlib
import json

import imageio.v2 as imageio
import numpy as np
import pytest
import tiny

from simreal import results
from simreal.arms import check
from simreal.config_files import dump, parse
from simreal.plan import plan
from simreal.video import _FOOT, _HEAD, _PAPER, FPS, Panel, _Caption, _pictures, _side_by_side, _wrapped, film
from simreal_agents.bundle import load
from simreal_envs.errors import UserError
from simreal_envs.variation import Choice, Domain, Interval
from simreal_envs.worlds import Worlds

SHIFTED = Domain("cartpole_swingup", "bullet", {"pole/mass": 2.0, "latency": 0.02})


pytestmark = pytest.mark.usefixtures("opengl")


def frames(path):
    with imageio.get_reader(path) as reader:
        return [np.asarray(frame) for frame in reader], reader.get_meta_data()


@pytest.mark.parametrize("renderer", ["mujoco", "engine"])
def test_a_film_shows_every_panel_for_as_long_as_asked(tmp_path, finished, renderer):
    agent = load(finished.out / "agents/plain/seed-0")
    panels = [Panel("source", agent, tiny.CARTPOLE), Panel("target", agent, SHIFTED)]
    seen, facts = frames(film(panels, tmp_path / "film.mp4", seconds=0.4, size=(160, 120), renderer=renderer))
    assert len(seen) == round(0.4 * FPS) and facts["fps"] == FPS
    assert seen[0].shape[0] > 120 and seen[0].shape[1] == 322
    assert np.abs(seen[-1].astype(int) - seen[0]).max() > 60  # something moves
    left, right = seen[-1][:, :160].astype(int), seen[-1][:, 162:].astype(int)
    assert np.abs(left - right).max() > 60  # and the two panels are two worlds
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_the_same_film_has_the_same_pictures_and_another_seed_another(tmp_path):
    def middle(seed):
        return frames(film([Panel("", None, SHIFTED)], tmp_path / "a.mp4", seconds=0.4, size=(160, 120), seed=seed))[0][
            5
        ]

    once, again, other = (middle(seed).astype(int) for seed in (0, 0, 1))
    assert np.abs(once - again).max() <= 8 < np.abs(once - other).max()


def test_four_panels_make_two_rows_and_an_episode_that_ends_is_followed_by_the_next(tmp_path):
    panels = [Panel(str(i), None, Domain("quadruped")) for i in range(4)]
    seen, _ = frames(film(panels, tmp_path / "film.mp4", seconds=0.2, size=(160, 120)))
    assert seen[0].shape[1] == 322 and seen[0].shape[0] > 2 * 120
    film([Panel("", None, tiny.CARTPOLE)], tmp_path / "long.mp4", seconds=6.0, size=(64, 48))  # one episode is 5 s


def test_where_no_film_can_be_written_nothing_is_drawn(tmp_path):
    (tmp_path / "taken.mp4").mkdir()
    (tmp_path / "file").write_text("")
    for path, says in (
        (tmp_path / "taken.mp4", "it is a folder"),
        (tmp_path / "file/film.mp4", "file is not a folder that you may"),
    ):
        with pytest.raises(UserError, match=f"cannot write .*mp4: .*{says}"):
            film([Panel("", None, tiny.CARTPOLE)], path)


def test_a_film_of_nothing_is_refused(tmp_path):
    with pytest.raises(UserError, match="at least one panel"):
        film([], tmp_path / "film.mp4")
    with pytest.raises(UserError, match="more than 0 seconds"):
        film([Panel("", None, tiny.CARTPOLE)], tmp_path / "film.mp4", seconds=0)
    with pytest.raises(UserError, match="more than 0 seconds, an hour at most, not 1 and nan"):
        film([Panel("", None, tiny.CARTPOLE)], tmp_path / "film.mp4", seconds=float("nan"))
    assert not list(tmp_path.iterdir())


def test_a_caption_follows_a_parameter_that_changes_within_an_episode():
    domain = Domain("cartpole_swingup", variation={"pole/mass": Interval(Choice([0.5, 1.5]), every=0.02)})
    worlds = Worlds(domain, 1)
    worlds.reset(seed=0)
    caption, picture, seen = _Caption(Panel("", None, domain), worlds, 320), np.zeros((10, 320, 3), np.uint8), set()
    for _ in range(20):
        worlds.step(np.zeros((1, 1)))
        seen.add(caption.over(picture, "", "").tobytes())
    assert len(seen) == 2


def test_a_game_is_named_and_nothing_is_written_over_its_picture():
    domain = Domain("grid_catch", variation={"wind": 0.4})
    with contextlib.closing(_pictures(Panel("", None, domain), 1, 3, (360, 270), "mujoco")) as pictures:
        frame = next(pictures)
    worlds = Worlds(domain, 1)
    worlds.reset(seed=3)
    drawn = worlds.engine.render(0, 360, 270)
    assert frame.shape == (270 + _HEAD + _FOOT, 360, 3) and np.array_equal(frame[_HEAD:-_FOOT], drawn)
    caption = _Caption(Panel("", None, domain), worlds, 360)
    assert caption._lines == ["grid_catch: wind 0.4"]


def test_a_place_that_no_panel_takes_is_paper():
    frame = np.full((6, 8, 3), 9, dtype=np.uint8)
    sheet = _side_by_side([frame] * 3)
    assert sheet.shape == (14, 18, 3) and (sheet[8:, 10:] == _PAPER).all() and (sheet[8:, :8] == 9).all()
    assert (_side_by_side([frame] * 4)[8:, 10:] == 9).all()


def test_captions_break_after_a_comma_and_end_in_dots():
    from PIL import ImageFont

    font = ImageFont.load_default(12)
    words = [f"parameter/{i} 0.{i}" for i in range(9)]
    lines = _wrapped(", ".join(words), 200, font)
    assert len(lines) == 2 and lines[0].endswith(",") and lines[1].endswith(", ...")
    assert all(font.getlength(line) <= 215 for line in lines)
    assert _wrapped("nominal", 200, font) == ["nominal"]


def test_an_experiment_films_every_target_and_the_report_holds_the_films(finished, tmp_path):
    import shutil

    out = tmp_path / "out"
    shutil.copytree(finished.out, out)
    experiment = parse(tiny.CONFIG, "tiny.yaml", ["video=0.2"])[0]
    domains = check(experiment)
    built = json.loads((out / "agents/plain/seed-0/stage.json").read_text())["versions"]
    stage = next(s for s in plan(experiment, domains, out, built) if s.name == "videos/light")
    assert set(stage.needs) == {s.name for s in plan(experiment, domains, out, built) if s.name.startswith("arms/")}
    from simreal.stage_functions import stage_video

    stage.folder.mkdir(parents=True)
    said = stage_video(folder=stage.folder, report=lambda fraction, text: None, **stage.kwargs)
    assert said == "4 views" and len(frames(stage.folder / "video.mp4")[0]) == 5
    assert "data:video/mp4;base64," not in (out / "report.html").read_text()
    results.write_report(out)
    assert "data:video/mp4;base64," not in (out / "report.html").read_text()  # its config asks for none
    (out / "config.yaml").write_text(dump(experiment))
    results.write_report(out)
    page = (out / "report.html").read_text()
    assert page.count("data:video/mp4;base64,") == 1 and "media-src data:" in page


def test_the_command_films_source_and_target_side_by_side(finished):
    words = ("video", "out/agents/plain/seed-0", "tiny.yaml", "--out", "film.mp4", "--seconds", "0.2", "--json")
    done = tiny.cli(*words, cwd=finished.cwd)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["sources"], said["targets"]) == ("plain", "light")
    seen, _ = frames(finished.cwd / said["video"])
    (finished.cwd / said["video"]).unlink()
    assert len(seen) == 5 and seen[0].shape[1] == 962


def test_a_film_needs_an_mp4_and_a_viewer_a_display(finished):
    film_ = tiny.cli("video", "out/agents/plain/seed-0", "tiny.yaml", "--out", "film.gif", cwd=finished.cwd)
    assert film_.returncode == 2 and film_.stderr == "simreal: --out must name an .mp4 file, not 'film.gif'\n"
    shown = tiny.cli("view", "out/agents/plain/seed-0", "tiny.yaml", cwd=finished.cwd, DISPLAY="", WAYLAND_DISPLAY="")
    assert shown.returncode == 2 and "there is no display here" in shown.stderr and "simreal video" in shown.stderr
