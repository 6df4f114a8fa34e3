"""Loading motoko.yaml and bd.yaml, and their error messages."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from motoko.api import variables
from motoko.api.task_manager import TaskManager
from motoko.api.variables import WorkflowVars
from motoko.config import (
    RESERVED_TASK_NAMES,
    GivenOptions,
    StudyConfig,
    TaskManagerSettings,
    find_workflow,
    load_study,
    load_workflow,
)
from motoko.config.study_file import RESERVED_JOB_PARAMETERS
from motoko.config.workflow_file import WorkflowFile
from motoko.core.run_options import generator_name
from motoko.errors import ConfigError, NotAWorkflowError
from motoko.handles import run
from motoko.worker import handles as worker_handles
from motoko.worker.validation import RESERVED_FIELDS
from motoko.workflow import Workflow

pytestmark = pytest.mark.unit

EXAMPLE = Path(__file__).parents[2] / "motoko.yaml.example"
MINIMAL = "task_managers:\n  mult:\norchestrator: steps.main\n"
STUDY = "job:\n  x: float\n"
XY = "job: {x: float, y: float}\n"
SAMPLE = XY + "job_space:\n  sample:\n"
X_SAMPLE = SAMPLE + "    method: lhs\n    n: 4\n    ranges:\n      x: "


def make_study(parent: Path, name: str = "mult", text: str | bytes = STUDY) -> Path:
    directory = parent / name
    directory.mkdir(parents=True)
    (directory / "launch.sh").write_text("true\n")
    write(directory / "bd.yaml", text)
    return directory


def make_workflow(parent: Path, text: str | bytes = MINIMAL, study: str | bytes = STUDY) -> Path:
    make_study(parent, "mult", study)
    file = parent / "motoko.yaml"
    write(file, text)
    return file


def write(file: Path, text: str | bytes) -> None:
    file.write_bytes(text.encode() if isinstance(text, str) else text)


def study_of(parent: Path, text: str) -> StudyConfig:
    return load_study(make_study(parent, "mult", text))


# --- accepted files -------------------------------------------------------------------------------


def test_a_minimal_workflow_has_the_documented_defaults(tmp_path: Path) -> None:
    config = load_workflow(make_workflow(tmp_path))
    assert config.path == tmp_path.resolve() / "motoko.yaml"
    assert config.directory == tmp_path.resolve()
    assert list(config.task_managers) == ["mult"]
    assert (config.orchestrator_module, config.orchestrator_function) == ("steps", "main")
    assert config.aliases == {}
    assert config.given() == {}
    assert config.max_concurrent is None
    assert (config.poll_interval, config.safety_poll) == (2.0, 30.0)

    study = config.studies["mult"]
    assert (study.name, study.study) == ("mult", "mult")
    assert study.directory == tmp_path.resolve() / "mult"
    assert study.path == study.directory / "bd.yaml"
    assert study.job == {"x": "float"}
    assert (study.run, study.job_space, study.run_params) == ({}, {}, {})
    assert study.exec_file == "launch.sh"
    assert study.config_files == ()


def test_the_directory_may_be_named_instead_of_the_file(tmp_path: Path) -> None:
    file = make_workflow(tmp_path)
    assert load_workflow(tmp_path) == load_workflow(file)


def test_studies_are_read_only_on_request(tmp_path: Path) -> None:
    (tmp_path / "motoko.yaml").write_text(MINIMAL)
    assert load_workflow(tmp_path, studies=False).studies == {}


def test_task_managers_keep_their_order(tmp_path: Path) -> None:
    names = ["zeta", "alpha", "mid"]
    for name in names:
        make_study(tmp_path, name)
    keys = "".join(f"  {name}:\n" for name in names)
    (tmp_path / "motoko.yaml").write_text(f"task_managers:\n{keys}orchestrator: a.b\n")
    config = load_workflow(tmp_path)
    assert list(config.task_managers) == names
    assert list(config.studies) == names


def test_options_come_from_workflow_then_task_manager_then_study(tmp_path: Path) -> None:
    text = (
        "task_managers:\n  mult:\n    nproc: 2\n    retries: 5\n    max_concurrent: 3\n"
        "orchestrator: a.b\nnproc: 1\nretries: 1\ntimeout: 10 min\ngenerator: slurmCoat\n"
        "slurm_options: --mem=4G --job-name='two words'\nmax_concurrent: 9\n"
    )
    config = load_workflow(make_workflow(tmp_path, text, STUDY + "retries: 7\n"))
    options = config.options("mult")
    assert options.given() == {
        "nproc": 2,
        "retries": 7,
        "timeout": 600.0,
        "generator": "slurm",
        "slurm_options": ("--mem=4G", "--job-name=two words"),
    }
    assert config.max_concurrent == 9
    assert config.max_concurrent_of("mult") == 3


def test_the_limit_of_a_study_overrides_the_task_manager(tmp_path: Path) -> None:
    text = "task_managers:\n  mult:\n    max_concurrent: 3\norchestrator: a.b\n"
    config = load_workflow(make_workflow(tmp_path, text, STUDY + "max_concurrent: 1\n"))
    assert config.max_concurrent_of("mult") == 1


def test_later_options_override_earlier_ones() -> None:
    first = GivenOptions.model_validate({"nproc": 2, "retries": 3, "bash_options": ["-a"]})
    later = TaskManagerSettings.model_validate(
        {"retries": 0, "bash_options": [], "max_concurrent": 4}
    )
    merged = first.merged(later)
    assert type(merged) is GivenOptions
    assert merged.given() == {"nproc": 2, "retries": 0, "bash_options": ()}


def test_aliases_are_kept(tmp_path: Path) -> None:
    config = load_workflow(make_workflow(tmp_path, MINIMAL + "aliases:\n  times: mult\n"))
    assert config.aliases == {"times": "mult"}


def test_the_models_are_frozen(tmp_path: Path) -> None:
    config = load_workflow(make_workflow(tmp_path))
    with pytest.raises(ValidationError, match="frozen"):
        config.orchestrator = "other.main"
    with pytest.raises(ValidationError, match="frozen"):
        config.studies["mult"].exec_file = "other.sh"


def test_a_full_study_is_read(tmp_path: Path) -> None:
    text = (
        "study: Multiplication\njob:\n  x: float\n  tags: list\n  when: datetime\n  how: str\n"
        "run:\n  factor: float\n  nproc: int\n"
        "job_space:\n  x: [1, 2.5]\n  tags: [a, b]\n  when: 2024-05-01\n"
        "run_params:\n  factor: 2\n  timeout: 10 min\n  slurm_options: [-n, '4']\n"
        "exec_file: go.sh\nconfig_files: [extra.py, doIt.py]\n"
    )
    directory = make_study(tmp_path, "mult", text)
    for name in ("go.sh", "extra.py", "doIt.py"):
        (directory / name).write_text("")
    study = load_study(directory)
    assert (study.name, study.study) == ("mult", "Multiplication")
    assert list(study.job.items()) == [
        ("x", "float"),
        ("tags", "list"),
        ("when", "datetime"),
        ("how", "str"),
    ]
    assert study.run == {"factor": "float"}, "a declared resource is no field"
    assert study.job_space == {
        "x": [1, 2.5],
        "tags": ["a", "b"],
        "when": datetime(2024, 5, 1, tzinfo=UTC),
    }
    assert study.run_params == {"factor": 2, "timeout": 600.0, "slurm_options": ["-n", "4"]}
    assert study.exec_file == "go.sh"
    assert study.config_files == ("extra.py", "doIt.py")


def test_an_existing_do_it_script_is_a_config_file(tmp_path: Path) -> None:
    directory = make_study(tmp_path, "mult", STUDY + "config_files: extra.py\n")
    (directory / "extra.py").write_text("")
    assert load_study(directory).config_files == ("extra.py",)
    (directory / "doIt.py").write_text("")
    assert load_study(directory).config_files == ("doIt.py", "extra.py")


def test_a_directory_is_not_a_config_file(tmp_path: Path) -> None:
    directory = make_study(tmp_path, "mult", STUDY + "config_files:\n- sub\n")
    (directory / "sub").mkdir()
    with pytest.raises(ConfigError, match=r"mult/sub is a directory") as caught:
        load_study(directory)
    assert str(caught.value).endswith("name each file in it, as sub/FILE.")
    (directory / "launch.sh").unlink()
    (directory / "launch.sh").mkdir()
    with pytest.raises(ConfigError, match=r"the script .*launch\.sh is a directory"):
        load_study(directory)


def test_undeclared_run_fields_are_accepted(tmp_path: Path) -> None:
    study = study_of(tmp_path, "run_params: {colour: red, nproc: 2}\n")
    assert study.run_params == {"colour": "red", "nproc": 2}


@pytest.mark.parametrize("name", ["y", "n", "yes", "no", "on", "off", "true"])
def test_keys_are_read_as_text(tmp_path: Path, name: str) -> None:
    study = study_of(tmp_path, f"job:\n  {name}: float\njob_space:\n  {name}: 1.0\n")
    assert study.job == {name: "float"}
    assert study.job_space == {name: 1.0}


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-3", 0.001), ("1E5", 1e5), ("-2.5e3", -2500.0), (".5e1", 5.0), ("+1e+2", 100.0)],
)
def test_exponents_do_not_need_a_dot(tmp_path: Path, written: str, value: float) -> None:
    study = study_of(tmp_path, f"{STUDY}job_space: {{x: {written}}}\n")
    assert study.job_space == {"x": value}


@pytest.mark.parametrize(
    ("written", "type_name", "value"),
    [
        ("1_000", "int", 1000),
        ("0x1F", "int", 31),
        ("0o17", "int", 15),
        ("0b11", "int", 3),
        ("+1", "int", 1),
        ("-0", "int", 0),
        (".5", "float", 0.5),
        ("5.", "float", 5.0),
        ("-1.5E+3", "float", -1500.0),
        ("007.5", "float", 7.5),
        (".inf", "float", math.inf),
        ("12:30", "str", "12:30"),
        ("0123", "str", "0123"),
        ("1:30.5", "str", "1:30.5"),
    ],
)
def test_numbers_have_their_usual_meaning(
    tmp_path: Path, written: str, type_name: str, value: Any
) -> None:
    text = f"job: {{x: {type_name}}}\njob_space:\n  x: {written}\n"
    file = make_workflow(tmp_path, MINIMAL, text)
    found = load_workflow(file).studies["mult"].job_space["x"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("written", ["e5", "1e", "1e5x", "x1e5"])
def test_text_with_an_e_is_not_a_number(tmp_path: Path, written: str) -> None:
    study = study_of(tmp_path, f"job: {{s: str}}\njob_space: {{s: {written}}}\n")
    assert study.job_space == {"s": written}


def test_own_values_override_merged_anchors(tmp_path: Path) -> None:
    text = (
        "task_managers:\n  a: &small {nproc: 1, retries: 1}\n  b: &other {nproc: 7, timeout: 9}\n"
        "  mult: {retries: 2, <<: [*small, *other]}\norchestrator: a.b\n"
    )
    file = tmp_path / "motoko.yaml"
    file.write_text(text)
    merged = load_workflow(file, studies=False).task_managers["mult"]
    assert merged.given() == {"nproc": 1, "retries": 2, "timeout": 9.0}


def test_byte_order_marks_and_windows_line_ends_are_accepted(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode()
    assert load_workflow(make_workflow(tmp_path, text)).orchestrator == "steps.main"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90", 90.0),
        ("1.5", 1.5),
        ("90s", 90.0),
        ("10 min", 600.0),
        ("1h", 3600.0),
        ("1h 30min", 5400.0),
        ("1h30m", 5400.0),
        ("2 Days", 172800.0),
        ("01:30:00", 5400.0),
        ("1:30:00", 5400.0),
        ("05:30", 330.0),
        ("'45'", 45.0),
        ("1h30", 5400.0),
        ("1h 30", 5400.0),
        ("2d12", 216_000.0),
        ("5m30", 330.0),
        ("150:00", 9000.0),
        ("30:00:00", 108_000.0),
        ("1-12:00:00", 129_600.0),
        ("'1-12:00:00'", 129_600.0),
        ("1-12:30", 131_400.0),
        ("1-12", 129_600.0),
        ("1-0", 86_400.0),
        ("0-00:10:00", 600.0),
        ("1e3", 1000.0),
        ("2 weeks", 1_209_600.0),
    ],
)
def test_times_are_seconds_or_text(tmp_path: Path, written: str, seconds: float) -> None:
    file = make_workflow(tmp_path, MINIMAL + f"timeout: {written}\n")
    assert load_workflow(file).given()["timeout"] == seconds


def test_the_safety_poll_can_be_disabled(tmp_path: Path) -> None:
    file = make_workflow(tmp_path, MINIMAL + "safety_poll: off\n")
    assert load_workflow(file).safety_poll == math.inf


@pytest.mark.parametrize(
    ("given", "known"),
    [("bash", "bash"), ("slurm", "slurm"), ("bashCoat", "bash"), ("slurmCoat", "slurm")],
)
def test_old_spellings_of_generators_are_accepted(given: str, known: str) -> None:
    assert generator_name(given) == known


def test_an_unknown_generator_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"unknown generator 'slrum'\n.*'slurm'"):
        generator_name("slrum")


# --- the example ----------------------------------------------------------------------------------


def test_the_example_loads(tmp_path: Path) -> None:
    (tmp_path / "motoko.yaml").write_bytes(EXAMPLE.read_bytes())
    for name in ("prepare", "solve", "analyze"):
        make_study(tmp_path, name)
    config = load_workflow(tmp_path)
    assert list(config.task_managers) == ["prepare", "solve", "analyze"]
    assert config.aliases == {"post": "analyze"}
    assert config.options("solve").given()["timeout"] == 5400.0
    assert config.options("prepare").given()["timeout"] == 43200.0
    # The defaults that it documents are the actual ones.
    fresh = WorkflowFile.model_fields
    assert config.poll_interval == fresh["poll_interval"].default
    assert config.safety_poll == fresh["safety_poll"].default


@pytest.mark.parametrize("key", sorted(WorkflowFile.model_fields))
def test_the_example_has_every_key_of_the_workflow(key: str) -> None:
    assert re.search(rf"^{key}:", EXAMPLE.read_text(), re.MULTILINE)


@pytest.mark.parametrize("key", sorted(TaskManagerSettings.model_fields))
def test_the_example_has_every_key_of_a_task_manager(key: str) -> None:
    assert re.search(rf"^    (# )?{key}:", EXAMPLE.read_text(), re.MULTILINE)


# --- finding the workflow -------------------------------------------------------------------------


def test_a_workflow_is_found_from_its_subdirectories(tmp_path: Path) -> None:
    file = make_workflow(tmp_path / "with space")
    inside = file.parent / "mult" / "deeper"
    inside.mkdir()
    assert find_workflow(file.parent) == file.resolve()
    assert find_workflow(inside) == file.resolve()


def test_the_nearest_workflow_is_found(tmp_path: Path) -> None:
    make_workflow(tmp_path)
    inner = make_workflow(tmp_path / "inner")
    (tmp_path / "inner" / "mult" / "motoko.yaml").mkdir()  # a directory does not count
    assert find_workflow(inner.parent / "mult") == inner.resolve()


def test_outside_a_workflow_the_error_names_the_searched_directory(tmp_path: Path) -> None:
    with pytest.raises(NotAWorkflowError) as caught:
        find_workflow(tmp_path)
    assert str(caught.value).splitlines()[0] == (
        f"no motoko.yaml in {tmp_path.resolve()} or any directory above it"
    )
    assert caught.value.hint is not None
    assert "motoko init" in caught.value.hint


# --- refused files --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class BadFile:
    """A file with one error, and the line, message and hint of the expected report."""

    text: str | bytes
    line: int | None
    message: str
    hint: str | None = None


def rows(**bad: BadFile) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("bad", [pytest.param(row, id=key) for key, row in bad.items()])


def check(error: ConfigError, file: Path | str, bad: BadFile) -> None:
    place = f"{file}: " if bad.line is None else f"{file}:{bad.line}: "
    first = str(error).splitlines()[0]
    assert first.startswith(place)
    assert bad.message in first
    assert (error.file, error.line) == (str(file), bad.line)
    if bad.hint is not None:
        assert error.hint is not None
        assert bad.hint in error.hint
    for word in ("pydantic", "validation error", "Input should", "type=", "Value error"):
        assert word not in str(error)


YAML_ROWS: dict[str, BadFile] = {
    "empty": BadFile("", 1, "the file is empty"),
    "only_comments": BadFile("# nothing\n\n", 1, "the file is empty"),
    "list": BadFile("\n- a\n", 2, "must hold keys and values"),
    "text": BadFile("just words\n", 1, "must hold keys and values"),
    "unclosed": BadFile("a: 1\nb: [1, 2\n", 3, "cannot be read as YAML"),
    "tab": BadFile("a:\n\tb: 1\n", 2, "cannot be read as YAML", "spaces"),
    "two_documents": BadFile("a: 1\n---\nb: 2\n", 2, "another document"),
    "undefined_alias": BadFile("a: 1\nb: *x\n", 2, "undefined alias"),
    "control_character": BadFile("a: 1\nb: \x07\n", 2, "'\\x07' is not allowed"),
    "not_utf8": BadFile(b"a: 1\n# \xe9t\xe9\n", 2, "not UTF-8"),
    "duplicate": BadFile("nproc: 1\nretries: 1\nnproc: 2\n", 3, "'nproc' is given twice", "line 1"),
    "duplicate_deep": BadFile("a:\n  b: 1\n  'b': 2\n", 3, "'b' is given twice", "line 2"),
    "duplicate_on": BadFile("on: 1\non: 2\n", 2, "'on' is given twice"),
    "complex_key": BadFile("a: 1\n? [x]\n: 2\n", 2, "a key must be text"),
    "python_tag": BadFile("a: 1\nb: !!python/object/apply:os.getcwd []\n", 2, "!!python"),
    "python_name": BadFile("a: !!python/name:os.system\n", 1, "is not allowed"),
    "own_tag": BadFile("a: !thing {b: 1}\n", 1, "the tag !thing is not allowed"),
    "set_tag": BadFile("a: !!set {b}\n", 1, "the tag !!set is not allowed"),
    "bad_date": BadFile("nproc: 1\na: 2024-13-45\n", 2, "'2024-13-45' is not of type", "quotes"),
    "bad_int": BadFile("a: !!int x\n", 1, "'x' is not of type int"),
    "bad_bool": BadFile("a: !!bool perhaps\n", 1, "'perhaps' is not of type bool"),
    "bad_tagged_date": BadFile("a: !!timestamp soon\n", 1, "'soon' is not of type timestamp"),
    "cycle": BadFile("a: 1\nb: &b\n  c: [*b]\n", 2, "refers to a node that contains it"),
    "merge_cycle": BadFile("b: &b\n  <<: *b\n", 1, "refers to a node that contains it"),
    "merge_text": BadFile("b:\n  <<: text\n", 2, "only mappings can be merged"),
    "nested_too_deeply": BadFile("a: " + "[" * 600, 1, "nested too deeply"),
}


@rows(**YAML_ROWS)
def test_invalid_yaml_is_refused(tmp_path: Path, bad: BadFile) -> None:
    file = make_workflow(tmp_path / "flow", bad.text)
    with pytest.raises(ConfigError) as caught:
        load_workflow(file)
    check(caught.value, file, bad)

    study = make_study(tmp_path, "mult", bad.text)
    with pytest.raises(ConfigError) as caught:
        load_study(study)
    check(caught.value, study / "bd.yaml", bad)


def test_an_alias_bomb_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [" + "1," * 40 + "]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 40)}]" for n in range(1, 6)]
    file = make_workflow(tmp_path, "\n".join(lines))
    with pytest.raises(ConfigError, match="more than 1000000 values"):
        load_workflow(file)


HEAD = "task_managers:\n  mult:\n    "
TAIL = "\norchestrator: a.b\n"


@rows(
    no_task_managers=BadFile("orchestrator: a.b\n", 1, "'task_managers' is missing"),
    empty_task_managers=BadFile(
        "orchestrator: a.b\ntask_managers:\n", 2, "'task_managers' is missing"
    ),
    no_entries=BadFile("orchestrator: a.b\ntask_managers: {}\n", 2, "task_managers is empty"),
    listed=BadFile(
        "orchestrator: a.b\ntask_managers: [mult]\n", 2, "task_managers must be a mapping"
    ),
    entry=BadFile("task_managers:\n  mult: 3" + TAIL, 2, "task manager 'mult' must hold options"),
    misspelt=BadFile(
        "task_manager:\n  mult:\n", 1, "unknown key 'task_manager'", "'task_managers'"
    ),
    misspelt_later=BadFile(MINIMAL + "\nretrys: 1\n", 5, "unknown key 'retrys'", "'retries'"),
    far_off=BadFile(MINIMAL + "zzz: 1\n", 4, "unknown key 'zzz'", "Known: aliases, "),
    misspelt_inside=BadFile(HEAD + "nprc: 1" + TAIL, 3, "unknown key 'nprc'", "'nproc'"),
    options_of_nothing=BadFile(MINIMAL + "slrm_options: []\n", 4, "unknown key", "'slurm_options'"),
    merged_key=BadFile(
        "task_managers:\n  a: &a {nproc: 1}\n  mult:\n    <<: *a\n    nprc: 1" + TAIL, 5, "'nprc'"
    ),
    host=BadFile(HEAD + "host: zeo:///a" + TAIL, 3, "remote studies are not supported yet"),
    slash=BadFile("task_managers:\n  a/b:" + TAIL, 2, "'a/b' cannot be the name of a task manager"),
    dots=BadFile("task_managers:\n  '..':" + TAIL, 2, "'..' cannot be the name of a task manager"),
    hidden=BadFile("task_managers:\n  .mult:" + TAIL, 2, "'.mult' cannot be the name"),
    underscore=BadFile("task_managers:\n  __all__:" + TAIL, 2, "'__all__' cannot be the name"),
    keyword=BadFile("task_managers:\n  class:" + TAIL, 2, "'class' cannot be the name"),
    dash=BadFile("task_managers:\n  a-b:" + TAIL, 2, "'a-b' cannot be the name", "underscores"),
    number=BadFile("task_managers:\n  1:" + TAIL, 2, "'1' cannot be the name"),
    ligature=BadFile("task_managers:\n  ﬁt:" + TAIL, 2, "Python reads it as 'fit'", "U+0066"),
    taken=BadFile("task_managers:\n  mult:\n  vars:" + TAIL, 3, "Motoko reserves the name"),
    no_orchestrator=BadFile("task_managers:\n  mult:\n", 1, "'orchestrator' is missing"),
    null_orchestrator=BadFile(
        "task_managers:\n  a:\norchestrator:\n", 3, "'orchestrator' is missing"
    ),
    no_dot=BadFile("task_managers:\n  mult:\norchestrator: main\n", 3, "written module.function"),
    dots_too_many=BadFile("task_managers:\n  a:\norchestrator: a.b.c\n", 3, "not 'a.b.c'"),
    no_module=BadFile("task_managers:\n  a:\norchestrator: .main\n", 3, "not '.main'"),
    path=BadFile("task_managers:\n  a:\norchestrator: ../x.main\n", 3, "written module.function"),
    orchestrator_number=BadFile("task_managers:\n  a:\norchestrator: 1.5\n", 3, "must be text"),
    alias_to_nothing=BadFile(MINIMAL + "aliases:\n  b: malt\n", 5, "stands for 'malt'", "'mult'"),
    alias_to_null=BadFile(MINIMAL + "aliases:\n  b:\n", 5, "stands for None"),
    alias_clash=BadFile(MINIMAL + "aliases:\n  mult: mult\n", 5, "has the name of a task manager"),
    alias_taken=BadFile(MINIMAL + "aliases:\n  execute: mult\n", 5, "Motoko reserves the name"),
    alias_name=BadFile(
        MINIMAL + "aliases:\n  a b: mult\n", 5, "'a b' cannot be the name of an alias"
    ),
    aliases_text=BadFile(MINIMAL + "aliases: mult\n", 4, "aliases must be a mapping"),
    generator=BadFile(MINIMAL + "generator: slrum\n", 4, "unknown generator 'slrum'", "'slurm'"),
    generator_list=BadFile(MINIMAL + "generator: [bash]\n", 4, "generator must be text"),
    generator_inside=BadFile(HEAD + "generator: pbs" + TAIL, 3, "unknown generator 'pbs'", "bash"),
    nproc_zero=BadFile(MINIMAL + "nproc: 0\n", 4, "nproc must be a whole number of at least 1"),
    nproc_text=BadFile(MINIMAL + "nproc: four\n", 4, "not 'four'"),
    nproc_bool=BadFile(MINIMAL + "nproc: yes\n", 4, "not True"),
    nproc_fraction=BadFile(MINIMAL + "nproc: 1.5\n", 4, "not 1.5"),
    retries=BadFile(MINIMAL + "retries: -1\n", 4, "retries must be a whole number of at least 0"),
    max_concurrent=BadFile(
        MINIMAL + "max_concurrent: 0\n", 4, "max_concurrent must be a whole number"
    ),
    timeout=BadFile(MINIMAL + "timeout: soon\n", 4, "timeout must be a time, not 'soon'", "10 min"),
    timeout_unit=BadFile(MINIMAL + "timeout: 5 parsecs\n", 4, "not '5 parsecs'"),
    timeout_parts=BadFile(MINIMAL + "timeout: 1h 30 5\n", 4, "not '1h 30 5'"),
    timeout_too_many=BadFile(MINIMAL + "timeout: 1h75\n", 4, "not '1h75'", "1-12:00:00"),
    timeout_clock=BadFile(MINIMAL + "timeout: 1:75:00\n", 4, "not '1:75:00'", "01:30:00"),
    timeout_iso=BadFile(MINIMAL + "timeout: P1D\n", 4, "not 'P1D'"),
    timeout_days=BadFile(MINIMAL + "timeout: 1-\n", 4, "not '1-'"),
    nproc_octal=BadFile(
        MINIMAL + "nproc: 010\n", 4, "nproc must be a whole number", "zeros in front: 10"
    ),
    too_large=BadFile(MINIMAL + "submit_rate: 1e400\n", 4, "'1e400' is too large for a number"),
    tagged=BadFile(MINIMAL + "nproc: !!int 0123\n", 4, "'0123' is not of type int", "quotes"),
    timeout_zero=BadFile(MINIMAL + "timeout: 0\n", 4, "timeout must be a time, not 0"),
    timeout_negative=BadFile(MINIMAL + "timeout: -5\n", 4, "not -5"),
    timeout_nan=BadFile(MINIMAL + "timeout: .nan\n", 4, "not nan"),
    timeout_endless=BadFile(MINIMAL + "timeout: .inf\n", 4, "not inf"),
    timeout_bool=BadFile(MINIMAL + "timeout: on\n", 4, "not True"),
    retry_delay=BadFile(MINIMAL + "retry_delay: [1]\n", 4, "retry_delay must be a time, not [1]"),
    poll_interval=BadFile(MINIMAL + "poll_interval: 0\n", 4, "poll_interval must be a time"),
    safety_poll=BadFile(
        MINIMAL + "safety_poll: on\n", 4, "safety_poll must be a time, not True", "`off`"
    ),
    machine_name=BadFile(MINIMAL + "machine_name: 7\n", 4, "machine_name must be text", "quotes"),
    option=BadFile(MINIMAL + "bash_options:\n  - -x\n  - 4\n", 6, "4 is not one", "quotes"),
    options=BadFile(
        MINIMAL + "slurm_options: {a: b}\n", 4, "slurm_options must be a list of texts"
    ),
    slurm_option=BadFile(
        MINIMAL + "slurm_options:\n  - mem=4G\n  - partitoin=long\n",
        6,
        "slurm_options: 'partitoin=long' cannot be given: sbatch has no option 'partitoin'",
        "Did you mean 'partition'?",
    ),
    slurm_option_inside=BadFile(
        HEAD + "slurm_options: [array=1-3]" + TAIL, 3, "'array=1-3' cannot be given: Motoko makes"
    ),
    slurm_options_text=BadFile(
        MINIMAL + "slurm_options: -p long --wrap=ls\n", 4, "'--wrap=ls' cannot"
    ),
    option_nul=BadFile(MINIMAL + 'bash_options: ["a\\0b"]\n', 4, "is not one"),
    options_quote=BadFile(MINIMAL + 'bash_options: "it\'s"\n', 4, "an unclosed quote"),
    first_of_several=BadFile(MINIMAL + "nproc: 0\nretries: -1\n", 4, "nproc"),
    notify=BadFile(MINIMAL + "notify: mail\n", 4, "notify must be an entry with command"),
    notify_item=BadFile(MINIMAL + "notify: [mail]\n", 4, "notify must be an entry with command"),
    notify_key=BadFile(
        MINIMAL + "notify:\n  - command: [a]\n    onn: [failed]\n", 6, "unknown key 'onn'", "'on'"
    ),
    notify_single=BadFile(
        MINIMAL + "notify:\n  comand: [a]\n", 5, "unknown key 'comand'", "'command'"
    ),
    notify_nothing=BadFile(MINIMAL + "notify:\n  - on: [failed]\n", 5, "either a command or"),
    notify_both=BadFile(
        MINIMAL + "notify:\n  - command: [a]\n    webhook: http://h\n", 5, "either a command or"
    ),
    notify_shell=BadFile(
        MINIMAL + "notify:\n  - command: mail me\n", 5, "command must be a list", "[sh, -c, "
    ),
    notify_number=BadFile(MINIMAL + "notify: {command: [a, 3]}\n", 4, "command must be a list"),
    notify_empty=BadFile(MINIMAL + "notify: {command: []}\n", 4, "command must be a list"),
    notify_event=BadFile(
        MINIMAL + "notify:\n  command: [a]\n  on:\n    - finished\n    - faild\n",
        8,
        "on has no event 'faild'",
        "'failed'",
    ),
    notify_events=BadFile(MINIMAL + "notify: {command: [a], on: failed}\n", 4, "on must be a list"),
    notify_failures=BadFile(
        MINIMAL + "notify: {command: [a], on: [failures]}\n",
        4,
        "failures needs a number",
        "failures: 10",
    ),
    notify_no_failures=BadFile(
        MINIMAL + "notify: {command: [a], on: [failures: 0]}\n", 4, "failures needs a number"
    ),
    notify_timeout=BadFile(
        MINIMAL + "notify: {command: [a], timeout: 0}\n", 4, "timeout must be a time, not 0"
    ),
    notify_scheme=BadFile(
        MINIMAL + "notify: {webhook: 'file:///etc/passwd'}\n", 4, "webhook must be a URL"
    ),
    notify_password=BadFile(
        MINIMAL + "notify: {webhook: 'https://me:it@h/x'}\n", 4, "user name or a password", "curl"
    ),
)
def test_an_invalid_workflow_file_is_refused(tmp_path: Path, bad: BadFile) -> None:
    file = make_workflow(tmp_path, bad.text)
    with pytest.raises(ConfigError) as caught:
        load_workflow(file)
    check(caught.value, file, bad)


@pytest.mark.parametrize(
    "url",
    ["HTTPS://h/SECRET x", "ftp://h/SECRET", "https:///SECRET", "https://h:SECRET/", "[SECRET]"],
)
def test_no_error_about_a_webhook_shows_it(tmp_path: Path, url: str) -> None:
    file = make_workflow(tmp_path, MINIMAL + f"notify:\n  webhook: {url}\n")
    with pytest.raises(ConfigError) as caught:
        load_workflow(file)
    assert "SECRET" not in str(caught.value)
    assert str(caught.value).startswith(f"{file}:5: webhook must be a URL")


def test_notifications_have_the_documented_defaults(tmp_path: Path) -> None:
    text = MINIMAL + "notify:\n  - command: [mail, me]\n  - webhook: https://h:8/SECRET?SECRET\n"
    mail, hook = load_workflow(make_workflow(tmp_path, text)).notify
    names = ["finished", "failed", "stalled", "first_failure", "launcher_silent"]
    assert [str(one) for one in mail.on] == [str(one) for one in hook.on] == names
    assert (mail.command, mail.timeout) == (("mail", "me"), 30.0)
    assert (mail.name, hook.name) == ("command mail", "webhook https://h")
    assert "SECRET" not in repr(hook)
    # A change of events is no other target: no event is notified again.
    changed = text.replace("[mail, me]", "[mail, me]\n    on: [failures: 3, failures: 1_000]")
    (tmp_path / "motoko.yaml").write_text(changed)
    (again, _) = load_workflow(tmp_path).notify
    assert again.id == mail.id != hook.id
    assert [str(one) for one in again.on] == ["failures: 3", "failures: 1000"]


@pytest.mark.parametrize("name", sorted(RESERVED_TASK_NAMES))
def test_task_manager_names_do_not_hide_workflow_attributes(tmp_path: Path, name: str) -> None:
    file = make_workflow(tmp_path, f"task_managers:\n  {name}:{TAIL}")
    with pytest.raises(ConfigError, match=f"'{name}' cannot be the name of a task manager"):
        load_workflow(file)


def public(handle: type) -> set[str]:
    return {name for name in dir(handle) if not name.startswith("_")}


def keywords(method: Any) -> set[str]:
    """Return the keywords that a method accepts in addition to job parameters."""
    taken = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(method).parameters.values()
    return {parameter.name for parameter in parameters if parameter.kind in taken}


@pytest.fixture(scope="module")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    return Workflow(make_workflow(tmp_path_factory.mktemp("workflow")))


def test_every_attribute_of_a_job_is_reserved() -> None:
    taken = public(run.Job) | public(worker_handles.Job)
    for method in ("create_task", "createTask", "find_task", "node"):
        taken |= keywords(getattr(TaskManager, method))
    assert taken >= {"study", "values", "replicate"}
    assert taken - {"job_params"} <= RESERVED_JOB_PARAMETERS


def test_every_attribute_of_a_run_is_reserved() -> None:
    taken = public(run.Run) | public(worker_handles.Run) | set(worker_handles.COLUMNS)
    assert taken >= {"record", "state", "push_quantity", "study"}
    assert taken <= RESERVED_FIELDS


def test_every_attribute_of_the_workflow_is_reserved(workflow: Workflow) -> None:
    attributes = {name for name in vars(workflow) if not name.startswith("_")}
    assert public(Workflow) | attributes <= RESERVED_TASK_NAMES


def test_every_attribute_of_the_variables_is_reserved() -> None:
    assert public(WorkflowVars) <= variables.RESERVED


@pytest.mark.parametrize("name", [*sorted(RESERVED_JOB_PARAMETERS), "AND", "Or", "iN"])
def test_job_parameters_have_no_reserved_names(tmp_path: Path, name: str) -> None:
    file = make_workflow(tmp_path, MINIMAL, f"job:\n  x: int\n  {name}: str\n")
    with pytest.raises(ConfigError) as caught:
        load_workflow(file)
    message = f"{name!r} cannot be the name of a job parameter"
    check(caught.value, file.parent / "mult" / "bd.yaml", BadFile("", 3, message, f"as {name}_."))


@rows(
    misspelt=BadFile("job: {}\njob_spce: {}\n", 2, "unknown key 'job_spce'", "'job_space'"),
    location=BadFile("job: {}\nname: x\n", 2, "unknown key 'name'"),
    study_number=BadFile("job: {}\nstudy: 5\n", 2, "study must be text, not 5", "quotes"),
    study_path=BadFile("job: {}\nstudy: ../../x\n", 2, "study must be a name that a directory"),
    study_slash=BadFile("job: {}\nstudy: a/b\n", 2, "not 'a/b'", "at most 100"),
    study_hidden=BadFile("job: {}\nstudy: .a\n", 2, "not '.a'"),
    study_space=BadFile("job: {}\nstudy: a b\n", 2, "not 'a b'"),
    study_long=BadFile(f"job: {{}}\nstudy: {'a' * 101}\n", 2, "study must be a name"),
    job_list=BadFile("job: [x]\n", 1, "job must be a mapping"),
    job_case=BadFile("job:\n  n: int\n  N: int\n", 3, "'n' and 'N' differ only in capitals"),
    job_type=BadFile("job:\n  x: flot\n", 2, "'x' has the unknown type 'flot'", "'float'"),
    job_type_long=BadFile("job:\n  x: integer\n", 2, "unknown type 'integer'", "'int'"),
    job_type_null=BadFile("job:\n  x:\n", 2, "unknown type None", "bool, datetime, dict"),
    job_type_nested=BadFile("job:\n  x: {a: int}\n", 2, "unknown type {'a': 'int'}"),
    job_name=BadFile("job:\n  a-b: int\n", 2, "'a-b' cannot be the name of a job parameter"),
    job_underscore=BadFile("job:\n  _a: int\n", 2, "'_a' cannot be the name of a job parameter"),
    job_keyword=BadFile("job:\n  lambda: int\n", 2, "'lambda' cannot be the name"),
    job_micro=BadFile("job:\n  \u00b5: int\n", 2, "Python reads it as '\u03bc'", "U+03BC"),
    job_taken=BadFile("job:\n  replicate: int\n", 2, "Motoko reserves the name"),
    run_type=BadFile("run:\n  y: strng\n", 2, "run field 'y' has the unknown type", "'str'"),
    run_name=BadFile("run:\n  a b: int\n", 2, "'a b' cannot be the name of a run field"),
    run_taken=BadFile("run:\n  nproc: int\n  state: str\n", 3, "'state' cannot be the name"),
    run_method=BadFile("run:\n  finish: str\n", 2, "Motoko reserves the name"),
    space_text=BadFile(STUDY + "job_space: 3\n", 3, "job_space must be a mapping"),
    space_unknown=BadFile(
        "job: {temp: float}\njob_space:\n  tmp: 1\n", 3, "names 'tmp'", "Did you mean 'temp'"
    ),
    space_no_job=BadFile("job_space:\n  x: 1\n", 2, "'x', which is not a job parameter", "none"),
    space_type=BadFile(STUDY + "job_space:\n  x: red\n", 4, "job_space.x = 'red' is a str"),
    space_item=BadFile(STUDY + "job_space:\n  x:\n  - 1\n  - red\n", 6, "job_space.x[1] = 'red'"),
    space_clock=BadFile(
        "job: {x: int}\njob_space:\n  x: 12:30\n", 3, "x = '12:30'", "A time is not a number"
    ),
    space_clock_float=BadFile(
        "job: {x: float}\njob_space:\n  x: 1:30.5\n", 3, "x = '1:30.5'", "A time is not a number"
    ),
    space_octal=BadFile(
        "job: {x: int}\njob_space:\n  x: 0123\n", 3, "x = '0123'", "in front: 123."
    ),
    space_octal_below=BadFile(
        "job: {x: int}\njob_space:\n  x: -017\n", 3, "x = '-017'", "front: -17."
    ),
    space_inf_text=BadFile("job: {x: int}\njob_space:\n  x: inf\n", 3, "x = 'inf'", "as in 1000"),
    space_inexact=BadFile(
        "job: {x: int}\njob_space:\n  x: 1e23\n", 3, "not an exact integer", "digits"
    ),
    space_nanoseconds=BadFile(
        "job: {t: datetime}\njob_space:\n  t: 2024-05-01T12:00:00.123456789\n",
        3,
        "not a time in whole microseconds",
        "Round it",
    ),
    space_zeros=BadFile("job: {x: float}\njob_space:\n  x: 08\n", 3, "x = '08'", "in front: 8."),
    space_comma=BadFile("job: {x: float}\njob_space:\n  x: 1,5\n", 3, "x = '1,5'", "as in 0.5"),
    space_fortran=BadFile("job: {x: float}\njob_space:\n  x: 1d-3\n", 3, "x = '1d-3'", "1e-3"),
    space_yes=BadFile("job: {x: int}\njob_space:\n  x: yes\n", 3, "x = True is a bool"),
    space_inf=BadFile("job: {x: int}\njob_space:\n  x: .inf\n", 3, "x = inf is a float"),
    space_null=BadFile(STUDY + "job_space:\n  x:\n", 4, "job_space.x is None"),
    space_nan=BadFile(STUDY + "job_space:\n  x: .nan\n", 4, "job_space.x is nan"),
    space_not_text=BadFile("job: {s: str}\njob_space:\n  s: no\n", 3, "is a bool", "quotes"),
    space_not_a_list=BadFile("job: {s: list}\njob_space:\n  s: 1\n", 3, "not of type list"),
    axis_kind=BadFile(
        STUDY + "job_space:\n  x:\n    linspce: {start: 0, stop: 1, num: 3}\n",
        5,
        "job_space.x has the unknown key 'linspce'",
        "'linspace'",
    ),
    axis_of_several=BadFile(
        STUDY + "job_space:\n  x:\n    sample: {n: 4}\n",
        5,
        "unknown key 'sample'",
        "key of job_space",
    ),
    axis_key=BadFile(
        STUDY + "job_space:\n  x:\n    range:\n      start: 0\n      stop: 1\n      steps: 1\n",
        8,
        "job_space.x.range: unknown key 'steps'",
        "'step'",
    ),
    axis_missing=BadFile(
        STUDY + "job_space:\n  x:\n    linspace: {start: 0, stop: 1}\n",
        5,
        "job_space.x.linspace: the key 'num' is missing",
    ),
    axis_two=BadFile(
        STUDY + "job_space:\n  x: {range: {start: 0, stop: 1}, linspace: {}}\n",
        4,
        "job_space.x must be a value, a list, or one of range, linspace, logspace",
    ),
    axis_text=BadFile(
        STUDY + "job_space:\n  x:\n    range:\n      start: 0\n      stop: one\n",
        7,
        "job_space.x.range: stop must be a number, not 'one'",
        "0.5",
    ),
    axis_inf=BadFile(
        STUDY + "job_space: {x: {range: {start: 0, stop: .inf}}}\n", 3, "stop must be a number"
    ),
    axis_num=BadFile(
        STUDY + "job_space:\n  x:\n    linspace: {start: 0, stop: 1, num: 1}\n",
        5,
        "num must be a whole number of at least 2",
    ),
    axis_sign=BadFile(
        STUDY + "job_space:\n  x:\n    range: {start: 0, stop: 1, step: -1}\n",
        5,
        "job_space.x.range: steps of -1 do not lead",
        "other sign",
    ),
    axis_positive=BadFile(
        STUDY + "job_space:\n  x:\n    logspace: {start: -3, stop: 1, num: 5}\n",
        5,
        "logspace needs positive values, not -3",
        "logarithms",
    ),
    axis_huge=BadFile(
        STUDY + "job_space:\n  x:\n    range: {start: 0, stop: 1e7}\n", 5, "10,000,001 points"
    ),
    axis_type=BadFile(
        "job: {n: int}\njob_space:\n  n: {linspace: {start: 0, stop: 1, num: 3}}\n",
        3,
        "job_space.n[1] = 0.5 is a float",
    ),
    axis_of_text=BadFile(
        "job: {s: str}\njob_space:\n  s: {range: {start: 0, stop: 1}}\n", 3, "is a dict"
    ),
    axis_empty=BadFile(STUDY + "job_space:\n  x:\n    range:\n", 5, "must be a mapping"),
    zip_lengths=BadFile(
        XY + "job_space:\n  zip:\n    x: [1, 2]\n    y: [1, 2, 3]\n",
        5,
        "'x' has 2 values and 'y' has 3",
    ),
    zip_unknown=BadFile(
        XY + "job_space:\n  zip:\n    x: [1]\n    yy: [1]\n", 5, "job_space.zip names 'yy'", "'y'"
    ),
    zip_scalar=BadFile(XY + "job_space:\n  zip:\n    x: 1\n", 4, "must be a list of values, not 1"),
    zip_twice=BadFile(XY + "job_space:\n  x: 1\n  zip:\n    x: [1]\n", 5, "gives 'x' twice"),
    zip_type=BadFile(XY + "job_space:\n  zip:\n    x:\n    - 1\n    - a\n", 6, "zip.x[1] = 'a'"),
    zip_empty=BadFile(XY + "job_space:\n  zip: {}\n", 3, "job_space.zip must be a mapping"),
    zip_misspelt=BadFile(XY + "job_space:\n  zipp: {}\n", 3, "names 'zipp'", "'zip'"),
    sample_method=BadFile(
        SAMPLE + "    method: sobel\n    n: 4\n    ranges: {x: [0, 1]}\n",
        4,
        "job_space.sample: method must be sobol, lhs or random, not 'sobel'",
        "'sobol'",
    ),
    sample_no_method=BadFile(
        SAMPLE + "    n: 4\n    ranges: {x: [0, 1]}\n", 3, "the key 'method' is missing"
    ),
    sample_huge=BadFile(
        SAMPLE + "    method: lhs\n    n: 10_000_000\n    ranges: {x: [0, 1]}\n",
        5,
        "10,000,000 points are too many",
    ),
    sample_none=BadFile(SAMPLE + "    method: lhs\n    n: 4\n    ranges: {}\n", 6, "no parameter"),
    sample_unknown=BadFile(
        SAMPLE + "    method: lhs\n    n: 4\n    ranges:\n      z: [0, 1]\n",
        7,
        "job_space.sample.ranges names 'z'",
    ),
    sample_ends=BadFile(
        X_SAMPLE + "[0, 1, 2]\n",
        7,
        "job_space.sample: ranges.x must have a start and a stop",
        "log: true",
    ),
    sample_order=BadFile(X_SAMPLE + "[1, 1]\n", 7, "must be below"),
    sample_log=BadFile(
        SAMPLE
        + "    method: lhs\n    n: 4\n    ranges:\n      x: {start: 0, stop: 1, log: true}\n",
        7,
        "log needs positive values, not 0",
    ),
    sample_key=BadFile(
        SAMPLE
        + "    method: lhs\n    n: 4\n    ranges:\n      x: {start: 0, stop: 1, lgo: true}\n",
        7,
        "unknown key 'lgo'",
        "'log'",
    ),
    sample_text=BadFile(
        "job: {s: str}\njob_space:\n  sample:\n    method: lhs\n    n: 4\n"
        "    ranges:\n      s: [0, 1]\n",
        7,
        "'s' is of type str; only numbers vary",
    ),
    sample_whole=BadFile(
        "job: {k: int}\njob_space:\n  sample:\n    method: lhs\n    n: 4\n"
        "    ranges:\n      k: [0, 1.5]\n",
        7,
        "= 1.5 is a float",
    ),
    sample_seed=BadFile(
        SAMPLE + "    method: lhs\n    n: 4\n    seed: now\n    ranges: {x: [0, 1]}\n",
        6,
        "seed must be a whole number",
    ),
    space_list_of_dict=BadFile("job: {s: dict}\njob_space:\n  s: [a]\n", 3, "not of type dict"),
    require_fields=BadFile("require_fields: maybe\n", 1, "cannot be 'maybe'", "true or false"),
    params_list=BadFile("run_params: [1]\n", 1, "run_params must be a mapping"),
    params_unknown=BadFile(
        "run: {factor: float}\nrun_params:\n  facter: 1\n", 3, "'facter'", "Did you mean 'factor'"
    ),
    params_resource=BadFile("run_params:\n  nprocs: 1\n", 2, "names 'nprocs'", "'nproc'"),
    params_type=BadFile("run: {f: int}\nrun_params: {f: x}\n", 2, "run_params.f = 'x' is a str"),
    params_taken=BadFile("run_params:\n  state: DONE\n", 2, "Motoko reserves the name"),
    params_name=BadFile("run_params:\n  a-b: 1\n", 2, "'a-b' cannot be the name of a run field"),
    params_nproc=BadFile("run_params:\n  nproc: 0\n", 2, "run_params.nproc must be a whole number"),
    params_timeout=BadFile("run_params:\n  timeout: x\n", 2, "run_params.timeout must be a time"),
    params_null=BadFile("run_params:\n  nproc:\n", 2, "run_params.nproc has no value"),
    params_slurm=BadFile(
        "run_params:\n  slurm_options:\n  - mem=4G\n  - wrap=ls\n",
        4,
        "run_params.slurm_options: 'wrap=ls' cannot be given",
    ),
    params_option=BadFile("run_params:\n  bash_options:\n  - 1\n", 3, "1 is not one"),
    script_missing=BadFile("job: {}\nexec_file: go.sh\n", 2, "mult/go.sh does not exist"),
    script_outside=BadFile("exec_file: ../go.sh\n", 1, "in the study's directory, not '../go.sh'"),
    script_absolute=BadFile("exec_file: /bin/sh\n", 1, "in the study's directory, not '/bin/sh'"),
    script_here=BadFile("exec_file: .\n", 1, "in the study's directory"),
    script_too_long=BadFile("exec_file: " + "x" * 5000, 1, "does not exist"),
    script_list=BadFile("exec_file: [a]\n", 1, "exec_file must be text"),
    file_missing=BadFile("config_files:\n- bd.yaml\n- a.py\n", 3, "mult/a.py does not exist"),
    file_outside=BadFile("config_files: [../a.py]\n", 1, "in the study's directory, not '../a.py'"),
    file_number=BadFile("config_files: [1]\n", 1, "must hold file names, not 1"),
    files_mapping=BadFile("config_files: {a: b}\n", 1, "must be a list of file names"),
    option=BadFile("nproc: 0\n", 1, "nproc must be a whole number"),
    generator=BadFile("job: {}\ngenerator: bsh\n", 2, "unknown generator 'bsh'", "'bash'"),
)
def test_an_invalid_study_file_is_refused(tmp_path: Path, bad: BadFile) -> None:
    file = make_workflow(tmp_path, MINIMAL, bad.text)
    with pytest.raises(ConfigError) as caught:
        load_workflow(file)
    check(caught.value, file.parent / "mult" / "bd.yaml", bad)


def test_a_missing_default_script_is_named(tmp_path: Path) -> None:
    directory = make_study(tmp_path, text="# A study\n\njob: {}\n")
    (directory / "launch.sh").unlink()
    with pytest.raises(ConfigError) as caught:
        load_study(directory)
    message = f"the script {directory.resolve() / 'launch.sh'} does not exist"
    check(caught.value, directory / "bd.yaml", BadFile("", 3, message, "exec_file"))


@pytest.mark.parametrize("what", ["missing", "a file"])
def test_a_missing_study_directory_is_named_with_its_line(tmp_path: Path, what: str) -> None:
    file = make_workflow(tmp_path, "orchestrator: a.b\ntask_managers:\n  mult:\n  mul:\n")
    if what == "a file":
        (tmp_path / "mul").write_text("")
    with pytest.raises(ConfigError) as caught:
        load_workflow(file)
    message = f"task manager 'mul' has no study directory {tmp_path / 'mul'}"
    check(caught.value, file, BadFile("", 4, message, "Did you mean 'mult'?"))


def test_a_study_without_its_file_is_named_with_its_line(tmp_path: Path) -> None:
    file = make_workflow(tmp_path)
    (tmp_path / "mult" / "bd.yaml").unlink()
    with pytest.raises(ConfigError) as caught:
        load_workflow(file)
    message = f"the study 'mult' has no {tmp_path / 'mult' / 'bd.yaml'}"
    check(caught.value, file, BadFile("", 2, message))


@pytest.mark.parametrize("name", ["motoko.yaml", "mult/bd.yaml"])
@pytest.mark.parametrize("kind", ["it is a FIFO", "Is a directory", "it is a device"])
def test_a_config_that_is_not_a_regular_file_is_named(tmp_path: Path, name: str, kind: str) -> None:
    make_workflow(tmp_path)
    file = tmp_path / name
    file.unlink()
    if "FIFO" in kind:
        os.mkfifo(file)
    elif "device" in kind:
        file.symlink_to("/dev/zero")
    else:
        file.mkdir()
    with pytest.raises(ConfigError, match=f"{name}: cannot be read: {kind}"):
        load_workflow(tmp_path)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    make_workflow(tmp_path)
    os.truncate(tmp_path / "mult" / "bd.yaml", 1 << 40)
    with pytest.raises(ConfigError, match=r"bd\.yaml:1: the file is larger than 64 MiB"):
        load_workflow(tmp_path)


@pytest.mark.parametrize("file", ["launch.sh", "mesh"])
def test_a_config_file_that_is_not_regular_is_named(tmp_path: Path, file: str) -> None:
    directory = make_study(tmp_path, text="config_files: [mesh]\n")
    (directory / "mesh").touch()
    (directory / file).unlink()
    os.mkfifo(directory / file)
    with pytest.raises(ConfigError, match=f"{file} is not a regular file"):
        load_study(directory)


@pytest.mark.parametrize("given", ["motoko.yaml", "nowhere/motoko.yaml"])
def test_a_missing_workflow_file_is_named(tmp_path: Path, given: str) -> None:
    with pytest.raises(NotAWorkflowError) as caught:
        load_workflow(tmp_path / given)
    check(
        caught.value, tmp_path / given, BadFile("", None, "the file does not exist", "motoko init")
    )


@pytest.mark.parametrize("name", ["motoko.yml", "Motoko.yaml", "motoko.yaml.txt"])
def test_a_workflow_file_with_a_similar_name_is_suggested(tmp_path: Path, name: str) -> None:
    file = make_workflow(tmp_path)
    file.rename(tmp_path / name)
    for find in (find_workflow, load_workflow):
        with pytest.raises(NotAWorkflowError) as caught:
            find(tmp_path)
        assert caught.value.hint == f"Rename {tmp_path / name} to motoko.yaml."


def test_a_study_file_with_a_similar_name_is_suggested(tmp_path: Path) -> None:
    file = make_workflow(tmp_path)
    (tmp_path / "mult" / "bd.yaml").rename(tmp_path / "mult" / "bd.yml")
    with pytest.raises(ConfigError) as caught:
        load_workflow(file)
    assert caught.value.hint == f"Rename {tmp_path / 'mult' / 'bd.yml'} to bd.yaml."


def test_messages_name_the_file_as_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_workflow(tmp_path, MINIMAL, "job: 1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^mult/bd\.yaml:1: job must be a mapping"):
        load_workflow(Path("motoko.yaml"))
    with pytest.raises(ConfigError, match=r"^mult/bd\.yaml:1: job must be a mapping"):
        load_workflow(Path())


def test_an_unreadable_file_raises_a_motoko_error(tmp_path: Path) -> None:
    (tmp_path / "motoko.yaml").mkdir()
    with pytest.raises(ConfigError) as caught:
        load_workflow(tmp_path)
    check(
        caught.value, tmp_path / "motoko.yaml", BadFile("", None, "cannot be read: Is a directory")
    )


def test_text_in_a_file_is_not_executed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    text = f"a: !!python/object/apply:os.mkdir ['{mark}']\n"
    with pytest.raises(ConfigError):
        load_workflow(make_workflow(tmp_path / "flow", text))
    assert not mark.exists()
