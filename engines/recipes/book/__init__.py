"""The recipes, each a module with its `RECIPE` and the text of the manifest beside it."""

from __future__ import annotations

from importlib import import_module

from engines.recipes.errors import DataUnusable
from engines.recipes.recipe import Recipe

NAMES = ("intro", "cxr_pneumonia", "cxr_quality", "ct_quality", "lungs")


def find_recipe(name: str) -> Recipe:
    """Return a recipe by its name.

    Raises
    ------
    DataUnusable
        If there is none of that name.
    """
    if name not in NAMES:
        raise DataUnusable(f"no recipe is called {name}", hint=f"one of {', '.join(NAMES)}")
    recipe: Recipe = import_module(f"{__name__}.{name}").RECIPE
    return recipe
