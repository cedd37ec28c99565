"""Workers as the pods of a Kubernetes Indexed Job, from a manifest that people can read and send themselves.

What the manifest relies on (Kubernetes 1.29 and later): failures are counted for each index, and which exit codes count
is said by a pod failure policy; a pod is replaced once it has ended, not while it still writes checkpoints. kubectl, as
its user has set it up, is the only way to the cluster.
"""

from __future__ import annotations

import hashlib
import json
import re
import signal
from collections import Counter
from typing import Any

import yaml

from kansearch import __version__
from kansearch.errors import LaunchError
from kansearch.launch.engine import TIME_IS_UP, Engine, RefusedError, Tasks, folder_of_logs, keep, said, understood
from kansearch.launch.environment import WORKER_ENVIRONMENT
from kansearch.launch.request import LaunchRequest, Plan
from kansearch.specs.launch import LaunchSpec, notice

SECRET = "kansearch-storage"  # noqa: S105 - a name
"""The Secret with the storage's URL, where nobody names one."""

USER = 10001
"""Whose processes they are, in the image as in the cluster."""

CRASHES = 3
"""Ends of its own fault, or for lack of memory, that an index is forgiven."""

LEAVE_S = 60
"""For workers to end their epoch and write checkpoints, once they are asked to stop."""

KEPT_S = 3 * 86400
"""After its end a Job and its logs are kept for so long."""

KUBECTL = Engine(
    refusal="kubectl says",
    missing="https://kubernetes.io/docs/tasks/tools says how to install it",
    look="kubectl get jobs -l app.kubernetes.io/name=kansearch",
    noise=r"[IWEF]\d{4} ",
)

_INDEX = "$(JOB_COMPLETION_INDEX)"
"""What Kubernetes puts the number of the pod's index for."""

_LONGEST = 53
"""Of a name's beginning: the cluster adds 5 characters, the index of a pod up to 5 more, and 63 are allowed."""


class KubernetesLauncher:
    """Sends an Indexed Job through `kubectl`.

    Args:
        spec: What the site asks for.
    """

    def __init__(self, spec: LaunchSpec) -> None:
        self._logs = folder_of_logs(spec)
        self._image = spec.image or f"kansearch:{__version__}"
        self._namespace = spec.namespace
        self._secret = spec.secret or SECRET

    def plan(self, request: LaunchRequest) -> Plan:
        """The manifest of the Job."""
        seconds = request.resources.seconds
        deadline = [] if seconds is None else ["--deadline", str(seconds - notice(seconds))]
        worker = ["kansearch", *(_literal(word) for word in (*request.command(), *deadline)), "--number", _INDEX]
        text = yaml.safe_dump(self._job(request, worker), sort_keys=False, width=1000)
        return Plan(request, f"# Pods: {request.n_tasks}, each with: {' '.join(worker)}\n{text}")

    def _job(self, request: LaunchRequest, worker: list[str]) -> dict[str, Any]:
        namespace = {} if self._namespace is None else {"namespace": self._namespace}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"generateName": _name(request.study), **namespace, **_about(request)},
            "spec": {
                "completionMode": "Indexed",
                "completions": request.n_tasks,
                "parallelism": request.n_tasks,
                "backoffLimitPerIndex": CRASHES,
                "podReplacementPolicy": "Failed",
                "podFailurePolicy": {"rules": _rules()},
                "ttlSecondsAfterFinished": KEPT_S,
                "template": {"metadata": _about(request), "spec": self._pod(request, worker)},
            },
        }

    def _pod(self, request: LaunchRequest, worker: list[str]) -> dict[str, Any]:
        resources = request.resources
        limit = {} if resources.seconds is None else {"activeDeadlineSeconds": resources.seconds}
        amounts = {"cpu": str(resources.cpus)}
        amounts |= {} if resources.memory_mib is None else {"memory": f"{resources.memory_mib}Mi"}
        amounts |= {"nvidia.com/gpu": str(resources.gpus)} if resources.gpus else {}
        environment = {**WORKER_ENVIRONMENT, **request.environment}
        return {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": LEAVE_S,
            **limit,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "worker",
                    "image": self._image,
                    "command": worker[:1],
                    "args": worker[1:],
                    "env": [
                        *({"name": name, "value": _literal(value)} for name, value in environment.items()),
                        *(
                            {"name": name, "valueFrom": {"secretKeyRef": {"name": self._secret, "key": name}}}
                            for name in request.secrets
                        ),
                    ],
                    # What else workers need to know, such as the keys of a bucket for checkpoints.
                    "envFrom": [{"secretRef": {"name": self._secret}}],
                    "resources": {"requests": amounts, "limits": dict(amounts)},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [
                        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - of the pod
                        {"name": "downloads", "mountPath": "/downloads"},
                    ],
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "downloads", "emptyDir": {}}],
        }

    def submit(self, plan: Plan) -> KubernetesJob:
        """Send the manifest, which is kept in the folder of logs.

        Raises:
            LaunchError: If it cannot be written, the Secret is not there, or the cluster does not answer or refuses.
        """
        file = keep(self._logs, f"{plan.request.study}.job.yaml", plan.text)
        kept = f"; the manifest is kept: {file}"
        self._check_secret(plan.request, kept)
        where = "jsonpath={.metadata.namespace}/{.metadata.name}"
        answer = _kubectl("create", f"--filename={file}", f"--output={where}", kept=kept).strip()
        if not re.fullmatch(r"[a-z0-9-]+/[a-z0-9.-]+", answer):
            raise LaunchError(f'kubectl answered "{said(answer)}", which is no Job{kept}')
        return self.find(answer)

    def _check_secret(self, request: LaunchRequest, kept: str) -> None:
        """Without it pods would wait for ever."""
        of = [] if self._namespace is None else [f"--namespace={self._namespace}"]
        try:
            _kubectl("get", "secret", self._secret, *of, "--output=name", kept=kept)
        except RefusedError as error:
            if "(Forbidden)" in str(error):  # who may make Jobs need not be allowed to look at Secrets
                return
            if "(NotFound)" not in str(error):
                raise
            space = "kubectl's own namespace" if self._namespace is None else f"namespace {self._namespace}"
            keys = " ".join(f"--from-literal={name}='***'" for name in request.secrets)
            make = " ".join(["kubectl create secret generic", self._secret, *of, keys])
            raise LaunchError(
                f"{space} has no Secret {self._secret}, from which the workers take the storage's URL; this makes it, "
                f"with the URL for ***: {make}{kept}"
            ) from None

    def find(self, name: str) -> KubernetesJob:
        """A Job by what `KubernetesJob.name` was."""
        return KubernetesJob(*name.split("/", 1))


