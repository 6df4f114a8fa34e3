"""Tables of values as text: CSV and JSON.

CSV follows RFC 4180; lists and dictionaries are JSON text, missing values are empty. JSON is one
array of objects. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from motoko.core.values import to_json

if TYPE_CHECKING:
    from motoko.core.run_columns import ColumnTable

# Types whose values csv and json write as documented.
_IN_CSV: Final = frozenset({int, float, str, type(None)})
_IN_JSON: Final = frozenset({int, bool, str, type(None)})


def csv_text(table: ColumnTable) -> str:
    """Return a table as CSV."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(table.names)
    writer.writerows(zip(*map(_csv_cells, table.values.values()), strict=True))
    return out.getvalue()


def _csv_cells(values: list[Any]) -> list[Any]:
    kinds = {value.__class__ for value in values}
    if kinds <= _IN_CSV:
        return values
    if kinds <= {datetime, type(None)}:
        return [value and value.isoformat() for value in values]
    return [value if value.__class__ in _IN_CSV else _csv_cell(value) for value in values]


def _csv_cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    plain = to_json(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def json_text(table: ColumnTable) -> str:
    """Return a table as JSON text: an array of objects, a line for each."""
    rows = zip(*map(_json_values, table.values.values()), strict=True)
    lines = [json.dumps(dict(zip(table.names, row, strict=True)), allow_nan=False) for row in rows]
    return "[\n" + ",\n".join(lines) + "\n]\n" if lines else "[]\n"


def _json_values(values: list[Any]) -> list[Any]:
    kinds = {value.__class__ for value in values}
    return values if kinds <= _IN_JSON else [to_json(value) for value in values]
