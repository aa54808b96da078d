"""The kopf application: one timer and one deletion handler per LLMService, around a Reconciler.

Level-based on purpose: no handler reacts to a change, each tick looks at what is.
Status is written through patch functions, which kopf compares with the fresh
object, so a tick that finds nothing new sends nothing.
"""

import asyncio
import logging
import os
import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import kopf
from kubernetes.client import ApiClient

from dynawatt.adapters.calibration_file import CalibrationFile
from dynawatt.adapters.kubernetes.client import API_ERRORS, api_client, describe_error
from dynawatt.adapters.kubernetes.cluster import Cluster
from dynawatt.adapters.kubernetes.mirror import Mirror
from dynawatt.adapters.prometheus import open_prometheus
from dynawatt.adapters.surface_cache import SurfaceCache
from dynawatt.adapters.vllm_load.in_prometheus import PrometheusLoadSource
from dynawatt.adapters.vllm_load.scraped import ScrapedLoadSource
from dynawatt.adapters.vllm_load.source import LoadSource
from dynawatt.api.conditions import Condition, ConditionStatus, ConditionType, Reason, find_condition
from dynawatt.api.group import FINALIZER, GROUP, LLMSERVICE_PLURAL, VERSION
from dynawatt.api.llmservice import Knob
from dynawatt.api.llmservice_status import LLMServiceStatus
from dynawatt.controller.calibrating import Calibrator
from dynawatt.controller.evaluating import Evaluator
from dynawatt.controller.learnt import Learnt
from dynawatt.controller.lease import LeaseHolder
from dynawatt.controller.metrics.exporting import metrics_server
from dynawatt.controller.metrics.figures import Figures
from dynawatt.controller.metrics.working import Work
from dynawatt.controller.pulse import Pulse
from dynawatt.controller.reconcile import Reconciler
from dynawatt.controller.settings import OperatorSettings
from dynawatt.controller.silent_agents import SilentAgents
from dynawatt.controller.surfaces import SurfaceStore
from dynawatt.controller.switch import Switch

_log = logging.getLogger(__name__)

_TOLD = (
    ConditionType.READY,
    ConditionType.METRICS_AVAILABLE,
    ConditionType.MODEL_ACCURATE,
    ConditionType.SLO_ATTAINABLE,
    ConditionType.PROGRESSING,
    ConditionType.CLOCKS_GOVERNED,
    ConditionType.DRAIN_CONFIGURED,
    ConditionType.CONFLICTING,
)
"""Conditions whose transitions become Events."""
_NOT_TOLD = (
    Reason.NOT_PLANNED_YET,
    Reason.NOT_CALIBRATED_YET,
    Reason.STEADY,
    Reason.SCALING,
    Reason.NO_CLAIMS,
    Reason.CLOCK_KNOB_OFF,
)
"""Before anything is known; what the Events about replicas tell; and what the user asked for."""
_CHANGED = {Knob.REPLICAS: "Scaled", Knob.SHAPE: "Reshaped"}
"""Events about what was carried out."""
_POD_NAME = "POD_NAME"
"""Set in a cluster, from ``metadata.name``."""
_CALIBRATION = "calibration.json"
"""Beside the surfaces."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the handlers work with."""

    view: Mirror
    lease: LeaseHolder
    switch: Switch
    source: LoadSource
    reconciler: Reconciler
    agents: SilentAgents
    figures: Figures
    pulse: Pulse


def run_operator(settings: OperatorSettings, kubeconfig: Path | None) -> None:
    """Run until SIGTERM or SIGINT. Raises InvalidInputError or OperationError when it cannot start."""
    figures, work, pulse = Figures(), Work(), Pulse()
    parts = _assemble(settings, api_client(kubeconfig), figures, work, pulse)
    server = metrics_server(
        figures, work, address=settings.metrics_address, port=settings.metrics_port, health=pulse.problem
    )
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # it tells of every tick
    registry = kopf.OperatorRegistry()
    _register(registry, settings, parts, kubeconfig)
    server.start()
    try:
        kopf.run(
            registry=registry,
            settings=_kopf_settings(),
            standalone=True,
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
        )
    finally:
        server.stop()


def _assemble(settings: OperatorSettings, api: ApiClient, figures: Figures, work: Work, pulse: Pulse) -> _Parts:
    cluster, view = Cluster(api, on_write=work.wrote), Mirror(api)
    lease = LeaseHolder(
        cluster,
        namespace=settings.namespace,
        identity=_identity(),
        duration_s=settings.lease_duration_s,
    )
    url = settings.prometheus_url
    metrics = None if url is None else open_prometheus(url, settings.prometheus_auth)
    told = None if metrics is None else PrometheusLoadSource(metrics)
    source: LoadSource = told or ScrapedLoadSource()
    directory = settings.surface_dir
    switch = Switch(cluster, namespace=settings.namespace)
    agents = SilentAgents(metrics, stale_s=settings.agent_stale_s)
    reconciler = Reconciler(
        cluster=cluster,
        view=view,
        source=source,
        lease=lease,
        switch=switch,
        surfaces=SurfaceStore(SurfaceCache(directory) if directory else None),
        evaluator=Evaluator(metrics),
        calibrator=Calibrator(told, Learnt(CalibrationFile(directory / _CALIBRATION) if directory else None)),
        agents=agents,
        figures=figures,
        work=work,
        settings=settings,
    )
    return _Parts(view, lease, switch, source, reconciler, agents, figures, pulse)