class KubernetesJob:
    """An Indexed Job.

    Args:
        namespace: In which it is.
        job: Its name there.

    Attributes:
        name: Both.
        line: The Job, and how to read its logs.
    """

    def __init__(self, namespace: str, job: str) -> None:
        self.name = f"{namespace}/{job}"
        self._of = f"--namespace={namespace}"
        self._job = job
        self._pods = f"--selector=batch.kubernetes.io/job-name={job}"
        self.line = f"Kubernetes Job {self.name}, logs: kubectl logs {self._of} {self._pods} --prefix --tail=-1"
        self._tasks = Tasks(self._n_pods)

    def poll(self) -> int:
        """How many pods run or wait, as the cluster last said.

        Raises:
            LaunchError: If the cluster is away for good.
        """
        return self._tasks.number()

    def _n_pods(self) -> int:
        with understood("kubectl"):
            status = self._status()
            # Between a pod and the one that replaces it there may be none.
            return 0 if status is None or _end(status) else max(1, int(status.get("active", 0)))

    def state(self) -> str:
        """How many pods are in which state, and for what they wait."""
        with understood("kubectl"):
            status = self._status()
            if status is None or _end(status):
                return "ended"
            if _is_so(status, "Suspended"):
                return "suspended"
            counts = Counter(_state(pod) for pod in self._list_pods())
        for ended in ("succeeded", "failed"):
            counts.pop(ended, None)
        return ", ".join(f"{n} {state}" for state, n in counts.most_common()) or "no pods yet"

    def ended_with(self) -> tuple[int, str] | None:
        """Exit code and last words of the first pod that failed, where that ended the Job."""
        try:
            with understood("kubectl"):
                status = self._status()
                end = None if status is None else _end(status)
                if end is None or end["type"] != "Failed":
                    return None
                failed = [
                    (pod["metadata"]["name"], *_exit(pod)) for pod in self._list_pods() if _state(pod) == "failed"
                ]
        except LaunchError:
            return None
        # What a person can mend goes first: pods that crashed may have been its victims.
        for pod, code, _ in failed:
            if code in (2, 3):
                return code, self._last_words(pod)
        lines = [f"{self.name} failed: {end.get('message') or end.get('reason', 'for no reason that it says')}"]
        for pod, code, reason in failed[:1]:
            lines += [f"pod {pod} ended with exit code {code} ({reason})", self._last_words(pod)]
        return LaunchError.exit_code, "\n".join(lines).strip()

    def stop(self) -> None:
        """Delete the Job: the cluster asks its workers to end, and ends them after their grace."""
        _kubectl("delete", "job", self._job, self._of, "--ignore-not-found", "--wait=false")

    def _status(self) -> dict[str, Any] | None:
        """What the cluster knows of it; None where it is gone."""
        answer = _kubectl("get", "job", self._job, self._of, "--ignore-not-found", "--output=json")
        return dict(json.loads(answer).get("status", {})) if answer.strip() else None

    def _list_pods(self) -> list[dict[str, Any]]:
        return list(json.loads(_kubectl("get", "pods", self._of, self._pods, "--output=json"))["items"])

    def _last_words(self, pod: str) -> str:
        try:
            return _kubectl("logs", pod, self._of, "--tail=15").strip()
        except LaunchError:
            return ""


