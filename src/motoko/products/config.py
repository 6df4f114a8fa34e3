"""The configuration of a workflow, and the fields that its products depend on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from motoko.config.yaml_document import read_document
from motoko.errors import ConfigError, ParameterError, suggestion
from motoko.products.canonical_json import key_of
from motoko.runtime.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class WorkflowConfig(BaseModel):
    """The configuration of a workflow; derive from it and add fields.

    ``_identity_fields`` names the fields that products depend on. A stored product is built again
    if one of them or one of its requirements has changed. Without them (None), every stored
    product is fresh. Undeclared fields are accepted; ``ref_...`` fields are None until set.
    """

    model_config = ConfigDict(extra="allow", validate_assignment=True)

    _identity_fields: ClassVar[Sequence[str] | None] = None

    workflow_name: str = ""
    description: str = ""
    output_dir: str = "output"

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Accept ``_identity_fields`` with an annotation too."""
        super().__pydantic_init_subclass__(**kwargs)
        attribute = cls.__private_attributes__.pop("_identity_fields", None)
        if attribute is not None:
            cls._identity_fields = attribute.get_default()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            try:
                return super().__getattr__(name)
            except AttributeError:
                if name.startswith("ref_"):
                    return None
                raise

    def cache_key(self, requires: Mapping[str, str | None] | None = None) -> str | None:
        """Return the key of a product: 16 hexadecimal digits. None without identity fields.

        It depends on the identity fields and on ``requires``, the keys of the requirements.
        ParameterError if a field does not exist or its value cannot be part of a key.
        """
        if self._identity_fields is None:
            return None
        fields = {field: self._identity(field) for field in self._identity_fields}
        if not requires:
            return key_of(fields)
        return key_of({"config": fields, "requires": dict(requires)})

    def _identity(self, field: str) -> Any:
        try:
            return getattr(self, field)
        except AttributeError:
            raise ParameterError(
                f"the identity field {field!r} is not a field of {type(self).__name__}",
                hint=suggestion(field, [*type(self).model_fields, *(self.model_extra or {})]),
            ) from None

    def view(self) -> None:
        """Print the configuration as YAML."""
        sys.stdout.write(self._as_yaml())

    def save_yaml(self, path: str | Path) -> None:
        """Write the configuration to a YAML file."""
        write_atomic(Path(path), self._as_yaml().encode())

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Return the configuration in a YAML file; ConfigError names the invalid line."""
        try:
            document = read_document(Path(path))
        except OSError as error:
            raise ConfigError(
                f"the configuration cannot be read: {error.strerror}", file=str(path)
            ) from error
        try:
            return cls(**document.value)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise document.error(f"{field}: {first['msg']}", first["loc"]) from error

    def _as_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
