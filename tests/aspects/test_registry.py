"""What the registry of aspects says elsewhere."""

from lamina_traces.aspects import ASPECTS
from lamina_traces.schema import FITTED_TABLES


def test_tables_that_can_be_fitted() -> None:
    assert set(FITTED_TABLES) == {t for m in ASPECTS.values() for t in m.TABLES}
