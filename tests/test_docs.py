"""What the documents say is so: commands, links, pictures, settings, tables, rooms and parameters."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

import cohortsync as cs
from cohortsync import cli, errors, ledger, runs, warehouse
from cohortsync.audience import REASONS
from cohortsync.config import Settings

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *(ROOT / f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY")),
             *sorted((ROOT / "docs").glob("*.md")), ROOT / "data" / "README.md"]
ids = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=ids)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def commands(text: str) -> list[list[str]]:
    """The words of every `cohortsync …` line or quoted phrase; where a pipe or a redirection begins, it ends."""
    lines = re.findall(r"^    (?:.*/)?cohortsync (.+)$", text, re.MULTILINE)
    found = lines + re.findall(r"`cohortsync ([^`…]+)`", text)
    return [shlex.split(re.split(r" (?:>>|2>>|#) ", line)[0]) for line in found]


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def schema_tables() -> dict[str, tuple[str, list[str]]]:
    """Table → its grain and its columns, as ``sql/schema.sql`` has them."""
    blocks = re.findall(r"((?:^-- .+\n)+)create table (\w+) \(([^;]+)\);", warehouse.sql("schema"), re.MULTILINE)
    return {table: (" ".join(line.removeprefix("-- ") for line in comment.splitlines()),
                    [" ".join(column.split()) for column in columns.split(",")])
            for comment, table, columns in blocks}


def described_tables() -> dict[str, list[str]]:
    """Table → its columns, as the data model's document has them."""
    text = read("docs/data-model.md")
    found = re.findall(r"^### `(\w+)`\n\n.+?\n\n(.+?)\n(?:\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return {table: re.findall(r"`([^`]+)`", columns) for table, columns in found}


def table_of(name: str, heading: str) -> list[str]:
    """What stands in backticks in the first column of the table whose heading row begins so."""
    rows = read(name).split(f"| {heading} |")[1].split("\n\n")[0].splitlines()[2:]
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row.split("|")[1])]


@every_document
def test_every_command_can_be_typed_as_it_stands(document: Path) -> None:
    group = typer.main.get_command(cli.cli)
    for words in commands(document.read_text(encoding="utf-8")):
        if words[-1] == "--help":
            continue
        command, name, rest, parent = group, "cohortsync", words, None
        while hasattr(command, "commands"):
            parent = command.make_context(name, list(rest), parent=parent)
            left = [*parent._protected_args, *parent.args]
            if not left and command.invoke_without_command:
                break
            name, command, rest = command.resolve_command(parent, left)
        command.make_context(name, list(rest), parent=parent)


def test_the_readme_shows_the_commands_that_matter() -> None:
    shown = {word for words in commands(read("README.md")) for word in words}
    assert {"init", "load", "audience", "connect", "mailchimp", "sync", "demo", "cohorts", "mtu", "notebooks"} <= shown


@every_document
def test_every_link_and_picture_is_there(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        linked = document.parent / file if file else document
        assert linked.is_file(), target
        assert not anchor or anchor in anchors(linked), target


@every_document
def test_every_table_is_whole(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [re.split(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", row)) for row in table.splitlines()]
        assert len(rows) > 2 and re.fullmatch(r"[|:\s-]+", table.splitlines()[1]), table
        assert {len(row) for row in rows} == {len(rows[0])}, table


def test_every_make_target_named_is_one() -> None:
    targets = set(re.findall(r"^([.a-z]+):", read("Makefile"), re.MULTILINE))
    named = {target for document in DOCUMENTS
             for target in re.findall(r"(?:`|^    )make ([a-z]+)", document.read_text(encoding="utf-8"), re.MULTILINE)}
    assert {"demo", "test"} <= named <= targets


def test_make_help_names_every_target() -> None:
    makefile = read("Makefile")
    phony = set(re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[1].split())  # type: ignore[index]
    assert set(re.findall(r"@echo 'make (\w+) ", makefile)) == phony - {"help", ".venv"}


def test_the_settings_are_the_ones_there_are() -> None:
    settings = [f"COHORTSYNC_{name.upper()}" for name in Settings.model_fields]
    assert table_of("docs/settings.md", "variable | default | what it does") == settings


def test_the_exit_statuses_are_those_of_the_errors() -> None:
    text = read("docs/scheduling.md")
    for error in (errors.BadInput, errors.ConfigurationError, errors.StoreError, errors.UnsafePlan,
                  errors.ApiTransient, errors.ApiFinal):
        assert re.search(rf"^\| {error.exit_status} \|.*`{error.__name__}`", text, re.MULTILINE), error


def test_the_notebooks_parameters_are_the_declared_ones() -> None:
    text = read("docs/notebooks.md")
    for notebook in runs.bundled_notebooks():
        row = re.search(rf"^\| `{notebook.stem}` \| (.+) \|$", text, re.MULTILINE)
        assert row
        assert re.findall(r"`(\w+)`", row[1]) == list(runs.declared_parameters(notebook))


def test_the_data_model_is_that_of_the_schema() -> None:
    schema = {table: columns for table, (_, columns) in schema_tables().items()}
    views = {"events": [*schema.pop("no_events"), "occurred_at timestamp"],
             "audience_members": schema.pop("no_audience_members")}
    assert described_tables() == schema | views


def test_the_tables_described_are_those_one_connects_to(workspace: cs.Workspace) -> None:
    with workspace.connect() as con:
        found = con.execute("select table_name, column_name from duckdb_columns() where schema_name = 'main' "
                            "and database_name = current_database() and not internal").fetchall()
    assert {(table, column.split()[0]) for table, columns in described_tables().items() for column in columns} <= {
        (table, column) for table, column in found}


def test_the_ledgers_tables_are_described() -> None:
    tables = set(re.findall(r"create table if not exists (\w+)", ledger.SCHEMA))
    assert tables == set(table_of("docs/data-model.md", "table of `state.sqlite` | one row per"))


def test_every_reason_and_event_class_is_explained() -> None:
    assert set(REASONS) <= set(table_of("docs/data-model.md", "reason | means"))
    named = read("docs/mtu.md")
    assert not [event for event in re.findall(r"\('(.+?)', '\w+', '\w+ page'\)", warehouse.sql("event_classes"))
                if event not in named and event.split(" - ")[-1] not in named]


def test_the_locked_versions_are_names_and_versions_alone() -> None:
    lines = [line for line in read("constraints.txt").splitlines() if not line.startswith("#")]
    assert not [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)]
    assert {"duckdb", "streamlit", "jupyterlab", "pytest"} <= {line.partition("==")[0] for line in lines}
