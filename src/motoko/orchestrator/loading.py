"""Loading the orchestrator function that ``motoko.yaml`` names."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motoko.errors import OrchestratorLoadError, nearest
from motoko.orchestrator.actions import location

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from motoko.config import WorkflowConfig


def load_module(config: WorkflowConfig) -> Any:
    """Import the module that holds the orchestrator function; OrchestratorLoadError if it fails.

    Its directory goes first on ``sys.path``, so that it can import what lies beside it.
    """
    name = config.orchestrator_module
    directory = str(config.directory)
    path = Path(directory) / f"{name}.py"
    if not path.is_file():
        raise _misnamed(
            config,
            f"the orchestrator's module {path} does not exist",
            hint="`orchestrator: module.function` names a .py file beside motoko.yaml.",
        )
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise OrchestratorLoadError(
            f"the orchestrator cannot be imported: {type(error).__name__}: {error}",
            file=str(path),
            line=line_in(error, path),
        ) from error
    return module


def function_of(module: Any, config: WorkflowConfig) -> Callable[..., Awaitable[Any]]:
    """Return the async function that ``orchestrator:`` names; OrchestratorLoadError if none."""
    name = config.orchestrator_function
    function = getattr(module, name, None)
    if function is None:
        functions = [n for n, f in vars(module).items() if inspect.iscoroutinefunction(f)]
        near = nearest(name, functions)
        raise _misnamed(
            config,
            f"{module.__file__} has no function {name!r}, which `orchestrator:` names",
            hint=f"Did you mean {near!r}?" if near else f"Define `async def {name}(workflow)`.",
        )
    if not inspect.iscoroutinefunction(function):
        raise _misnamed(
            config,
            f"the orchestrator's function {location(function)} is not async",
            hint=f"Write `async def {name}(workflow, **params)`.",
        )
    found: Callable[..., Awaitable[Any]] = function
    return found


def _misnamed(config: WorkflowConfig, message: str, *, hint: str) -> OrchestratorLoadError:
    line = config.orchestrator_line
    return OrchestratorLoadError(message, file=str(config.path), line=line, hint=hint)


def line_in(error: BaseException, path: Path) -> int | None:
    """Return the last line of ``path`` that an error came through."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
