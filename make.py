"""Set featpipe up in an environment of its own, from this directory, and use it.

    python3 make.py demo     features of real images, a classifier trained on them, and where they lie
    python3 make.py docs     the documentation as a site: docs/_build/html/index.html
    python3 make.py test     style, types, layers, tests; further arguments go to pytest

It needs Python 3.11 or newer and the package registry, nothing else; it installs into .venv and leaves the system's
Python alone. Old Pythons must be able to read this file, so that they can be told.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent
WINDOWS = os.name == "nt"

if sys.version_info < OLDEST:
    sys.exit("make.py: featpipe needs Python {}.{} or newer, this is {}.{}. Run make.py with a newer one.".format(
        *OLDEST, *sys.version_info[:2]))  # fmt: skip


def main():
    """Do what the command line asks, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["demo", "docs", "test"])
    parser.add_argument("--python", help="the Python to make the environment with (this one)")
    parser.add_argument("--venv", default=ROOT / ".venv", type=Path, help="where the environment lies (.venv)")
    parser.add_argument("--no-lint", action="store_true", help="test: run the tests alone")
    options, rest = parser.parse_known_args()
    if rest and options.command != "test":
        parser.error("{} takes no argument {}".format(options.command, rest[0]))
    if options.python:
        others = ["--no-lint"] * options.no_lint + rest
        return run([options.python, __file__, options.command, "--venv", options.venv, *others])
    environment = Environment(options.venv.absolute())
    environment.provide(options.command)
    os.chdir(str(ROOT))
    if options.command == "test":
        return test(environment, rest, lint=not options.no_lint)
    return demo(environment) if options.command == "demo" else docs(environment)


def demo(environment):
    """Make example images, extract their features, classify them."""
    store = Path("pipelines") / "quickstart.zarr"
    steps = (
        [environment.python, Path("pipelines") / "make_images.py"],
        [environment.script("featpipe"), "run", Path("pipelines") / "quickstart.yaml", "--overwrite"],
        [environment.python, Path("pipelines") / "classify.py", store],
    )
    for step in steps:
        say("$ " + " ".join(shown(part) for part in step))
        status = run(step)
        if status:
            return status
    print("\nThe feature stack is {}. To open it, start {} and type".format(store, shown(environment.python)))
    print("    import featpipe")
    print("    stack = featpipe.open({!r})".format(store.as_posix()))
    print('    X, y = stack.xy(split="train")')
    return 0


def docs(environment):
    """Build the documentation; whatever is doubtful is an error."""
    target = Path("docs") / "_build" / "html"
    step = [environment.python, "-m", "sphinx", "-q", "-n", "-W", "--keep-going", "docs", target]
    say("$ " + " ".join(shown(part) for part in step))
    status = run(step)
    if not status:
        print("The documentation is {}.".format(target / "index.html"))
    return status


def test(environment, pytest_options, lint):
    """Run every check, also after one has failed; return the first failure's status."""
    python = environment.python
    checks = [
        [python, "-m", "ruff", "check", "."],
        [python, "-m", "ruff", "format", "--check", "."],
        [python, "-m", "mypy"],
        [environment.script("lint-imports"), "--no-cache"],
    ]
    workers = str(min(4, os.cpu_count() or 1))
    tests = [python, "-m", "pytest", "-n", workers, *pytest_options]
    failed = []
    for step in [*(checks if lint else []), tests]:
        say("$ " + " ".join(shown(part) for part in step))
        status = run(step)
        if status:
            failed.append((status, " ".join(shown(part) for part in step)))
    for _, command in failed:
        say("failed: " + command)
    return failed[0][0] if failed else 0


class Environment:
    """A virtual environment with featpipe in it, editable.

    Parameters
    ----------
    directory : Path
    """

    def __init__(self, directory):
        self.directory = directory
        self.scripts = directory / ("Scripts" if WINDOWS else "bin")
        self.python = self.script("python")

    def script(self, name):
        """Return the path of an installed command."""
        return self.scripts / (name + ".exe" if WINDOWS else name)

    def provide(self, extra):
        """Make the environment hold featpipe with an extra's dependencies, unless it does already."""
        stamp = self.directory / "featpipe-{}.txt".format(extra)
        wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + str((ROOT, sys.version)).encode()).hexdigest()
        if stamp.exists() and stamp.read_text() == wanted and self.python.exists():
            return
        say("setting up {} (a minute or two, once)".format(shown(self.directory)))
        pip = self.create()
        install = [*pip, "install", "--quiet", "--editable", "{}[{}]".format(ROOT, extra)]
        if run(install, cwd=str(ROOT)):
            sys.exit("make.py: pip could not install featpipe and what it needs; its message stands above.")
        stamp.write_text(wanted)

    def create(self):
        """Make a fresh virtual environment and return the command that is its pip."""
        if quiet([sys.executable, "-m", "venv", "--clear", self.directory]):
            return [self.python, "-m", "pip"]
        # Debian leaves ensurepip out of its Python: make do with the outer pip, or fetch one.
        if run([sys.executable, "-m", "venv", "--clear", "--without-pip", self.directory]):
            sys.exit("make.py: this Python cannot make virtual environments; its message stands above.")
        if quiet([sys.executable, "-m", "pip", "--python", self.python, "--version"]):
            return [sys.executable, "-m", "pip", "--python", self.python]
        wheel = fetch_pip(self.directory)
        return [self.python, str(wheel) + "/pip"]


def fetch_pip(directory):
    """Download pip's newest wheel from the registry, check its digest, and return its path; it runs as it is."""
    page = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/") + "/pip/"
    link = r'href="([^"]*/(pip-(\d+)\.(\d+)(?:\.(\d+))?-py3-none-any\.whl))#sha256=([0-9a-f]{64})"'
    try:
        with urllib.request.urlopen(page) as reply:
            wheels = re.findall(link, reply.read().decode())
        url, name, *_, digest = max(wheels, key=lambda found: [int(number or 0) for number in found[2:5]])
        with urllib.request.urlopen(urllib.parse.urljoin(page, url)) as reply:
            content = reply.read()
    except (OSError, ValueError) as error:
        sys.exit("make.py: this Python has no pip, and {} gives none: {}".format(page, error))
    if hashlib.sha256(content).hexdigest() != digest:
        sys.exit("make.py: the pip that {} sent is damaged; try again.".format(page))
    (directory / name).write_bytes(content)
    return directory / name


def run(command, cwd=None):
    """Run a command to its end, its output shown, and return its exit status."""
    sys.stdout.flush()
    return subprocess.call([str(part) for part in command], cwd=cwd, env=child_environment())


def quiet(command):
    """Run a command, its output hidden, and return whether it succeeded."""
    hidden = subprocess.DEVNULL
    done = subprocess.run(
        [str(part) for part in command], stdout=hidden, stderr=hidden, env=child_environment(), check=False
    )
    return done.returncode == 0


def child_environment():
    """Return this process's environment without what would lead an environment's Python or pip astray."""
    astray = ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_REQUIRE_VIRTUALENV")
    kept = {key: value for key, value in os.environ.items() if key not in astray}
    return {**kept, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONNOUSERSITE": "1"}


def shown(part):
    """Return a path or word as a person would type it here."""
    text = str(part)
    return os.path.relpath(text, str(ROOT)) if text.startswith(str(ROOT) + os.sep) else text


def say(text):
    """Tell what is going on, beside the results."""
    print("make: " + text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
