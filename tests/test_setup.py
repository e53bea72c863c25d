"""The house rules: consistent pins, clean notebooks, small modules, nothing of this machine in a file."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from dml.config import ROOT

MODULES = sorted((ROOT / "dml").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LOCK = [
    Requirement(line)
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line.strip() and not line.startswith("#")
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def name(path):
    return path.relative_to(ROOT).as_posix()


def pins(python="3.11.9", system="linux"):
    """The locked versions on a platform: {canonical name: version}."""
    here = default_environment() | {
        "python_version": python.rpartition(".")[0],
        "python_full_version": python,
        "sys_platform": system,
        "platform_machine": {"linux": "x86_64", "darwin": "arm64", "win32": "AMD64"}[system],
        "os_name": "nt" if system == "win32" else "posix",
    }
    chosen = [pin for pin in LOCK if pin.marker is None or pin.marker.evaluate(here)]
    found = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in chosen}
    assert len(found) == len(chosen), "a package is pinned twice"
    return found


# -- pins -------------------------------------------------------------------------------------------------------------


def test_the_lock_holds_exact_pins_and_no_address():
    assert len(LOCK) > 50
    assert all([each.operator for each in pin.specifier] == ["=="] and pin.url is None for pin in LOCK)
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text and not re.search(r"^\s*-", text, re.MULTILINE)


@pytest.mark.parametrize("python", ["3.11.9", "3.12.4", "3.13.1"])
@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_the_lock_satisfies_every_bound_of_the_project(python, system):
    locked = pins(python, system)
    extras = PROJECT["optional-dependencies"]
    wanted = [Requirement(text) for text in chain(PROJECT["dependencies"], *extras.values())]
    assert len(wanted) >= 15
    assert not [str(each) for each in wanted if canonicalize_name(each.name) not in locked]
    assert not [str(each) for each in wanted if locked[canonicalize_name(each.name)] not in each.specifier]


def test_conda_users_get_the_pins_of_the_lock():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    found = dict(re.findall(r"^\s+- ([\w.-]+)==(\S+)$", text, re.MULTILINE))
    python = re.search(r"^\s+- python=(3\.\d+)$", text, re.MULTILINE)[1]
    locked = pins(f"{python}.9")
    assert {package: locked.get(canonicalize_name(package)) for package in found} == found
    wanted = {Requirement(text).name for text in PROJECT["dependencies"]}
    assert wanted <= set(found)
    assert python in PROJECT["requires-python"]


def test_torch_and_torchvision_are_a_pair_here_and_at_the_lower_bound():
    bounds = {Requirement(text).name: Requirement(text).specifier for text in PROJECT["dependencies"]}
    lowest = [
        next(each.version for each in bounds[package] if each.operator == ">=") for package in ("torch", "torchvision")
    ]
    for torch, torchvision in ((pins()["torch"], pins()["torchvision"]), lowest):
        assert Version(torch).major == 2 and Version(torchvision).major == 0
        assert Version(torchvision).minor == Version(torch).minor + 15


def test_what_is_checked_stands_in_one_script_and_an_editor_in_a_container_is_no_root():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert re.findall(r"- run: (.+)", workflow) == [".ci/run", "make reproduce"]
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert container["image"].startswith("mcr.microsoft.com/devcontainers/python:")  # JupyterLab refuses root


def test_all_that_names_a_version_names_the_same():
    app = tomllib.loads((ROOT / "dml" / "flower" / "app" / "pyproject.toml").read_text(encoding="utf-8"))
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert PROJECT["version"] == app["project"]["version"] == cited[1]


def test_the_project_declares_its_packages_and_admits_this_python():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in MODULES}
    assert set(settings["tool"]["setuptools"]["packages"]) == packages
    assert Version(".".join(map(str, sys.version_info[:2]))) in Requirement(f"x{PROJECT['requires-python']}").specifier


# -- notebooks --------------------------------------------------------------------------------------------------------


def cells(notebook, kind="code"):
    content = json.loads(notebook.read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


def parameters(notebook):
    """{name: value} of the one tagged cell; raises unless every statement assigns a literal to a name."""
    (tagged,) = [cell for cell in cells(notebook) if "parameters" in cell["metadata"].get("tags", [])]
    found = {}
    for statement in ast.parse("".join(tagged["source"])).body:
        (target,) = statement.targets
        found[target.id] = ast.literal_eval(statement.value)
    return found


def test_there_are_notebooks_in_order_and_the_verdict_is_the_last():
    assert [path.name[:2] for path in NOTEBOOKS] == [
        "00",
        "01",
        "02",
        "03",
        "04",
        "05",
        "06",
        "07",
        "08",
        "09",
    ]
    assert len(NOTEBOOKS) >= 6


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name)
def test_a_notebook_is_clean(notebook):
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert re.fullmatch(r"\d\d_[a-z0-9_]+\.ipynb", notebook.name)
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    assert "papermill" not in content["metadata"] and all("papermill" not in c["metadata"] for c in content["cells"])
    code = cells(notebook)
    assert not [cell for cell in code if cell["outputs"] or cell["execution_count"] is not None]
    assert max(len("".join(cell["source"]).splitlines()) for cell in code) <= 12
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])
    assert content["cells"][0]["cell_type"] == "markdown"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name)
def test_a_notebook_computes_nothing_of_its_own(notebook):
    trees = [ast.parse("".join(cell["source"])) for cell in cells(notebook)]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    assert not [node for node in nodes if isinstance(node, (ast.While, ast.ClassDef))]
    loops = [node for node in nodes if isinstance(node, (ast.For, ast.FunctionDef))]
    assert all(node.end_lineno - node.lineno < 10 for node in loops)
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert not imported & {"os", "pathlib", "sys", "subprocess", "matplotlib", "matplotlib.pyplot"}


def test_all_notebooks_take_the_same_literal_parameters():
    first, *rest = [parameters(path) for path in NOTEBOOKS]
    assert all(each == first for each in rest)
    sizes = {"clients", "rounds", "train_images", "models"}
    assert set(first) == {"profile", "data", "seeds", "results", "figures", "device", "precision"} | sizes
    assert (first["profile"], first["data"], first["seeds"], first["results"]) == ("smoke", "faces", [], "")


# -- files ------------------------------------------------------------------------------------------------------------


def text_files():
    """Every file that git keeps or would keep, as text; binary ones are left out."""
    ask = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    for path in filter(Path.is_file, (ROOT / each for each in listed if each)):
        content = path.read_bytes()
        if b"\0" not in content:
            yield name(path), content.decode("utf-8")


def test_no_file_names_a_machine_or_a_package_index():
    places = ("work", "farm", "tmp/bash_jobs", "root", "home")  # as absolute paths, not inside relative ones
    machine = r"(?<![\w.*})~-])/(?:" + "|".join(places) + r")/"
    index = "|".join(("py" + "pi.org", "python" + "hosted", "index" + "-url", "find" + "-links", "/sim" + "ple/"))
    pattern = re.compile(f"{machine}|{index}")
    files = dict(text_files())
    assert "dml/config.py" in files and "requirements.lock" in files
    found = {file: match[0] for file, text in files.items() if (match := pattern.search(text))}
    assert found == {}


@pytest.mark.parametrize("command", ["make reproduce", "make test"])
def test_the_readme_names_the_two_commands(command):
    assert command in (ROOT / "README.md").read_text(encoding="utf-8")


def test_make_alone_lists_the_commands():
    listed = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, check=True).stdout
    for target in ("reproduce", "test", "figures", "lab", "flower", "fetch", "clean"):
        assert re.search(rf"^{target}\s+\S", listed, re.MULTILINE)


@pytest.mark.parametrize("target", ["reproduce", "figures", "fetch"])
def test_make_only_calls_the_command_line(target):
    shown = subprocess.run(
        ["make", "-C", str(ROOT), "-n", target, "READY=", "ARGS=--a b"], capture_output=True, text=True, check=True
    ).stdout
    assert f"-m dml {target} --a b" in shown


# -- code -------------------------------------------------------------------------------------------------------------


def tree(module):
    return ast.parse(module.read_text(encoding="utf-8"))


def dotted(node):
    """ "np.random.seed" of such an attribute, "" of anything that does not start with a name."""
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return node.id if isinstance(node, ast.Name) else ""


def imports(module):
    """Every module that a file imports when it runs (not for type checkers), with `from dml import x` as "dml.x"."""
    whole = tree(module)
    guards = [node for node in ast.walk(whole) if isinstance(node, ast.If) and dotted(node.test) == "TYPE_CHECKING"]
    skipped = {id(node) for guard in guards for node in ast.walk(guard)}
    return {name for node in ast.walk(whole) if id(node) not in skipped for name in imports_of(node)}


def imports_of(node):
    """The modules that one statement imports."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if not isinstance(node, ast.ImportFrom):
        return set()
    assert node.level == 0, f"a relative import of {node.module}"
    folder = (ROOT / Path(*node.module.split("."))).is_dir()
    return {f"{node.module}.{alias.name}" for alias in node.names} if folder else {node.module}


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_a_module_is_short_and_says_what_it_is(module):
    source = module.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 250
    assert not source or ast.get_docstring(ast.parse(source))


