"""A federation small enough for a unit test, on drawn faces; and a sandbox in which whole runs leave no trace."""

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from dml import config
from dml.arms.federation import Federation
from dml.config import Experiment, ManyClients, Profile
from dml.data import faces, images
from dml.data.images import Images, Split
from dml.plots import catalogue
from dml.training import workers

LONGEST = (
    "pipeline",
    "jobs",
    "readme",
    "flower",
    "users",
    "plots",
    "bandwidth",
    "privacy_games",
    "privacy_views",
    "many",
)


os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes import the package: compiled once is enough


def pytest_collection_modifyitems(items):
    """The longest files first, so that no worker is left alone with one of them at the end."""
    place = {f"test_{name}": rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny():
    return Experiment(clients=3, rounds=3, epochs=2, batch=8, size=20)


def split(count: int, size: int, domain: str) -> Split:
    pixels, labels = faces.draw(count, size=size, seed=0, domain=domain)
    return Split(pixels, labels, tuple(f"{domain}/{i:04}" for i in range(count)), ((size, size),) * count)


@pytest.fixture(scope="session")
def pictures(tiny):
    train, unseen = split(170, tiny.size, "train"), split(40, tiny.size, "unseen")
    return Images("faces", ("mask", "no mask"), train, unseen, "0" * 64, "drawn for a test")


@pytest.fixture
def federation(tiny, pictures):
    """A maker of federations: same seed, same everything."""
    return lambda seed=0, **changes: Federation(tiny, pictures, seed, **changes)


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    """A cache of its own for the images of a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "CACHE", tmp_path_factory.mktemp("cache"))
        yield


@dataclass(frozen=True)
class Sandbox:
    """A place of its own for caches and runs, where the profile "smoke" is `experiment`."""

    folder: Path
    experiment: Experiment

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def profile(self) -> Profile:
        return replace(
            config.PROFILES["smoke"], experiment=self.experiment, probe=TINY_PROBE, many_clients=ManyClients((2, 3), 1)
        )

    def environment(self) -> dict[str, str]:
        """The environment that puts a new Python (a worker, a kernel, a command) into the sandbox as it starts.

        There is no GPU in it: what these tests check is the same everywhere.
        """
        start = self.folder / "start"
        start.mkdir(exist_ok=True)
        (start / "sitecustomize.py").write_text(
            "from pathlib import Path\n"
            "from dml import config\n"
            "from dml.config import Draw, Experiment, Ladder, ManyClients, Probe, Profile, Skewed\n"
            f"config.RUNS = Path({str(self.runs)!r})\n"
            f"config.PROFILES['smoke'] = {self.profile!r}\n"
        )
        path = os.pathsep.join(filter(None, (str(start), os.environ.get("PYTHONPATH"))))
        return {**os.environ, "PYTHONPATH": path, "DML_CACHE": str(self.cache), "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="session")
def small():
    """An experiment whose every arm takes a fraction of a second."""
    return replace(config.SMALL, clients=2, rounds=2, epochs=1, size=20, train_images=60, unseen_images=20)


TINY_PROBE = replace(
    config.SMALL_PROBE,
    draw=config.Draw(groups=2, victims=2, canaries=4, unseen=10),
    overfit_epochs=2,
    skewed_rounds=1,
    cases=1,
    iterations=8,
)


@pytest.fixture(scope="session")
def sandbox_in(small):
    """A maker of sandboxes of the experiment `small`, for commands; this process stays outside."""
    return lambda folder: Sandbox(folder, small)


@pytest.fixture
def enter(monkeypatch):
    """A function that puts this process, and every Python it starts, into a sandbox until the test ends."""

    def enter(place: Sandbox) -> Sandbox:
        place.folder.mkdir(exist_ok=True)
        for name in ("PYTHONPATH", "DML_CACHE", "CUDA_VISIBLE_DEVICES"):
            monkeypatch.setenv(name, place.environment()[name])
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(config, "CACHE", place.cache)
        monkeypatch.setattr(config, "RUNS", place.runs)
        monkeypatch.setitem(config.PROFILES, "smoke", place.profile)
        images.images_of.cache_clear()
        return place

    return enter


@pytest.fixture
def sandbox(tmp_path, sandbox_in, enter):
    """This process, and every Python it starts, in a sandbox of the experiment `small`."""
    return enter(sandbox_in(tmp_path / "sandbox"))


@pytest.fixture
def no_workers(monkeypatch):
    """The jobs of the worker processes run in this process, one after the other."""

    def engine(tasks, keep=lambda task, result: None, title="", unit="", executor=None, most=None):
        for task in tasks:
            keep(task, task.work(*task.args))

    monkeypatch.setattr(workers, "carry_out", engine)
    return engine


@pytest.fixture(scope="session")
def few_rendered():
    """Of the figures of runs one a module."""
    return {*{recipe.draw.__module__: name for name, recipe in catalogue.FIGURES.items()}.values()}


BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
BROKEN = "[...document.images].filter(image => !image.complete || image.naturalWidth === 0).length"


@pytest.fixture(scope="session")
def look():
    """Open a page of a report in a headless browser: no broken image, no error cell, nothing asked of a network."""
    if BROWSER is None:
        pytest.skip("no Chromium on this machine (.ci/run installs one)")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])

        def look(file):
            page, asked = browser.new_page(), []
            page.on("request", lambda request: asked.append(request.url))
            page.goto(file.as_uri())
            assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
            assert page.evaluate(BROKEN) == 0
            assert page.locator(".output_error, .ansi-red-fg").count() == 0
            assert page.locator("img:not([alt]), img[alt^='No description']").count() == 0
            return page

        yield look
        browser.close()
