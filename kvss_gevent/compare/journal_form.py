"""The form of a journal's settings and rows: what a damaged one is told by, before anything is computed from it."""

from typing import Any, Final

from kvss_gevent.compare.experiments import NAMES
from kvss_gevent.models import MODULES

MAX_NUMBER: Final = 1e15
CONTESTANTS: Final = {f"{name}{kind}" for name in MODULES for kind in ("", "+disk", "+again")}

SETTINGS: Final = {
    "seed": int,
    "profile": {"quick", "full"},
    "repeats": int,
    "generations": int,
    "may_add": bool,
    "server_cores": int,
    "contestants": [CONTESTANTS],
    "experiments": [set(NAMES)],
    "left_out": {...: str},
    "trials": [list],
    "command": str,
    "machine": {
        "processor": str,
        "processors": int,
        "server_processors": [int],
        "generator_processors": [int],
        "memory_gib": float,
        "kernel": str,
        "python": str,
        "gil": str,
        "compiler": str,
        "packages": {...: str},
        "load_average": [float],
        "began": str,
        "revision": str,
    },
}

ROW: Final = {
    "experiment": set(NAMES),
    "model": str,
    "repeat": int,
    "x": float,
    "figures": {...: float},
    "errors": {...: int},
    "limited": bool,
    "case": str,
    "disturbed": bool,
    "failed": str,
}


def fits(value: Any, form: Any) -> bool:
    """Tell whether a value has a form.

    A form is a type, where float stands for any number; a set of texts; [form] for a list; {...: form} for a mapping
    with any names; or a mapping from each name that must be there to its form.
    """
    if isinstance(form, list):
        return isinstance(value, list) and all(fits(one, form[0]) for one in value)
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return False
        forms = dict.fromkeys(value, form[...]) if ... in form else form
        return all(name in value and fits(value[name], each) for name, each in forms.items())
    if isinstance(form, set):
        return isinstance(value, str) and value in form
    if form in (int, float):
        return isinstance(value, int | form) and -MAX_NUMBER < value < MAX_NUMBER
    return isinstance(value, form)
