"""What learns and what transfers: networks, normalizer, PPO and bundles. Imports no simulator.

networks     the policy as encoder, trunk and heads
normalizer   running statistics that belong to the agent
ppo          the algorithm, on top of `kernels`, `optimizer`, `gae` and `vecenv`
bundle       agents in memory and on disk
surgery      agents for other sensors, joints and units
export, sb3  agents for and from other programs: ONNX, Stable-Baselines3
"""
