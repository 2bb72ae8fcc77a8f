"""Small games in batched numpy: ``Domain("grid_catch", variation={"wind": 0.5})``."""
