"""Generating tissue images: fields of arrays, and regions of brain stores."""

from napari_teramind.simulate.plan import RoiPlan, plan_roi
from napari_teramind.simulate.roi import simulate, simulate_to_store
from napari_teramind.simulate.sample import sample

__all__ = ["RoiPlan", "plan_roi", "sample", "simulate", "simulate_to_store"]
