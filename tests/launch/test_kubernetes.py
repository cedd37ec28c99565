"""Workers that Kubernetes places: manifests that hold, kubectl that refuses, and pods played by processes."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import shutil
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import kubernetes_validate
import optuna
import pytest
import yaml
from optuna.trial import TrialState, create_trial
from sqlalchemy import func, update

from kansearch.errors import LaunchError
from kansearch.launch.crew import LEAVE_S as CREW_LEAVE_S
from kansearch.launch.environment import WORKER_ENVIRONMENT
from kansearch.launch.kubernetes import LEAVE_S, KubernetesJob, KubernetesLauncher
from kansearch.launch.request import LaunchRequest, Resources
from kansearch.specs.launch import LaunchSpec
from kansearch.specs.study import StudySpec
from kansearch.storage.studies import StoredStudy, create_study, open_studies
from kansearch.storage.tables import WorkerModel
from kansearch.storage.url import open_storage
from kansearch.storage.workers import Presence, worker_name
from kansearch.worker.signals import GRACE_S
from tests.commands import run_in
from tests.conftest import missing
from tests.faults.crew import check_invariants, create_storm
from tests.launch.contract import check_contract
from tests.launch.indexed_job import IndexedJob, PlayedCluster
from tests.servers import Server, free_port

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()

VERSIONS = ("1.29", kubernetes_validate.latest_version())
"""Of Kubernetes: the first one that has all that the manifest relies on, and the newest."""

SECRETS = {"KANSEARCH_STORAGE": "postgresql://kan:geheim@db/kan"}

EVERYTHING = LaunchSpec(
    launcher="kubernetes", image="registry.example:5000/lab/kansearch:2", namespace="lab", secret="lab-storage"
)
LARGE = Resources(cpus=4, gpus=2, memory_mib=8192, seconds=4 * 3600)


def plan(
    study: str = "small", *arguments: str, spec: LaunchSpec | None = None, tasks: int = 3, resources: Resources = LARGE
) -> str:
    request = LaunchRequest(study, tasks, arguments, resources, {"REGION": "$(HOME) or $5"}, SECRETS)
    return KubernetesLauncher(spec or LaunchSpec(launcher="kubernetes")).plan(request).text


def manifest(*given: Any, **named: Any) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(plan(*given, **named))
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("spec", "resources"), [(None, Resources()), (EVERYTHING, LARGE)], ids=["least", "most"])
def test_manifests_are_what_kubernetes_knows(version: str, spec: LaunchSpec | None, resources: Resources) -> None:
    """No field that the version has not, none of a wrong type, none missing."""
    kubernetes_validate.validate(manifest(spec=spec, resources=resources), version, strict=True)


def test_manifests_are_what_the_servers_check_beyond_their_schema() -> None:
    """What an Indexed Job with such a policy needs, amounts as Kubernetes writes them, an image of one version."""
    job = manifest(spec=EVERYTHING)["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", 3, 3)
    assert (job["podReplacementPolicy"], pod["restartPolicy"]) == ("Failed", "Never")
    rules = job["podFailurePolicy"]["rules"]
    codes = [rule["onExitCodes"] for rule in rules if "onExitCodes" in rule]
    assert all(one["containerName"] == container["name"] for one in codes)
    assert all(one["values"] == sorted(set(one["values"]) - {0}) for one in codes)
    assert {rule["action"] for rule in rules} == {"Ignore", "FailJob", "FailIndex"}
    amounts = container["resources"]["limits"]
    assert amounts == {"cpu": "4", "memory": "8192Mi", "nvidia.com/gpu": "2"}
    assert container["resources"]["requests"] == amounts
    assert pod["activeDeadlineSeconds"] == 4 * 3600
    assert container["args"][-4:] == ["--deadline", str(4 * 3600 - 120), "--number", "$(JOB_COMPLETION_INDEX)"]
    (image,) = manifest()["spec"]["template"]["spec"]["containers"]
    assert re.fullmatch(r"kansearch:\d+\.\d+\S*", image["image"])


def test_pods_may_do_nothing_but_work() -> None:
    """No root, no rights to be had, a root file system to be read only, no token of the cluster's."""
    pod = manifest()["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_pods_run_the_image_of_docker() -> None:
    """Its command, its user, and folders to write to where the image wants to: all others are to be read only."""
    pod = manifest()["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert f"ENTRYPOINT {json.dumps(container['command'])}" in DOCKERFILE
    assert f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" in DOCKERFILE
    writable = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(re.findall(r"(?:HOME|KANSEARCH_DATA)=(\S+)", DOCKERFILE)) <= writable
    environment = {one["name"]: one.get("value") for one in container["env"]}
    assert environment.items() >= WORKER_ENVIRONMENT.items()
    assert environment["REGION"] == "$$(HOME) or $$5"  # Kubernetes would put something in its place
    assert pod["terminationGracePeriodSeconds"] == LEAVE_S > GRACE_S + CREW_LEAVE_S + 15


def test_the_url_comes_from_a_secret() -> None:
    """The manifest names the Secret and its key, and nothing else of it."""
    (container,) = manifest(spec=EVERYTHING)["spec"]["template"]["spec"]["containers"]
    (source,) = (one["valueFrom"] for one in container["env"] if one["name"] == "KANSEARCH_STORAGE")
    assert source == {"secretKeyRef": {"name": "lab-storage", "key": "KANSEARCH_STORAGE"}}
    assert "geheim" not in plan(spec=EVERYTHING)


def test_every_study_has_a_job_name_that_kubernetes_takes() -> None:
    """Small letters, digits and hyphens, short enough for what is put behind it, and another one for every study."""
    studies = [
        "digits",
        "Digits",
        "digits.v2",
        "digits_v2",
        "digits@v2",
        "digits-",
        "A" * 100,
        "a" * 100,
        "a" * 99,
        "7",
    ]
    names = [manifest(study, tasks=1024)["metadata"]["generateName"] for study in studies]
    assert names[0] == "kansearch-digits-"
    for name in names:
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", f"{name}x7k2p-1023"), name
    assert all(one != other for one, other in itertools.combinations(names, 2))
    label = r"[a-z0-9A-Z]([-a-z0-9A-Z_.]{0,61}[a-z0-9A-Z])?"
    for labels in (
        manifest("A" * 100)["metadata"]["labels"],
        manifest("a@b")["spec"]["template"]["metadata"]["labels"],
    ):
        assert all(re.fullmatch(label, value) for value in labels.values())


# --- kubectl ------------------------------------------------------------------------------------------------

FAKE = f"""#!{sys.executable} -IS
# A stand-in for kubectl: it has no cluster, notes what it is asked and gives the answers that a test wrote down.
import json, pathlib, sys
here = pathlib.Path(__file__).parent
words = " ".join(sys.argv[1:])
with (here / "asked").open("a") as asked:
    asked.write(words + "\\n")
for begin, (status, output, errors) in json.loads((here / "answers").read_text()).items():
    if words.startswith(begin):
        sys.stdout.write(output)
        sys.stderr.write(errors)
        sys.exit(status)
sys.exit("no answer to " + words)
"""

Answers = dict[str, tuple[int, str, str]]
MADE: Answers = {
    "get secret": (0, "secret/kansearch-storage\n", ""),
    "create": (0, "lab/kansearch-small-x7k2p", ""),
}


class Kubectl:
    """The stand-in, alone on the PATH."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.path = folder, str(folder)
        program = folder / "kubectl"
        program.write_text(FAKE)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def answer(self, answers: Answers) -> None:
        (self.folder / "answers").write_text(json.dumps(answers))

    @property
    def asked(self) -> list[str]:
        file = self.folder / "asked"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def kubectl(tmp_path: Path) -> Kubectl:
    return Kubectl(tmp_path / "bin")


@pytest.fixture
def storage(postgres: Server) -> Iterator[str]:
    with postgres.lent_storage() as url:
        yield url


def optimize(study_file: Path, url: str, path: str, *flags: str, **environment: str) -> tuple[int, str, str]:
    arguments = ("optimize", study_file, "--launcher", "kubernetes", "--detach", *flags)
    done = run_in(study_file.parent, *arguments, KANSEARCH_STORAGE=url, PATH=path, **environment)
    return done.returncode, done.stdout, done.stderr


def test_a_study_is_sent_watched_and_cancelled(study_file: Path, storage: str, kubectl: Kubectl) -> None:
    """What is sent is kept; status shows the pods and why they wait; nothing is sent twice; --cancel ends the Job."""
    kubectl.answer(MADE)
    (study_file.parent / "site.yaml").write_text("launcher: kubernetes\nnamespace: lab\nlogs: sent\n")
    code, output, errors = optimize(study_file, storage, kubectl.path, "--cluster", "site.yaml")
    assert code == 0, errors
    assert "Kubernetes Job lab/kansearch-small-x7k2p, logs: kubectl logs" in " ".join(output.split())
    sent = study_file.parent / "sent/small.job.yaml"
    assert yaml.safe_load(sent.read_text())["metadata"]["namespace"] == "lab"
    assert f"create --filename={sent}" in kubectl.asked[-1]

    pods = [{"phase": "Running"}, {"phase": "Succeeded"}, waiting("ImagePullBackOff"), {"phase": "Pending"}]
    answers = MADE | {
        "get job kansearch-small-x7k2p --namespace=lab": (0, json.dumps({"status": {"active": 3}}), ""),
        "get pods --namespace=lab": (0, json.dumps({"items": [{"status": pod} for pod in pods]}), ""),
        "delete job kansearch-small-x7k2p --namespace=lab": (0, "", ""),
    }
    kubectl.answer(answers)
    environment = {"KANSEARCH_STORAGE": storage, "PATH": kubectl.path}
    said = " ".join(run_in(study_file.parent, "status", "small", **environment).stdout.split())
    assert "1 running, 1 pending (ImagePullBackOff), 1 pending" in said
    code, output, errors = optimize(study_file, storage, kubectl.path, "--cluster", "site.yaml")
    assert "There are workers already: 1 running" in output, errors
    assert sum(line.startswith("create") for line in kubectl.asked) == 1
    done = run_in(study_file.parent, "stop", "small", "--cancel", **environment)
    assert "cancelled" in done.stdout, done.stderr
    assert kubectl.asked[-1].startswith("delete job kansearch-small-x7k2p")

    done = run_in(study_file.parent, "stop", "small", "--cancel", **environment)  # it is forgotten
    assert (done.returncode, kubectl.asked[-1].split()[0]) == (0, "delete")
    assert "Kubernetes" not in run_in(study_file.parent, "status", "small", **environment).stdout


def waiting(reason: str) -> dict[str, Any]:
    return {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": reason}}}]}


NO_SECRET = (1, "", 'Error from server (NotFound): secrets "kansearch-storage" not found\n')
FORBIDDEN = (
    1,
    "",
    'Error from server (Forbidden): jobs.batch is forbidden: User "ann" cannot create resource "jobs"\n',
)
BAD_IMAGE = (1, "", 'The Job "kansearch-small-x7k2p" is invalid: spec.template: Invalid value\n')


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (
            {"get secret": NO_SECRET},
            (
                "kubectl's own namespace has no Secret kansearch-storage, from which the workers take the storage's URL"
                "; this makes it, with the URL for ***: kubectl create secret generic kansearch-storage "
                "--from-literal=KANSEARCH_STORAGE='***'; the manifest is kept: "
            ),
        ),
        # Who may not look at Secrets may still make Jobs, and may not.
        ({"get secret": FORBIDDEN, "create": FORBIDDEN}, "kubectl says: Error from server (Forbidden): jobs.batch is"),
        (MADE | {"create": BAD_IMAGE}, 'kubectl says: The Job "kansearch-small-x7k2p" is invalid: spec.template'),
        (MADE | {"create": (0, "hello", "")}, 'kubectl answered "hello", which is no Job'),
    ],
    ids=["no secret", "forbidden", "invalid", "nonsense"],
)
def test_what_kubernetes_refuses_is_said_in_its_words(
    study_file: Path, storage: str, kubectl: Kubectl, answers: Answers, words: str
) -> None:
    """One line, exit code 3; the manifest is kept and named, and no job is noted."""
    kubectl.answer(answers)
    code, _, errors = optimize(study_file, storage, kubectl.path)
    assert code == 3
    assert words in errors
    assert len(errors.splitlines()) == 1
    kept = Path(errors.strip().rpartition("the manifest is kept: ")[2])
    assert yaml.safe_load(kept.read_text())["kind"] == "Job"
    assert storage not in errors + kept.read_text()
    said = run_in(study_file.parent, "status", "small", KANSEARCH_STORAGE=storage, PATH=kubectl.path)
    assert "Kubernetes" not in said.stdout


def test_a_machine_without_kubectl_is_told_where_to_get_it(study_file: Path, storage: str, tmp_path: Path) -> None:
    """One line, exit code 3."""
    code, _, errors = optimize(study_file, storage, str(tmp_path))
    assert code == 3
    assert errors.startswith("kansearch: there is no kubectl on this machine; https://kubernetes.io/docs/tasks/tools")
    assert len(errors.splitlines()) == 1


def test_a_cluster_that_does_not_answer_is_said_by_kubectl(study_file: Path, storage: str, tmp_path: Path) -> None:
    """The real kubectl, asked of a port on which nobody listens: one line of its many, exit code 3."""
    if shutil.which("kubectl") is None:
        missing("kubectl", "kubectl is missing: https://kubernetes.io/docs/tasks/tools")
    server = f"127.0.0.1:{free_port()}"
    cluster = {"name": "gone", "cluster": {"server": f"http://{server}"}}
    context = {"name": "gone", "context": {"cluster": "gone", "user": "nobody"}}
    users = [{"name": "nobody", "user": {}}]
    config = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context], "users": users}
    (tmp_path / "config").write_text(yaml.safe_dump({**config, "current-context": "gone"}))
    flags = {"KUBECONFIG": str(tmp_path / "config")}
    code, _, errors = optimize(study_file, storage, os.environ["PATH"], **flags)
    assert code == 3
    assert f"kubectl says: The connection to the server {server} was refused" in errors
    assert len(errors.splitlines()) == 1


def failed(code: int, reason: str = "Error", name: str = "pod-1") -> dict[str, Any]:
    ended = {"exitCode": code, "reason": reason}
    return {
        "metadata": {"name": name},
        "status": {"phase": "Failed", "containerStatuses": [{"state": {"terminated": ended}}]},
    }


def end(kind: str) -> str:
    condition = {"type": kind, "status": "True", "reason": "PodFailurePolicy", "message": "as the policy says"}
    return json.dumps({"status": {"conditions": [condition]}})


@pytest.mark.parametrize(
    ("kind", "pods", "found"),
    [
        ("Complete", [], None),
        ("Failed", [failed(143), failed(2, name="pod-2")], (2, "of pod-2: last words")),
        (
            "Failed",
            [failed(137, "OOMKilled")],
            (
                3,
                "lab/small failed: as the policy says\npod pod-1 ended with exit code 137 (OOMKilled)\nlast words",
            ),
        ),
        ("Failed", [], (3, "lab/small failed: as the policy says")),
    ],
    ids=["complete", "a mistake", "memory", "no pods left"],
)
def test_a_job_ends_with_the_words_of_the_pod_that_gave_up(
    kubectl: Kubectl,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    pods: list[dict[str, Any]],
    found: tuple[int, str] | None,
) -> None:
    """A worker that a person can help comes first, with its own exit code; else the cluster's reason and its pod's."""
    monkeypatch.setenv("PATH", kubectl.path)
    logs: Answers = {"logs pod-1": (0, "last words\n", ""), "logs pod-2": (0, "of pod-2: last words\n", "")}
    items = json.dumps({"items": pods})
    kubectl.answer({"get job small": (0, end(kind), ""), "get pods": (0, items, ""), **logs})
    job = KubernetesJob("lab", "small")
    assert (job.poll(), job.state(), job.ended_with()) == (0, "ended", found)


def test_a_command_that_watches_ends_as_its_workers_did(study_file: Path, storage: str, kubectl: Kubectl) -> None:
    """What a worker has to say stands on the user's terminal, with the exit code that it has there."""
    pods = json.dumps({"items": [failed(2)]})
    job = {"get job": (0, end("Failed"), ""), "get pods": (0, pods, ""), "logs": (0, "kansearch: it is so\n", "")}
    kubectl.answer({**MADE, **job})
    done = run_in(
        study_file.parent, "optimize", study_file, "--launcher", "kubernetes",
        KANSEARCH_STORAGE=storage, PATH=kubectl.path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "kansearch: it is so\n")


def test_a_job_that_a_queue_holds_back_waits(kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kueue and its like suspend Jobs: nothing is wrong."""
    monkeypatch.setenv("PATH", kubectl.path)
    held = {"status": {"conditions": [{"type": "Suspended", "status": "True"}]}}
    kubectl.answer({"get job": (0, json.dumps(held), "")})
    job = KubernetesJob("lab", "small")
    assert (job.poll(), job.state(), job.ended_with()) == (1, "suspended", None)


def test_a_watched_job_survives_a_control_plane_that_restarts(
    kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While kubectl gets no answer the last one holds; after ten minutes of that it is an error. Questions are few."""
    monkeypatch.setenv("PATH", kubectl.path)
    now = 0.0
    monkeypatch.setattr("kansearch.launch.engine.time.monotonic", lambda: now)
    job = KubernetesJob("lab", "small")
    kubectl.answer({"get job": (0, json.dumps({"status": {"active": 4}}), "")})
    assert [job.poll() for _ in range(3)] == [4, 4, 4]
    assert len(kubectl.asked) == 1
    kubectl.answer({"get job": (1, "", "The connection to the server was refused\n")})
    now = 590.0
    assert job.poll() == 4
    now = 610.0
    with pytest.raises(LaunchError, match="connection to the server was refused"):
        job.poll()


# --- the Job, played ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_study_outlives_all_that_kubernetes_does_to_its_pods(postgres: Server, tmp_path: Path) -> None:
    """One pod is evicted, one killed, one told that its time is up: the budget is exact, and one crash is counted."""
    url = postgres.new_database()
    study = create_storm(tmp_path, url, trials=10, epochs=800)
    text = plan("storm", "--pack", "2", spec=EVERYTHING, resources=Resources())
    with IndexedJob(text, {"lab-storage": {"KANSEARCH_STORAGE": url}}, tmp_path) as job:
        job.work_until(lambda: study.counts()["running"] == 6)  # two in every pod
        job.preempt(0)
        job.pods[1].kill()
        job.pods[2].send_signal(signal.SIGUSR1)
        job.finish()
        assert job.succeeded == {0, 1, 2}, job.words[-2000:]
    assert job.codes == {0: [143, 0], 1: [137, 0], 2: [138, 0]}
    assert job.crashes == {0: 0, 1: 1, 2: 0}
    records = check_invariants(study, budget=10)
    assert any(record.resumed_at for record in records)
    assert {"its worker died", "its worker was asked to stop"} <= {record.reason for record in records}


@pytest.mark.slow
def test_pods_keep_the_contract(postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the tasks of all launchers do, sent through kubectl to a cluster that is played."""
    url = postgres.new_database()
    spec = LaunchSpec(launcher="kubernetes", logs=str(tmp_path / "sent"))
    with PlayedCluster(tmp_path / "bin", {"kansearch-storage": {"KANSEARCH_STORAGE": url}}) as cluster:
        monkeypatch.setenv("PATH", f"{cluster.folder}:{os.environ['PATH']}")
        check_contract(KubernetesLauncher(spec), tmp_path, url)


@pytest.mark.slow
def test_a_mistake_ends_the_whole_job(postgres: Server, tmp_path: Path) -> None:
    """What no pod could do better is tried once, not by every pod in turn."""
    url = postgres.new_database()
    create_storm(tmp_path, url, trials=1, epochs=1)
    with IndexedJob(
        plan("strom", resources=Resources()), {"kansearch-storage": {"KANSEARCH_STORAGE": url}}, tmp_path
    ) as job:
        job.finish()
    assert 'no study "strom" in this storage; did you mean "storm"?' in job.words
    assert job.failed == {0, 1, 2}
    assert any(2 in codes for codes in job.codes.values())
    assert not job.succeeded


# --- as many workers as there is work -----------------------------------------------------------------------

TRIGGER, SCALED = list(yaml.safe_load_all((ROOT / "docs/examples/keda.yaml").read_text()))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_jobs_of_keda_are_what_kubernetes_knows(version: str) -> None:
    """The example's Jobs are valid, and their pods those of the launcher but for what they serve."""
    spec = SCALED["spec"]["jobTargetRef"]
    kubernetes_validate.validate(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": spec}, version, strict=True
    )
    theirs, ours = spec["template"]["spec"], manifest(resources=Resources())["spec"]["template"]["spec"]
    assert theirs.keys() == ours.keys()
    (container,), (our_container,) = theirs["containers"], ours["containers"]
    assert {key: theirs[key] for key in ours if key != "containers"} == {
        key: ours[key] for key in ours if key != "containers"
    }
    for key in ("name", "image", "command", "securityContext", "volumeMounts", "envFrom"):
        assert container[key] == our_container[key]
    assert container["env"] == [one for one in our_container["env"] if one["name"] != "REGION"]


def n_asked_for(url: str) -> int:
    """What the example's query says."""
    query = SCALED["spec"]["triggers"][0]["metadata"]["query"]
    with open_storage(url).ledger.engine.connect() as connection:
        ((number,),) = connection.exec_driver_sql(query)
    return int(number)


def add(study: StoredStudy, state: TrialState, n: int = 1, **attributes: object) -> None:
    """Trials in a state, as a storage may hold them."""
    values = [1.0, 2.0] if state is TrialState.COMPLETE else None
    trial = create_trial(
        state=state, values=values, user_attrs={f"kansearch:{key}": attributes[key] for key in attributes}
    )
    for _ in range(n):
        study.storage.ledger.create_new_trial(study.study_id, template_trial=trial)


def n_begun(url: str, n_jobs: int) -> int:
    """Jobs that KEDA begins beside so many that have not ended, by the strategy that the example names."""
    assert SCALED["spec"]["scalingStrategy"]["strategy"] == "default"
    per_job = int(SCALED["spec"]["triggers"][0]["metadata"]["targetQueryValue"])
    return max(0, min(SCALED["spec"]["maxReplicaCount"], math.ceil(n_asked_for(url) / per_job)) - n_jobs)


def made(url: str, spec: StudySpec) -> StoredStudy:
    given = {"digest": "0" * 64, "data_line": "64 rows", "versions": {"kansearch": "test"}}
    return create_study(open_storage(url), spec, **given)


def test_keda_begins_no_job_for_what_another_one_will_train(storage: str, make_spec: Callable[..., StudySpec]) -> None:
    """Neither while Jobs start, nor once they have their trials, nor at the end; for a larger budget it begins more."""
    study = made(storage, make_spec("budget.trials=100"))
    assert n_begun(storage, n_jobs=0) == 7
    assert n_begun(storage, n_jobs=7) == 0
    with Presence(study.storage.ledger, "cpu"):
        add(study, TrialState.RUNNING, 70, worker=worker_name())
        assert n_begun(storage, n_jobs=7) == 0
        add(study, TrialState.RUNNING, 29, worker=worker_name())
        assert n_begun(storage, n_jobs=1) == 0
        study.set_budget(study.spec.budget.model_copy(update={"trials": 1000}))
        assert n_begun(storage, n_jobs=7) == 13
        assert n_begun(storage, n_jobs=20) == 0


def test_keda_asks_for_what_nobody_trains(storage: str, make_spec: Callable[..., StudySpec]) -> None:
    """Budgets without what counts and what live workers train; studies that nobody may serve ask for nothing."""
    opened = open_storage(storage)

    def make(name: str, *changes: str) -> StoredStudy:
        return made(storage, make_spec(f"name={name}", *changes))

    assert n_asked_for(storage) == 0
    study = make("open", "budget.trials=20")
    assert n_asked_for(storage) == 20
    with Presence(opened.ledger, "cpu"):
        add(study, TrialState.COMPLETE)
        add(study, TrialState.PRUNED, 2)
        add(study, TrialState.RUNNING, 4, worker=worker_name())
        add(study, TrialState.RUNNING, 1, worker="somebody/else-1")  # whom nobody knows any more
        add(study, TrialState.WAITING, 2)
        add(study, TrialState.FAIL, 3, handed_back="its worker died")
        add(study, TrialState.FAIL, 1)
        assert n_asked_for(storage) == 20 - 1 - 2 - 4
        with opened.ledger.session() as session:
            session.execute(update(WorkerModel).values(seen_at=WorkerModel.seen_at - timedelta(minutes=5)))
        assert n_asked_for(storage) == 20 - 1 - 2
        with opened.ledger.session() as session:
            session.execute(update(WorkerModel).values(seen_at=func.current_timestamp()))
        assert n_asked_for(storage) == 20 - 1 - 2 - 4
    # Its end is known at once.
    assert n_asked_for(storage) == 20 - 1 - 2

    broken = make("broken", "budget.trials=10", "budget.failures=2")
    add(broken, TrialState.FAIL)
    add(broken, TrialState.FAIL, 5, handed_back="its worker died")
    assert n_asked_for(storage) == 17 + 10
    add(broken, TrialState.FAIL)
    assert n_asked_for(storage) == 17
    done = make("done", "budget.trials=2")
    add(done, TrialState.COMPLETE, 2)
    optuna.create_study(study_name="of others", storage=opened.ledger)
    assert n_asked_for(storage) == 17
    study.stop()
    assert n_asked_for(storage) == 0
    assert [one.spec.name for one in open_studies(opened)] == []
    study.set_budget(study.spec.budget.model_copy(update={"trials": 30}))
    assert n_asked_for(storage) == 27
