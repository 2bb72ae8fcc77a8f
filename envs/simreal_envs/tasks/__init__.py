"""All tasks by the name that users type."""

from simreal_envs.tasks.base import Task, check_task
from simreal_envs.tasks.cartpole_swingup import CartpoleSwingup
from simreal_envs.tasks.quadruped import Quadruped

TASKS: dict[str, Task] = {task.name: task for task in (CartpoleSwingup(), Quadruped())}

__all__ = ["TASKS", "Task", "check_task"]
