"""JSON Schemas of the YAML files accept and reject the same structure as the configuration does."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from pydantic import ValidationError

from motoko.cli.json_schemas import OUTPUTS
from motoko.cli.schema import NAMES, execute
from motoko.config.json_schema import SCHEMAS, schema_path, schema_text
from motoko.config.study_file import StudyFile
from motoko.config.workflow_file import WorkflowFile
from motoko.config.yaml_document import read_document
from motoko.core.run_options import OPTIONS
from motoko.operations.workflow_template import write_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motoko.config.validation import ConfigModel

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
MODELS: dict[str, type[ConfigModel]] = {"motoko.yaml": WorkflowFile, "bd.yaml": StudyFile}
VALIDATORS = {name: Draft7Validator(make()) for name, make in SCHEMAS.items()}
WORKFLOW = {"task_managers": {"s": None}, "orchestrator": "steps.main"}


def config_accepts(name: str, value: Any) -> bool:
    try:
        MODELS[name].model_validate(value)
    except ValidationError:
        return False
    return True


def schema_accepts(name: str, value: Any) -> bool:
    return bool(VALIDATORS[name].is_valid(value))


def repository_files() -> Iterator[Path]:
    """Yield the YAML files of examples, templates and tests."""
    for directory in ("examples", "src/motoko/templates"):
        for name in MODELS:
            yield from sorted((ROOT / directory).rglob(name))
    yield ROOT / "motoko.yaml.example"


def documented_files() -> Iterator[tuple[str, str]]:
    """Yield name and text of the YAML files in the documentation."""
    block = re.compile(r"```yaml title=(\S+)\n(.*?)```", re.DOTALL)
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for name, text in block.findall(page.read_text()):
            if Path(name).name in MODELS:
                yield name, text


@pytest.mark.parametrize("schema", [*(make() for make in SCHEMAS.values()), *OUTPUTS.values()])
def test_each_schema_is_valid_in_the_draft_that_editors_support(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    Draft7Validator.check_schema(schema)


@pytest.mark.parametrize("path", list(repository_files()), ids=str)
def test_files_of_the_repository_are_accepted(path: Path) -> None:
    name = path.name.removesuffix(".example")
    value = read_document(path).value
    assert config_accepts(name, value)
    VALIDATORS[name].validate(value)


def test_files_of_the_documentation_are_accepted(tmp_path: Path) -> None:
    files = list(documented_files())
    assert len(files) > 5
    for name, text in files:
        (tmp_path / "file").write_text(text)
        value = read_document(tmp_path / "file").value
        VALIDATORS[Path(name).name].validate(value)


def test_schema_prints_each_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(NAMES) == {*SCHEMAS, *OUTPUTS}
    for name in NAMES:
        execute(argparse.Namespace(schema=name))
        printed = json.loads(capsys.readouterr().out)
        assert printed == (SCHEMAS[name]() if name in SCHEMAS else OUTPUTS[name])


def test_every_key_has_a_description() -> None:
    for name, model in MODELS.items():
        properties = SCHEMAS[name]()["properties"]
        assert properties.keys() == model.model_fields.keys()
        assert all(one["description"] for one in properties.values())


@pytest.mark.parametrize(
    "change",
    [
        {"unknown": 1},
        {"task_managers": {}},
        {"task_managers": ["s"]},
        {"task_managers": "s"},
        {"task_managers": {"s": 3}},
        {"task_managers": {"s": []}},
        {"task_managers": {"s": {"unknown": 1}}},
        {"task_managers": {"s": {"nproc": "many"}}},
        {"task_managers": {"s": {"host": "zeo://x"}}},
        {"task_managers": {"s.t": None}},
        {"orchestrator": "main"},
        {"orchestrator": 3},
        {"orchestrator": None},
        {"aliases": ["a"]},
        {"aliases": {"a": 1}},
        {"max_concurrent": 0},
        {"max_concurrent": "5"},
        {"max_concurrent": 1.5},
        {"submit_rate": 0},
        {"submit_rate": "fast"},
        {"timeout": 0},
        {"timeout": -5},
        {"timeout": [1]},
        {"timeout": True},
        {"retries": -1},
        {"generator": "pbspro"},
        {"slurm_options": [5]},
        {"slurm_options": 5},
        {"prologue": {"a": 1}},
        {"safety_poll": True},
        {"machine_name": 5},
        {"notify": "mail"},
        {"notify": [["mail"]]},
        {"notify": {"command": "mail"}},
        {"notify": {"command": []}},
        {"notify": {"command": ["mail", 3]}},
        {"notify": {"command": ["mail"], "onn": ["failed"]}},
        {"notify": [{"command": ["mail"], "on": ["faild"]}]},
        {"notify": [{"command": ["mail"], "on": ["failures"]}]},
        {"notify": [{"command": ["mail"], "on": [{"failures": 0}]}]},
        {"notify": {"webhook": "ftp://h"}},
        {"notify": {"webhook": "https://h", "timeout": 0}},
    ],
)
def test_a_wrong_structure_of_a_workflow_is_rejected(change: dict[str, Any]) -> None:
    value = {**WORKFLOW, **change}
    assert not config_accepts("motoko.yaml", value)
    assert not schema_accepts("motoko.yaml", value)


@pytest.mark.parametrize(
    "value",
    [
        {"unknown": 1},
        {"job": ["x"]},
        {"job": {"x": "flot"}},
        {"job": {"x": None}},
        {"job": {"x y": "int"}},
        {"job": {"_x": "int"}},
        {"run": {"x": ["int"]}},
        {"job_space": [1]},
        {"run_params": 3},
        {"run_params": {"nproc": "many"}},
        {"exec_file": ["a"]},
        {"exec_file": ""},
        {"config_files": {"a": "b"}},
        {"config_files": [3]},
        {"require_fields": 1},
        {"require_fields": "sometimes"},
        {"study": "a/b"},
        {"study": ".a"},
        {"study": "a" * 101},
        {"max_concurrent": 0},
        {"nproc": 0},
    ],
)
def test_a_wrong_structure_of_a_study_is_rejected(value: dict[str, Any]) -> None:
    assert not config_accepts("bd.yaml", value)
    assert not schema_accepts("bd.yaml", value)


# -- whatever the configuration accepts, the schema accepts ------------------------------------

ANY_NAME = st.sampled_from(
    ["s", "t", "x", "größe", "nproc", "zip", "sample", "_x", "class", "a.b", ""]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 10**6),
    st.floats(allow_nan=False),
    st.sampled_from(
        ["", "s", "steps.main", "1h30", "off", "12:30", "int", "float", "list", "bash", "slurmCoat"]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_NAME, inner, max_size=3),
    max_leaves=6,
)
TYPES = st.dictionaries(ANY_NAME, st.sampled_from(["int", "float", "str", "list", "dict", "bool"]))
OPTION_VALUES: dict[str, st.SearchStrategy[Any]] = dict.fromkeys(OPTIONS, VALUES)


def mappings(model: type[ConfigModel], **known: st.SearchStrategy[Any]) -> Any:
    fields = dict.fromkeys(model.model_fields, VALUES) | known
    required = {name: fields.pop(name) for name in known if model.model_fields[name].is_required()}
    return st.fixed_dictionaries(required, optional=fields)


MANAGERS = st.dictionaries(
    ANY_NAME, st.none() | st.dictionaries(st.sampled_from([*OPTIONS]), VALUES)
)


@settings(max_examples=25)
@given(
    mappings(
        WorkflowFile,
        task_managers=MANAGERS | VALUES,
        orchestrator=st.just("steps.main") | VALUES,
        aliases=st.dictionaries(ANY_NAME, ANY_NAME) | VALUES,
    )
)
def test_the_schema_accepts_each_valid_workflow(value: dict[str, Any]) -> None:
    if config_accepts("motoko.yaml", value):
        VALIDATORS["motoko.yaml"].validate(value)


@settings(max_examples=25)
@given(
    mappings(
        StudyFile,
        job=TYPES,
        run=TYPES,
        job_space=st.dictionaries(ANY_NAME, VALUES),
        run_params=st.dictionaries(ANY_NAME, VALUES),
    )
)
def test_the_schema_accepts_each_valid_study(value: dict[str, Any]) -> None:
    if config_accepts("bd.yaml", value):
        VALIDATORS["bd.yaml"].validate(value)


@pytest.mark.parametrize("name", MODELS)
@given(data=st.data())
def test_the_schema_accepts_each_value_that_is_valid_for_a_key(
    name: str, data: st.DataObject
) -> None:
    key = data.draw(st.sampled_from(sorted(MODELS[name].model_fields)))
    base: dict[str, Any] = dict(WORKFLOW) if name == "motoko.yaml" else {"job": {"x": "int"}}
    value = {**base, key: data.draw(VALUES)}
    if config_accepts(name, value):
        VALIDATORS[name].validate(value)


# -- the files that init writes ----------------------------------------------------------------


def test_the_first_line_of_each_file_names_its_schema(tmp_path: Path) -> None:
    written = write_workflow(tmp_path / "w")

    files = [tmp_path / "w" / path for path in written if path.name in MODELS]
    assert len(files) == 3
    for file in files:
        first = file.read_text().splitlines()[0]
        match = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
        assert match is not None
        schema = file.parent / match[1]
        assert schema.resolve() == (tmp_path / "w" / schema_path(file.name)).resolve()
        assert schema.read_text() == schema_text(SCHEMAS[file.name]())
