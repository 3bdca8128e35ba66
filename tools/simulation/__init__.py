"""Simulated volumes with known truth, see docs/simulation.md."""

from tools.simulation.blocks import Simulated, demo_volume, parallel_pair, simulate_block
from tools.simulation.effects import EFFECTS, Effects

__all__ = ["EFFECTS", "Effects", "Simulated", "demo_volume", "parallel_pair", "simulate_block"]
