"""All uses of run options follow from their declaration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from motoko.config import GivenOptions
from motoko.config.study_file import StudyFile
from motoko.config.workflow_file import TaskManagerSettings, WorkflowFile
from motoko.core.parameter_space import run_values
from motoko.core.records import RUN_COLUMNS
from motoko.core.run_options import OPTIONS, STORED_OPTIONS, RunOption, RunOptions
from motoko.core.values import TYPE_NAMES
from motoko.errors import ParameterError
from motoko.worker.validation import RESERVED_FIELDS

pytestmark = pytest.mark.unit

REFERENCE = Path(__file__).parents[2] / "docs" / "reference.md"
STORED = [option for option in OPTIONS.values() if option.stored]


@pytest.mark.parametrize("model", [WorkflowFile, TaskManagerSettings, StudyFile, GivenOptions])
def test_every_section_has_the_options_in_its_json_schema(model: Any) -> None:
    properties = model.model_json_schema()["properties"]
    described = {name: properties[name].get("description") for name in OPTIONS}
    assert described == {name: option.description for name, option in OPTIONS.items()}


def test_columns_and_reserved_names_follow_the_declaration() -> None:
    assert {name for name, option in OPTIONS.items() if option.stored} == STORED_OPTIONS.keys()
    assert RUN_COLUMNS.items() >= STORED_OPTIONS.items()
    assert set(STORED_OPTIONS.values()) <= set(TYPE_NAMES)
    assert RUN_COLUMNS.keys() <= RESERVED_FIELDS


def test_the_reference_has_a_row_for_every_option() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    assert [name for name in OPTIONS if f"\n| `{name}` | " not in text] == []


def test_a_run_without_options_has_the_defaults() -> None:
    defaults = {name: option.default for name, option in OPTIONS.items()}
    assert RunOptions.resolve({}, {}) == RunOptions(**defaults) == RunOptions()


@pytest.mark.parametrize("option", [o for o in STORED if o.kind in ("count", "duration")], ids=str)
def test_both_validations_use_the_declared_bound(option: RunOption) -> None:
    allowed = option.minimum + 1 if option.exclusive else option.minimum
    for value, valid in ((allowed, True), (option.minimum - 1, False)):
        given = {option.name: value}
        if valid:
            assert GivenOptions.model_validate(given).given() == given
            assert run_values("mult", {}, {}, given)[2] == given
        else:
            with pytest.raises(ValueError, match=option.name):
                GivenOptions.model_validate(given)
            with pytest.raises(ParameterError, match=option.name):
                run_values("mult", {}, {}, given)


def test_options_of_sbatch_are_appended_and_others_overridden() -> None:
    study = {"slurm_options": ("mem=4G",), "bash_options": ("-e",), "module": ("gcc",)}
    run = {"slurm_options": ["mem=8G"], "bash_options": ["-x"]}
    resolved = RunOptions.resolve(study, run)
    assert resolved.slurm_options == ("mem=4G", "mem=8G")
    assert resolved.bash_options == ("-x",)
    assert resolved.module == ("gcc",)
    assert RunOptions.resolve(study, {"slurm_options": []}).slurm_options == ("mem=4G",)
