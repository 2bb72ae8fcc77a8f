"""Pretrain in randomized MuJoCo, transfer to a shifted Bullet world in three ways, and ask which way helps.

python scripts/train_and_transfer.py [--quick]      # minutes; --quick only shows that it runs
"""

import argparse

import simreal as sr

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="two seeds and a few steps")
QUICK = parser.parse_args().quick
SEEDS = range(2) if QUICK else range(5)
SOURCE_STEPS, TARGET_STEPS = (1024, 1024) if QUICK else (200_000, 60_000)
POINTS, EPISODES = (2, 2) if QUICK else (7, 20)

randomized = sr.Randomization({"pole/mass": sr.Uniform(0.6, 1.4), "*/damping": sr.Scale(sr.LogUniform(0.5, 2.0))})
shifted = sr.Shift({"pole/mass": 1.8, "actuator/strength": 0.85, "latency": 0.02})
source = sr.Domain("cartpole_swingup", engine="mujoco", variation=randomized)
target = sr.Domain("cartpole_swingup", engine="bullet", variation=shifted)

agents = [sr.pretrain(source, SOURCE_STEPS, seed, points=POINTS, episodes=EPISODES) for seed in SEEDS]
agents[0].save("runs/train_and_transfer/pretrained")

strategies = {"scratch": sr.Scratch(), "frozen": sr.FrozenEncoder(thaw_at=0.5), "fine_tune": sr.FineTune(lr_scale=0.5)}
runs = {
    name: [sr.transfer(agents[s], target, strategy, TARGET_STEPS, s, points=POINTS, episodes=EPISODES) for s in SEEDS]
    for name, strategy in strategies.items()
}
for name in ("frozen", "fine_tune"):
    print(f"{name:<10}", sr.diagnose(runs[name], scratch=runs["scratch"]))