def test_only_plots_imports_a_plotting_library():
    drawing = re.compile(r"matplotlib|seaborn|pylab")
    found = {name(module) for module in MODULES if any(map(drawing.match, imports(module)))}
    assert found and {file for file in found if not file.startswith("dml/plots/")} == set()


FLOORS = (  # a module imports only from its own folder and from floors before its own
    ("",),  # the ground: config, streams, stats, files, models, losses, and what they need
    ("zoo",),
    ("data", "training", "exchange"),
    ("arms",),
    ("experiment",),
    ("privacy", "hostile", "crowd", "generalisation", "cluster"),
    ("studies",),
    ("evidence",),
    ("plots",),
    ("pipeline",),
    ("flower",),
    ("__main__",),
)
ANNEXES = (
    *("dml.privacy", "dml.hostile", "dml.crowd", "dml.generalisation"),
    *("dml.flower", "dml.cluster", "dml.exchange.secure"),
    *(
        "dml.arms.relatives",
        "dml.data.audit",
        "dml.data.partition",
        "dml.data.domains",
        "dml.experiment.lesson",
        "dml.zoo",
    ),
)


def room_of(module):
    """The folder of a dotted module: "exchange" for "dml.exchange.secure.masks", "" for the ground."""
    first, _, rest = module.removeprefix("dml").removeprefix(".").partition(".")
    return first if rest or (ROOT / "dml" / first).is_dir() or first == "__main__" else ""


