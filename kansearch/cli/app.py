"""The commands: each takes its options, makes one call and prints what that returns."""

from __future__ import annotations

import json
import shlex
import sys
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import typer

from kansearch import __version__
from kansearch.garbage import large_imports
from kansearch.worker.signals import GRACE_S

app = typer.Typer(
    help="Search which KAN, hybrid and plain networks are worth having on your data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

StorageOption = Annotated[
    str | None,
    typer.Option("--storage", metavar="URL", help="Where studies are kept [KANSEARCH_STORAGE, else a file here]."),
]
ArtifactsOption = Annotated[
    str | None,
    typer.Option(
        "--artifacts",
        metavar="PLACE",
        help="Folder or s3://BUCKET/PREFIX of large checkpoints [KANSEARCH_ARTIFACTS, else the storage].",
    ),
]
PackOption = Annotated[
    int | None,
    typer.Option(
        min=1, max=256, metavar="N", help="Trials that a worker trains together [as many as pay, at most 16]."
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Where the data lie, if elsewhere than the study says: the file, or its folder [KANSEARCH_DATA].",
    ),
]
DeviceOption = Annotated[Literal["cpu", "cuda"], typer.Option(help="What trials are trained on.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of a study in the storage.")]


StudyFileArgument = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file.")]
StudyNameOption = Annotated[str | None, typer.Option("--name", help="Name of the study instead of the file's.")]
TrialsOption = Annotated[int | None, typer.Option("--trials", help="Budget of trials instead of the file's.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Seed of the search instead of the file's.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change a value of the file; repeatable.")
]


def _changes(overrides: list[str] | None, trials: int | None, seed: int | None) -> list[str]:
    """What is changed of a study file."""
    changes = list(overrides or [])
    changes += [] if trials is None else [f"budget.trials={trials}"]
    changes += [] if seed is None else [f"search.seed={seed}"]
    return changes


def _without_secrets(arguments: list[str]) -> list[str]:
    """A command line for people."""
    from kansearch.storage.url import shown

    flag = "--storage"

    def without(before: str, argument: str) -> str:
        if before == flag:
            return shown(argument)
        if argument.startswith(f"{flag}="):
            return f"{flag}={shown(argument.removeprefix(f'{flag}='))}"
        return argument

    return [without(before, argument) for before, argument in pairwise(["", *arguments])]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kansearch {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Search which KAN, hybrid and plain networks are worth having on your data."""


@app.command()
def init(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="A table (CSV, TSV, Parquet), or a folder with a folder for each class."),
    ],
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of the table to predict [a guess, which is said].")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The study file [the data's name with .yaml].")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the study file if it is there.")] = False,
) -> None:
    """Look at data and write a study file for them, with comments, which `optimize` runs as it is."""
    with large_imports():
        from kansearch.cli.init import write_study

    write_study(data, target, output, force=force)


@app.command()
def optimize(
    study_file: StudyFileArgument,
    name: StudyNameOption = None,
    storage: StorageOption = None,
    artifacts: ArtifactsOption = None,
    trials: TrialsOption = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes [one a core, at most 8]; on a cluster, tasks [1].")
    ] = None,
    pack: PackOption = None,
    device: DeviceOption = "cpu",
    seed: SeedOption = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the report [reports/NAME].")] = None,
    launcher: Annotated[
        Literal["local", "slurm", "ray", "kubernetes"] | None,
        typer.Option(help="Who places the workers [what `launch` of the file says, else local]."),
    ] = None,
    cluster: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File of a site: partition, cpus, memory, time ...")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print exactly what would be sent, and end.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Leave once workers are placed on a cluster, and let them work.")
    ] = False,
    overrides: SetOption = None,
) -> None:
    """Create or resume a study, search with workers here or on a cluster, and write the report."""
    from kansearch.cli.optimize import Optimize, Options

    changes = _changes(overrides, trials, seed)
    again = shlex.join(["kansearch", *_without_secrets(sys.argv[1:])])
    options = Options(
        study_file=study_file,
        name=name,
        storage=storage,
        artifacts=artifacts,
        overrides=tuple(changes),
        workers=workers,
        pack=pack,
        device=device,
        output=output,
        launcher=launcher,
        cluster=cluster,
        dry_run=dry_run,
        detach=detach,
        command=again,
    )
    raise typer.Exit(Optimize(options).run())


@app.command()
def submit(
    study_file: StudyFileArgument,
    name: StudyNameOption = None,
    storage: StorageOption = None,
    artifacts: ArtifactsOption = None,
    trials: TrialsOption = None,
    seed: SeedOption = None,
    overrides: SetOption = None,
) -> None:
    """Create a study, or change its budget, and leave the search to standing workers."""
    from kansearch.cli.places import find_places
    from kansearch.cli.studies import enter_study
    from kansearch.cli.tables import console
    from kansearch.report.words import count
    from kansearch.specs.study_file import load_study_file

    spec = load_study_file(study_file, _changes(overrides, trials, seed), name)
    places = find_places(spec, study_file, storage, artifacts)
    study = enter_study(spec, places, console())
    typer.echo(
        f"{count(study.budget, 'trial')} for whoever serves this storage: kansearch worker --all{places.hint}; "
        f"how far they are: kansearch status {study.spec.name}{places.hint}"
    )


@app.command()
def stop(
    name: NameArgument,
    storage: StorageOption = None,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Also end the jobs that hold its workers on a cluster.")
    ] = False,
) -> None:
    """Let all workers leave a study; their trials go on from where they are when it does."""
    from kansearch.cli.jobs import cancel_jobs
    from kansearch.cli.places import storage_url
    from kansearch.report.words import count
    from kansearch.storage.studies import load_study
    from kansearch.storage.url import open_storage

    study = load_study(open_storage(storage_url(storage)), name)
    if study.is_done:
        typer.echo(f"Study {name} is done already: {count(study.budget, 'trial')}. A larger --trials lets it go on.")
    else:
        study.stop()
        typer.echo(f"Study {name} is stopped; its workers leave it within seconds. optimize and submit let it go on.")
    if cancel:
        cancel_jobs(study)


@app.command()
def delete(
    name: NameArgument,
    storage: StorageOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete it without asking.")] = False,
) -> None:
    """Delete a study for good, with its trials, checkpoints and artifacts; its workers leave it first."""
    from kansearch.cli.delete import delete_for_good
    from kansearch.cli.places import storage_url
    from kansearch.storage.studies import load_study
    from kansearch.storage.url import open_storage

    delete_for_good(load_study(open_storage(storage_url(storage)), name), sure=yes)


@app.command()
def worker(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Name of a study in the storage.")] = None,
    serves_all: Annotated[
        bool, typer.Option("--all", help="Serve every open study of the storage, now and later, until stopped.")
    ] = False,
    storage: StorageOption = None,
    number: Annotated[int, typer.Option(min=0, help="Of this worker among the study's; decides its draws.")] = 0,
    pack: PackOption = None,
    device: DeviceOption = "cpu",
    data: DataOption = None,
    launcher: Annotated[
        int | None, typer.Option(metavar="PID", help="Process that started this worker, which stops when that is gone.")
    ] = None,
    grace: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="For an epoch to end after a request to stop.")
    ] = GRACE_S,
    processes: Annotated[
        int, typer.Option(min=1, max=1024, metavar="N", help="Start so many worker processes and keep them up.")
    ] = 1,
    deadline: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="SECONDS", help="Leave after so long [two minutes before a Slurm job's time limit]."
        ),
    ] = None,
    idle_exit: Annotated[
        float | None, typer.Option("--idle-exit", min=0, metavar="SECONDS", help="Leave after so long without a trial.")
    ] = None,
) -> None:
    """Train trials of a study until its budget is spent; `optimize` starts these."""
    from kansearch.errors import UserError
    from kansearch.worker.signals import StopSignals, leave_at

    if (name is None) is not serves_all:
        raise UserError("a worker needs the NAME of a study, or --all")
    if processes > 1:
        from kansearch.cli.places import storage_url
        from kansearch.launch.crew import crew
        from kansearch.launch.request import LaunchRequest
        from kansearch.storage.url import ENVIRONMENT

        said = {"--pack": pack, "--device": device, "--grace": grace, "--idle-exit": idle_exit}
        flags = [word for flag, value in said.items() if value is not None for word in (flag, str(value))]
        secrets = {ENVIRONMENT: storage_url(storage)}
        leave_at(deadline)
        request = LaunchRequest(name or "--all", processes, tuple(flags), secrets=secrets)
        raise typer.Exit(crew(request, number * processes, grace))
    # First of all, so that a request to stop is not lost while torch is imported.
    signals = StopSignals(launcher, grace)
    leave_at(deadline)
    with large_imports():
        from kansearch.cli.places import storage_url
        from kansearch.storage.patience import PATIENCE_S
        from kansearch.storage.studies import load_study
        from kansearch.storage.url import open_storage
        from kansearch.training.device import find_device
        from kansearch.worker.loop import work
        from kansearch.worker.rota import work_on_all

    where = find_device(device, number)
    opened = open_storage(storage_url(storage), patience_s=PATIENCE_S)
    if name is None:
        work_on_all(opened, signals, pack, where, idle_exit, data)
    else:
        work(load_study(opened, name), number, signals, pack, where, idle_s=idle_exit, data=data)
    raise typer.Exit(signals.exit_code)


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A study; without it, all of them.")] = None,
    storage: StorageOption = None,
) -> None:
    """Show how far a study is, who works on it, why trials failed and the front so far."""
    from kansearch.cli.places import storage_url
    from kansearch.cli.status import show_studies, show_study
    from kansearch.storage.studies import load_study
    from kansearch.storage.url import open_storage

    url = storage_url(storage)
    opened = open_storage(url, read_only=True)
    if name is None:
        show_studies(opened, url)
    else:
        show_study(load_study(opened, name))


@app.command()
def report(
    name: NameArgument,
    storage: StorageOption = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the report [reports/NAME].")] = None,
) -> None:
    """Write the Pareto report of a study: report.html, report.json and trials.csv."""
    from kansearch.cli.places import storage_url
    from kansearch.cli.results import report_study
    from kansearch.storage.studies import load_study
    from kansearch.storage.url import open_storage

    study = load_study(open_storage(storage_url(storage), read_only=True), name)
    typer.echo(report_study(study, output or Path("reports") / study.spec.name)[1])


@app.command()
def explain(
    name: NameArgument,
    trial: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Which trial [the best KAN or hybrid of the front].")
    ] = None,
    curves: Annotated[int, typer.Option(min=1, max=96, metavar="N", help="Curves to show.")] = 24,
    storage: StorageOption = None,
    data: DataOption = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the page [reports/NAME].")] = None,
) -> None:
    """Show what a trial's network has learned: inputs, curves, formulas, and how many curves it needs."""
    from kansearch.cli.explain import explain_trial
    from kansearch.cli.places import storage_url
    from kansearch.storage.studies import load_study
    from kansearch.storage.url import open_storage

    study = load_study(open_storage(storage_url(storage), read_only=True), name)
    explain_trial(study, trial, curves, output or Path("reports") / study.spec.name, data)


@app.command()
def export(
    name: NameArgument,
    trial: Annotated[int | None, typer.Option(min=0, metavar="N", help="Which trial [the best of the front].")] = None,
    storage: StorageOption = None,
    data: DataOption = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to [reports/NAME/trial-N.safetensors].")
    ] = None,
) -> None:
    """Train a trial's network again and write it into a file, from which other studies can begin."""
    from kansearch.cli.export import export_trial
    from kansearch.cli.places import storage_url
    from kansearch.storage.studies import load_study
    from kansearch.storage.url import open_storage

    export_trial(load_study(open_storage(storage_url(storage), read_only=True), name), trial, output, data)


@app.command()
def dashboard(
    storage: StorageOption = None,
    artifacts: ArtifactsOption = None,
    host: Annotated[
        str, typer.Option(help="Address of this machine; others than loopback need a password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    writable: Annotated[
        bool, typer.Option("--writable", help="Let notes and artifacts be changed, and studies deleted.")
    ] = False,
) -> None:
    """Review the studies of a storage in a browser: fronts, curves, learned activations, notes."""
    from kansearch.cli.dashboard import show_dashboard

    show_dashboard(storage, artifacts, host, port, writable=writable)


@app.command()
def schema() -> None:
    """Print the JSON Schema of study files, for editors."""
    from kansearch.specs.schema import study_schema

    typer.echo(json.dumps(study_schema(), indent=2))


@app.command()
def doctor(storage: StorageOption = None) -> None:
    """Check versions, devices and the storage; say what is wrong and how to mend it."""
    from kansearch.cli.doctor import examine
    from kansearch.cli.places import storage_url

    raise typer.Exit(examine(storage_url(storage)))
