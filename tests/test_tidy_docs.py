"""What the documents name is there: verbs with their options, make targets, files, configuration keys."""

import re
import tomllib
from pathlib import Path

import pytest
from cyclopts import CycloptsError
from tidy import ROOT, read

from ops.cli import app
from ops.topology import parse_topology
from shm.errors import TickringError

DOCUMENTS = [Path(name) for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
SHOWN_COMMAND = re.compile(r"(?m)^    tickring (\S+(?: \S+)*)")
NAMED_VERB = re.compile(r"`tickring ((?:[a-z]+ ?)+)")
MAKE_VERB = re.compile(r"(?m)(?:^    |`|')make ([a-z]+)")
NAMED_FILE = re.compile(r"`((?:layouts|native|shm|collectors|consumers|ops|tests|bench)/[\w./]*)`")
TOML_BLOCK = re.compile(r"(?m)^    \[[a-z_.0-9]+\]\n(?:(?:    .*)?\n)+")


def command_findings(text: str) -> list[str]:
    """Name each command that the command line does not take as it is shown."""
    found = []
    for shown in SHOWN_COMMAND.findall(text):
        try:
            app.parse_args(shown.split(), exit_on_error=False, print_error=False)
        except CycloptsError as error:
            found.append(f"tickring {shown}: {error}")
    for named in NAMED_VERB.findall(text):
        level = app
        for verb in named.split():
            verbs = {name for name in level.resolved_commands() if not name.startswith("-")}
            if not verbs:
                break  # what follows are arguments
            if verb not in verbs:
                found.append(f"tickring {named}: there is no {verb}")
                break
            level = level[verb]
    return found


def make_findings(text: str) -> list[str]:
    """Name each make verb that the Makefile lacks."""
    targets = set(re.findall(r"(?m)^([a-z]+):", read(Path("Makefile"))))
    return [verb for verb in MAKE_VERB.findall(text) if verb not in targets]


def file_findings(text: str) -> list[str]:
    """Name each file or folder of the tree that is not there."""
    return [name for name in NAMED_FILE.findall(text) if not (ROOT / name).exists()]


def toml_findings(text: str) -> list[str]:
    """Name each mistake in a TOML file that is shown."""
    found = []
    for block in TOML_BLOCK.findall(text):
        try:
            parse_topology(tomllib.loads(re.sub(r"(?m)^    ", "", block)), "the document")
        except TickringError as error:
            found.append(str(error))
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_a_document_names_only_what_is_there(document: Path) -> None:
    """Commands parse, make verbs and files exist, shown configuration is sound."""
    text = read(document)
    findings = command_findings(text) + make_findings(text) + file_findings(text)
    assert not findings + toml_findings(text), "\n".join(findings + toml_findings(text))


def test_the_readme_shows_commands_and_a_configuration() -> None:
    """The patterns above find something to check."""
    text = read(Path("README.md"))
    assert len(SHOWN_COMMAND.findall(text)) >= 8
    assert {"run", "test"} <= set(MAKE_VERB.findall(text))
    assert len(TOML_BLOCK.findall(text)) == 1


@pytest.mark.parametrize(
    ("findings", "text"),
    [
        (command_findings, "    tickring fly --high   away\n"),
        (command_findings, "    tickring status --no-such-option\n"),
        (command_findings, "see `tickring fly`"),
        (command_findings, "see `tickring ring fly`"),
        (make_findings, "    make coffee\n"),
        (file_findings, "in `shm/no_such_module.py`"),
        (toml_findings, "    [collectors.kraken]\n    no_such_key = 1\n"),
    ],
)
def test_what_is_not_there_is_found(findings: object, text: str) -> None:
    """Each kind of untruth is one finding."""
    assert callable(findings)
    assert len(findings(text)) == 1


def test_what_is_there_passes() -> None:
    """Verbs of both levels, with options, followed by what they do."""
    text = "    tickring up -c my.toml   go\n    tickring ring tail -f kraken.events\n`tickring audit --json`"
    assert command_findings(text) == []