def _kubectl(*command: str, kept: str = "") -> str:
    return KUBECTL.ask("kubectl", *command, "--request-timeout=20s", kept=kept)


def _about(request: LaunchRequest) -> dict[str, Any]:
    """Of the Job and its pods; new at each call, for YAML writes what it meets again as a reference."""
    labels = {"name": "kansearch", "component": "worker", "version": __version__, "managed-by": "kansearch"}
    return {
        "labels": {f"app.kubernetes.io/{key}": value for key, value in labels.items()},
        "annotations": {"kansearch/study": request.study},
    }


def _rules() -> list[dict[str, Any]]:
    """Which ends of a pod count, the first that fits."""
    asked = sorted({128 + signal.SIGINT, 128 + signal.SIGTERM, TIME_IS_UP})
    return [
        # Preempted, drained, or on a node that was lost: whatever its exit code.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        # Asked to stop, or before its time limit.
        {"action": "Ignore", "onExitCodes": _codes(*asked)},
        # A person must mend the study or the command: no other pod would do better.
        {"action": "FailJob", "onExitCodes": _codes(2)},
        # The storage does not answer from there, where others may reach it.
        {"action": "FailIndex", "onExitCodes": _codes(3)},
    ]


def _codes(*values: int) -> dict[str, Any]:
    return {"containerName": "worker", "operator": "In", "values": list(values)}


def _name(study: str) -> str:
    """What the cluster makes the name of a Job from: its own letters only, and another one for every study."""
    plain = re.sub(r"[^a-z0-9]+", "-", study.lower()).strip("-")
    if plain != study or len(f"kansearch-{plain}-") > _LONGEST:
        mark = hashlib.sha256(study.encode()).hexdigest()[:8]
        plain = f"{plain[: _LONGEST - len(f'kansearch--{mark}-')]}-{mark}"
    return f"kansearch-{plain}-"


def _literal(word: str) -> str:
    """A word in which Kubernetes finds no variable."""
    return word.replace("$", "$$")


def _end(status: dict[str, Any]) -> dict[str, Any] | None:
    """The condition that says how a Job ended; None before."""
    return _is_so(status, "Complete", "Failed")


def _is_so(status: dict[str, Any], *kinds: str) -> dict[str, Any] | None:
    conditions = (one for one in status.get("conditions", []) if one["type"] in kinds)
    return next((one for one in conditions if one["status"] == "True"), None)


def _state(pod: dict[str, Any]) -> str:
    """Of a pod, in small letters, with the reason why it waits."""
    status = pod.get("status", {})
    phase = str(status.get("phase", "Unknown")).lower()
    reasons = [one["state"]["waiting"].get("reason") for one in _containers(status) if "waiting" in one["state"]]
    reasons += [one.get("reason") for one in status.get("conditions", []) if one["status"] == "False"]
    return f"{phase} ({reasons[0]})" if phase == "pending" and reasons else phase


def _exit(pod: dict[str, Any]) -> tuple[int | None, str]:
    """Exit code of a pod that failed, and the cluster's word for it."""
    status = pod.get("status", {})
    for container in _containers(status):
        if ended := container["state"].get("terminated"):
            return int(ended["exitCode"]), str(ended.get("reason", "Error"))
    return None, str(status.get("reason", "no container ran"))


def _containers(status: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in status.get("containerStatuses", []) if one.get("state")]
