"""What to do about each reason of a condition, in a sentence or two.

One table for `dynawatt explain`, `dynawatt doctor` and the troubleshooting page.
Words in capitals stand for names: NAMESPACE, NAME (of the LLMService) and
DEPLOYMENT.
"""

import re
from collections.abc import Mapping
from typing import Final

from dynawatt.api.conditions import Reason

REMEDIES: Final[Mapping[Reason, str]] = {
    # The LLMService and its target
    Reason.WAITING_FOR_LEASE: "Leave one operator running: `kubectl -n dynawatt-system get lease dynawatt-operator` "
    "names the one that acts.",
    Reason.INVALID_SPEC: "Correct the field that the message names: `kubectl -n NAMESPACE edit llmsvc NAME`. Where it "
    "is right, the CRD is newer than the operator: update the operator.",
    Reason.DEPLOYMENT_NOT_FOUND: "Create the Deployment. To manage another one delete this LLMService and create a new "
    "one, because `spec.deploymentRef` cannot change.",
    Reason.NO_VLLM_CONTAINER: "Name the container that runs vLLM in `spec.container`.",
    Reason.UNSUPPORTED_DEPLOYMENT: "Change the Deployment as the message says: vLLM's arguments as a list under "
    "`args`, its GPUs under `resources.limits`, one LLMService for each Deployment.",
    Reason.API_ERROR: "Nothing while it passes: the operator tries again every few seconds. When it stays and says "
    "403, rights are missing: `dynawatt doctor` lists them.",
    # Metrics and load
    Reason.METRICS_QUERY_FAILED: "Everything is held until metrics are back. `dynawatt doctor --prometheus-url URL` "
    "says which families and labels are missing.",
    Reason.NO_LOAD_YET: "Send requests: a plan needs some that have finished.",
    # Models and plans
    Reason.NO_PROFILE: "`dynawatt profile list` shows the models and GPUs that are known; `dynawatt profile derive` "
    "makes a profile for another model.",
    Reason.MODEL_DRIFTED: "Plans are made with corrected numbers meanwhile. If vLLM's version, its flags or the kind "
    "of requests changed on purpose, it settles; if not, look for throttled GPUs or a slow node.",
    Reason.SLO_UNREACHABLE: "Raise `spec.replicas.max` or `spec.maxGPUs`, add the knob Replicas or Shape, add GPUs, or "
    "loosen the objective in `spec.slo`. Until then the fastest operating point is used.",
    Reason.CANNOT_PLAN: "Everything is held as it is. Correct what the message names; if nothing in it is yours, "
    "please report it with the output of `dynawatt explain NAMESPACE/NAME --json`.",
    Reason.SLO_MISSED: "Clocks are raised within seconds and a plan is made at once. If it stays for longer than a "
    "replica takes to start, do as for SLOUnreachable: more replicas or GPUs, or a looser objective.",
    # Changes
    Reason.NO_SPARE_CAPACITY: "Free the missing GPUs on one node, add a node, or let the pods onto the nodes that the "
    "message names. The change is made by itself as soon as they are free.",
    Reason.OUTSIDE_CHANGE_WINDOW: "Wait for the window, or widen `spec.changeWindows`. Replicas that load needs are "
    "added at any time.",
    Reason.DISRUPTION_NOT_ALLOWED: "See `kubectl -n NAMESPACE get pdb`: the PodDisruptionBudget must leave room for at "
    "least one pod of the service.",
    Reason.RESHAPE_FAILED: "`kubectl -n NAMESPACE describe pods` of the new Deployment shows why its pods did not "
    "become Ready. The old replicas serve on, and it is tried again.",
    Reason.RESHAPE_REFUSED: "Change the pod template as the message says, or take Shape out of `spec.knobs`.",
    Reason.GIVE_BACK_INCOMPLETE: "Free GPUs for the original replicas. The siblings serve on until these are Ready; "
    "nothing is lost meanwhile.",
    Reason.STARTUP_BUDGET_TOO_SMALL: "Raise `failureThreshold` of the startup probe so that, times `periodSeconds`, it "
    "covers the learnt start-up time with a margin.",
    Reason.DRAIN_NOT_CONFIGURED: "Add to Deployment DEPLOYMENT what the message says; its pods restart once. Until "
    "then replicas are left alone, and clocks are governed.",
    Reason.SCALED_BY_HPA: "Delete the HorizontalPodAutoscaler, or let it scale by dynawatt's forecast: set "
    "`spec.replicas.scaledBy: External` and have it follow dynawatt_desired_replicas.",
    Reason.SCALED_BY_KEDA: "Delete the ScaledObject, or let it scale by dynawatt's forecast: set "
    "`spec.replicas.scaledBy: External` and have it follow dynawatt_desired_replicas.",
    Reason.RESIZED_BY_VPA: 'Set `updatePolicy.updateMode` of the VerticalPodAutoscaler to "Off": it restarts vLLM to '
    "change its CPU and memory.",
    Reason.FOREIGN_WRITE: "Keep that field manager from setting the replicas (GitOps: leave `/spec/replicas` to the "
    'cluster), then set `spec.mode` to "Off" and back to start from the present number.',
    # Clocks
    Reason.CLAIMS_PENDING: "Nothing at first: agents apply claims within seconds. If it stays, see the node's agent: "
    "`kubectl get gpunodes`, then its log.",
    Reason.LEASE_STALE: "Start the operator, or see in its log why it cannot renew the Lease: "
    "`kubectl -n dynawatt-system get lease dynawatt-operator`.",
    Reason.INVALID_CLAIM: "Run operator and agents at the same release. If somebody edited the annotation "
    "dynawatt.dev/clock-claim by hand, remove it: the operator writes it anew.",
    Reason.CLOCK_CONTROL_UNSUPPORTED: "Run the agent with the rights of docs/agent.md. Where the GPU or the "
    "hypervisor does not let clocks be set, take Clock out of `spec.knobs`: energy is still reported.",
    Reason.GPU_SHARED: "Give vLLM whole GPUs: no time slices and no other pod on the same GPU.",
    Reason.MIG_ENABLED: "Turn MIG off on the GPU (`nvidia-smi -mig 0`), or do without its clock: energy is reported.",
    Reason.UNKNOWN_DEVICE_ID: "Have the device plug-in name GPUs by UUID (`deviceIDStrategy: uuid`), then restart the "
    "pod.",
    Reason.DRA_UNSUPPORTED: "Ask for the GPU by `resources.limits: nvidia.com/gpu` instead of a resource claim.",
    Reason.AMBIGUOUS_POD: "Nothing at first: it passes when the old pod of that name is gone. If it stays, restart the "
    "kubelet of the node.",
    Reason.JOURNAL_UNWRITABLE: "Make /var/lib/dynawatt of the node writable for its agent, and see that the disk is "
    "not full.",
    Reason.AGENT_STALE: "See the agent's pod on that node, then its log: "
    "`kubectl -n dynawatt-system get pods -o wide`. "
    "When it starts again, it resets what the one before it left locked.",
    Reason.AGENT_STOPPED: "Start the agent again if that was not on purpose: "
    "`kubectl -n dynawatt-system get daemonsets`.",
    Reason.GPU_ERROR: "See the agent's log and `nvidia-smi` on the node; cordon the node when the GPU does "
    "not come back.",
    Reason.ALLOCATIONS_UNAVAILABLE: "See that the agent has the kubelet's directory pod-resources mounted and that the "
    "kubelet runs.",
    # GPUs
    Reason.GPU_UNHEALTHY: "Cordon the node, then reset or replace the GPU: `nvidia-smi -q` on the node tells more.",
    Reason.HEALTH_UNKNOWN: "Nothing at first: the counts come with the agent's first cycles. If it stays, see its log.",
    Reason.ROW_REMAP_PENDING: "Drain the node and reset the GPU (`nvidia-smi --gpu-reset`) when it suits.",
    Reason.PERSISTENCE_MODE_OFF: "Turn persistence mode on for the node's GPUs: `nvidia-smi -pm 1`, or run "
    "nvidia-persistenced.",
    # The switch
    Reason.CLOCKS_SWITCHED_OFF: "To switch dynawatt on again: "
    "`kubectl -n dynawatt-system delete configmap dynawatt-switch`.",
}
"""Reasons that call for something, with what it is."""