def test_modules_import_each_other_in_one_direction():
    files = {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in MODULES}
    graph = {}
    for own, file in files.items():
        used = {each if each in files else each.rpartition(".")[0] for each in imports(file)}
        graph[own] = used & files.keys() - {own, "dml"}
    list(TopologicalSorter(graph).static_order())  # raises CycleError
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    against = [
        (own, other)
        for own, used in graph.items()
        for other in used
        if room_of(own) != room_of(other) and floor[room_of(own)] <= floor[room_of(other)]
    ]
    assert against == [] and sum(map(len, graph.values())) > 150


def lines_of(*rooms):
    """How many lines the modules of these rooms have."""
    return sum(
        len(module.read_text(encoding="utf-8").splitlines())
        for module in MODULES
        if room_of(own := ".".join(module.relative_to(ROOT).with_suffix("").parts)) in rooms
        and not own.startswith(ANNEXES)
    )


def test_the_core_is_small_and_needs_no_annex():
    """Only inside a function may the others import an annex, so that each can be taken away."""
    assert lines_of("", "data", "training", "exchange", "arms", "experiment") < 4500
    for module in MODULES:
        own = ".".join(module.relative_to(ROOT).with_suffix("").parts)
        if not own.startswith(ANNEXES):
            at_once = {alias for node in tree(module).body for alias in imports_of(node)}
            assert not [each for each in at_once if each.startswith(ANNEXES)], own


def test_only_the_command_line_prints():
    printing = {
        name(module)
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printing == {"dml/__main__.py", "dml/flower/__main__.py"}


GLOBAL_RANDOM = re.compile(
    r"(np|numpy)\.random\.(?!default_rng|Generator|SeedSequence)\w+"
    r"|torch\.(cuda\.)?(manual_seed(_all)?|seed|set_rng_state)"
    r"|random\.(?!default_rng)\w+"
)


def test_the_global_random_state_is_not_used():
    for text, expected in [("np.random.seed", 1), ("torch.manual_seed", 1), ("random.shuffle", 1)]:
        assert bool(GLOBAL_RANDOM.fullmatch(text)) == expected
    for text in ("np.random.default_rng", "generator.manual_seed", "rng.random"):
        assert not GLOBAL_RANDOM.fullmatch(text)
    used = {
        (name(module), dotted(node))
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and GLOBAL_RANDOM.fullmatch(dotted(node))
    }
    assert used == set()
