"""Tabs of the demo, in order."""

from __future__ import annotations

from connectomebench.demo.app_data import Tab, has_samples
from connectomebench.demo.ask_tab import build_ask
from connectomebench.demo.compare_tab import build_compare
from connectomebench.demo.edits_tab import build_edits, has_edits
from connectomebench.demo.explore_tab import build_explore
from connectomebench.demo.look_tab import build_look, can_look
from connectomebench.demo.try_tab import build_try

TABS = (
    Tab("try", "Try it", build_try, has_samples),
    Tab("explore", "Explore", build_explore, has_samples),
    Tab("compare", "Compare", build_compare, has_samples),
    Tab("ask", "Ask the models", build_ask, has_samples),
    Tab("look", "Look around", build_look, can_look),
    Tab("edits", "Edits", build_edits, has_edits),
)
