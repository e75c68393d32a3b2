"""The served models that these tests ask."""

from served_fixtures import *  # noqa: F403  (fixtures)
