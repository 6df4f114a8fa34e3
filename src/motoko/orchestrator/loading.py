"""Loading the orchestrator function that ``motoko.yaml`` names."""

from __future__ import annotations

import inspect
import sys
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    PathFinder,
    SourceFileLoader,
)
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING, Any, Final, NoReturn

from motoko.errors import OrchestratorLoadError, ParameterError, nearest
from motoko.orchestrator.actions import accepted_arguments, is_async, location

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from motoko.config import WorkflowSettings


SITE: Final = ("site-packages", "dist-packages")


class _FreshLoader(SourceFileLoader):
    """Compiles a module from its source each time.

    Python's cache does not notice an edit within the same second.
    """

    def path_stats(self, path: str) -> NoReturn:
        """Raise OSError, which disables the cache."""
        raise OSError(f"{path} is compiled from its source")


def load_module(config: WorkflowSettings) -> Any:
    """Import the module that holds the orchestrator function; OrchestratorLoadError if it fails.

    The module is added to ``sys.modules``. Its directory becomes the last of ``sys.path``: the
    module can import its neighbours, and these hide no module of Python or of a package.
    """
    name = config.orchestrator_module
    path = config.directory / f"{name}.py"
    if not path.is_file():
        raise _load_error(
            config,
            f"the orchestrator's module {path} does not exist",
            hint="`orchestrator: module.function` names a .py file beside motoko.yaml.",
        )
    _check_name(config, name)
    _add_to_path(str(config.directory))
    spec = spec_from_file_location(name, path, loader=_FreshLoader(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    previous = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        if previous is not None:
            sys.modules[name] = previous
        raise OrchestratorLoadError(
            f"the orchestrator cannot be imported: {type(error).__name__}: {error}",
            file=str(path),
            line=locate_line(error, path),
        ) from error
    return module


def _check_name(config: WorkflowSettings, name: str) -> None:
    """Refuse a name that belongs to a module of Python or Motoko, or to an installed package."""
    if name in ("motoko", "__main__"):
        owner = "a module of Motoko"
    elif name in sys.stdlib_module_names:
        owner = "a module of the standard library"
    elif (origin := _installed(name)) is not None:
        owner = f"an installed package ({origin})"
    else:
        return
    raise _load_error(
        config,
        f"the orchestrator's module {name}.py has the name of {owner}",
        hint="Rename the file, and the module in `orchestrator:`.",
    )


def _installed(name: str) -> str | None:
    """Return the origin of the installed module of that name, None if none exists."""
    spec = PathFinder.find_spec(name, [path for path in sys.path if path.endswith(SITE)])
    return None if spec is None else spec.origin or name


def _add_to_path(directory: str) -> None:
    if directory not in sys.path:
        sys.path.append(directory)
    loaders = (ExtensionFileLoader, EXTENSION_SUFFIXES), (_FreshLoader, SOURCE_SUFFIXES)
    sys.path_importer_cache[directory] = FileFinder(directory, *loaders)


def load_function(module: Any, config: WorkflowSettings) -> Callable[..., Awaitable[Any]]:
    """Return the async function that ``orchestrator:`` names; OrchestratorLoadError if none."""
    name = config.orchestrator_function
    function = getattr(module, name, None)
    if function is None:
        functions = [n for n, f in vars(module).items() if inspect.iscoroutinefunction(f)]
        near = nearest(name, functions)
        raise _load_error(
            config,
            f"{module.__file__} has no function {name!r}, which `orchestrator:` names",
            hint=f"Did you mean {near!r}?" if near else f"Define `async def {name}(workflow)`.",
        )
    if not is_async(function):
        problem, hint = why_not_async(function)
        raise _load_error(
            config,
            f"the orchestrator's function {location(function)} is {problem}",
            hint=f"{hint} `async def {name}(workflow, **params)`.",
        )
    found: Callable[..., Awaitable[Any]] = function
    return found


def main_arguments(
    main: Callable[..., Any], workflow: Any, params: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of an orchestrator function; ParameterError if one is missing."""
    arguments = accepted_arguments(main, params)
    try:
        inspect.signature(main).bind(workflow, **arguments)
    except TypeError as error:
        raise ParameterError(
            f"the orchestrator function cannot be called: {error}",
            hint="Give it as an option of the command, or to execute(name=value).",
        ) from None
    return arguments


def why_not_async(function: Any) -> tuple[str, str]:
    """Return why a function is not async, and the start of a hint."""
    if inspect.isasyncgenfunction(function):
        return "an async generator: it has a `yield`", "Remove the `yield`: write"
    if inspect.isgeneratorfunction(function):
        return "a generator, not async: it has a `yield`", "Remove the `yield`, and write"
    if not callable(function):
        return f"a {type(function).__name__}, not a function", "Write"
    return "not async", "Write"


def _load_error(config: WorkflowSettings, message: str, *, hint: str) -> OrchestratorLoadError:
    line = config.orchestrator_line
    return OrchestratorLoadError(message, file=str(config.path), line=line, hint=hint)


def locate_line(error: BaseException, path: Path) -> int | None:
    """Return the last line of ``path`` in an error's traceback."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
