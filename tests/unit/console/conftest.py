"""A Postfix for the tests of a module, and agents that mail to it."""

from __future__ import annotations

import pytest

from tests.unit.console.console_site import Site
from tests.unit.console.mailer import mailer


@pytest.fixture(scope="module")
def running():
    with mailer() as made:
        yield made


@pytest.fixture
def postfix(running):
    running.empty()
    running.be_well()
    return running


@pytest.fixture
def make_site(tmp_path, postfix):
    made = []

    def make(*keys, **rest):
        made.append(Site(tmp_path, postfix, *keys, **rest))
        return made[-1]

    yield make
    for site in made:
        site.stop()