def _identity() -> str:
    """A pod runs one operator at a time: a container that is started anew in it goes on with the Lease at once."""
    return os.environ.get(_POD_NAME) or f"{socket.gethostname()}-{os.getpid()}"


def _kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.posting.level = logging.WARNING
    settings.persistence.finalizer = FINALIZER
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    # Watches that die unseen are ended by the server's time limit and reopened.
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 30
    settings.networking.request_timeout = 30
    settings.execution.max_workers = 4
    # A deletion waits for a tick that is under way, and by default looks for its end only once a minute.
    settings.background.cancellation_polling = 1
    return settings


def _register(
    registry: kopf.OperatorRegistry, settings: OperatorSettings, parts: _Parts, kubeconfig: Path | None
) -> None:
    resource = (GROUP, VERSION, LLMSERVICE_PLURAL)

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        if kubeconfig is None:
            return kopf.login_with_service_account(**kwargs)
        os.environ["KUBECONFIG"] = str(kubeconfig)
        return kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.startup(registry=registry)
    async def start(memo: kopf.Memo, **_: Any) -> None:
        parts.view.start()
        memo.tasks = [
            asyncio.create_task(work)
            for work in (
                parts.lease.run(settings.lease_renew_s),
                parts.switch.run(),
                parts.agents.run(),
                parts.pulse.run(),
            )
        ]

    @kopf.on.cleanup(registry=registry)
    async def stop(memo: kopf.Memo, **_: Any) -> None:
        for task in memo.tasks:
            task.cancel()
        try:
            await asyncio.to_thread(parts.lease.release)
        except API_ERRORS as error:
            _log.warning("lease=%s not released: %s", parts.lease.name, describe_error(error))
        await asyncio.to_thread(parts.view.stop)
        parts.reconciler.close()
        await parts.source.close()

    @kopf.timer(
        *resource,
        registry=registry,
        id="reconcile",
        interval=settings.observe_interval_s,
        # Spread, or hundreds of services would ask Prometheus at the same moment, and for ever.
        initial_delay=lambda **_: random.uniform(0.5, max(1.0, settings.observe_interval_s)),
        retries=None,
        backoff=5,
    )
    async def reconcile(body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
        draft = await parts.reconciler.tick(body)
        if draft is not None:
            if draft.status != draft.on_record:  # to let kopf find no difference costs more than the rest of a tick
                patch.fns.append(partial(_put_status, status=draft.status.to_dict()))
            _tell(body, draft.before, draft.status)

    @kopf.on.delete(*resource, registry=registry, id="give-back", backoff=5)
    async def give_back(body: kopf.Body, **_: Any) -> None:
        def tell_left(message: str) -> None:
            kopf.event(body, type="Warning", reason=Reason.GIVE_BACK_INCOMPLETE, message=message)

        try:
            done = await parts.reconciler.give_back(body, on_left=tell_left)
        except API_ERRORS as error:
            raise kopf.TemporaryError(f"giving back: {describe_error(error)}", delay=5) from error
        if not done:
            raise kopf.TemporaryError("giving back is not finished", delay=2)


def _put_status(body: Any, *, status: Mapping[str, Any]) -> None:
    body["status"] = dict(status)


def _tell(body: Any, before: LLMServiceStatus, after: LLMServiceStatus) -> None:
    """Events on transitions, and a line of the log for every change."""
    for type_ in _TOLD:
        known, condition = find_condition(before.conditions, type_), find_condition(after.conditions, type_)
        if condition is None or condition.reason in _NOT_TOLD:
            continue
        if known is None or (known.status, known.reason) != (condition.status, condition.reason):
            kind = "Warning" if _is_bad(type_, condition) else "Normal"
            kopf.event(body, type=kind, reason=condition.reason, message=f"{type_.value}: {condition.message}")
    for change in after.last_changes:
        if change in before.last_changes:
            continue
        name, knob = body["metadata"]["name"], change.knob.value
        _log.info("service=%s knob=%s from=%s to=%s reason=%r", name, knob, change.from_, change.to, change.reason)
        if change.knob is not Knob.CLOCK:
            message = f"replicas {change.from_} -> {change.to}: {change.reason}"
            kopf.event(body, type="Normal", reason=_CHANGED[change.knob], message=message)


def _is_bad(type_: ConditionType, condition: Condition) -> bool:
    good = ConditionStatus.FALSE if type_ is ConditionType.CONFLICTING else ConditionStatus.TRUE
    if condition.status is ConditionStatus.UNKNOWN:
        return condition.reason == Reason.AGENT_STALE
    return condition.status is not good and condition.reason != Reason.OUTSIDE_CHANGE_WINDOW