NOTHING_TO_DO: Final = frozenset(
    {
        Reason.RECONCILED,
        Reason.RECOMMENDING,
        Reason.PAUSED,
        Reason.SWITCHED_OFF,
        Reason.GIVING_BACK,
        Reason.METRICS_FRESH,
        Reason.PROFILE_FOUND,
        Reason.MODEL_FITS,
        Reason.NOT_CALIBRATED_YET,
        Reason.PLAN_FOUND,
        Reason.WITHIN_SLO,
        Reason.NOT_PLANNED_YET,
        Reason.STEADY,
        Reason.SCALING,
        Reason.RESHAPING,
        Reason.DRAIN_SET_UP,
        Reason.NO_CONFLICT,
        Reason.CLAIMS_APPLIED,
        Reason.NO_CLAIMS,
        Reason.CLOCK_KNOB_OFF,
        Reason.ALL_HEALTHY,
    }
)
"""Reasons that are as wanted, as asked for, or pass by themselves."""


def remedy_for(reason: str, *, namespace: str = "", name: str = "", deployment: str = "") -> str:
    """What to do about a reason, with the names filled in that are given; empty for nothing, or a reason not known."""
    text = next((remedy for known, remedy in REMEDIES.items() if known.value == reason), "")
    for word, value in (("NAMESPACE", namespace), ("NAME", name), ("DEPLOYMENT", deployment)):
        text = re.sub(rf"\b{word}\b", value or word, text)
    return text
