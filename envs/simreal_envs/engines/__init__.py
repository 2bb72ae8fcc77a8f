"""What computes a world: MuJoCo and Bullet behind one protocol."""
