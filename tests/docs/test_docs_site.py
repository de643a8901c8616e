"""The documentation, built as `make docs` builds it: no warning, no dead link, no network."""

import html.parser
import os
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from docs import diagrams, generate, reference
from experiments.settings import VARIABLES
from tests import pax_process
from tests.docs.pages import PROJECT, SITE

# Pages of Sphinx' own, whose links a script fills in.
WITHOUT_LINKS = {"genindex.html", "search.html"}


class Links(html.parser.HTMLParser):
    """What a page links to or loads, and the places in it that can be linked to."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.places: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = {name: value for name, value in attrs if value}
        self.places |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        elif tag in ("img", "script", "link"):
            self.loaded |= {values[name] for name in ("src", "href") if name in values}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    options = ("--fail-on-warning", "--keep-going", "--quiet", "--doctree-dir")
    paths = map(str, (folder / "doctrees", PROJECT / "docs", folder / "html"))
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = pax_process.run("sphinx", (*options, *paths), PROJECT, environment)
    assert done.returncode == 0, done.stderr[-6000:]
    return folder / "html"


@pytest.fixture(scope="module")
def links(site):
    return {path: Links(path) for path in site.rglob("*.html") if "_static" not in path.parts}


def test_every_page_is_built(site):
    assert {path.stem for path in SITE} <= {path.stem for path in site.glob("*.html")}


def test_links_within_the_site_lead_somewhere(links):
    dead = []
    for page, actual in links.items():
        for link in actual.links if page.name not in WITHOUT_LINKS else ():
            address, place = urldefrag(link)
            if "://" in address or address.startswith("mailto:"):
                continue
            target = (page.parent / unquote(address)).resolve() if address else page
            if target not in links:
                dead += [f"{page.name}: {link}"] * (not target.is_file())
            elif place and unquote(place) not in links[target].places:
                dead.append(f"{page.name}: {link}")
    assert not dead


def test_a_page_loads_nothing_from_a_network_and_nothing_that_is_missing(links):
    for page, actual in links.items():
        for address in actual.loaded:
            assert "//" not in address, f"{page.name} loads {address}"
            target = page.parent / unquote(address.partition("?")[0])
            assert target.is_file() or page.name in WITHOUT_LINKS, f"{page.name} loads {address}"


def test_every_verb_setting_and_module_has_its_place(site):
    commands = (site / "commands.html").read_text()
    assert all(f"usage: codegen-pax {verb}" in commands for verb in generate.verbs())
    settings = (site / "settings.html").read_text()
    assert all(variable.name in settings for variable in VARIABLES.values())
    for folder in reference.pages():
        assert (site / "generated" / "api" / f"{folder}.html").is_file()


def test_public_functions_are_in_the_reference(site):
    page = (site / "generated" / "api" / "experiments.html").read_text()
    assert 'id="experiments.settings.from_environment"' in page
    assert 'id="experiments.settings.Settings.to_environment"' in page


def test_drawings_name_what_exists(site):
    assert all((PROJECT / name).exists() for name in diagrams.modules())
    assert {f"{name}.svg" for name in diagrams.DRAWINGS} <= {
        path.name for path in (site / "_images").iterdir()
    }
