"""Deployments as people run vLLM, in the form in which the API server sends them."""

import copy

import yaml

_PRODUCTION_STACK = """
metadata:
  name: vllm-llama70b-deployment-vllm
  namespace: prod
  uid: 7f1c
  resourceVersion: "481"
  generation: 3
  creationTimestamp: "2026-03-01T10:00:00Z"
  labels:
    model: llama70b
    app.kubernetes.io/instance: vllm
    app.kubernetes.io/managed-by: Helm
    helm.sh/chart: vllm-stack-0.1.9
    team: search
    argocd.argoproj.io/instance: vllm
  annotations:
    deployment.kubernetes.io/revision: "3"
    meta.helm.sh/release-name: vllm
    argocd.argoproj.io/tracking-id: vllm:apps/Deployment:prod/vllm
    kubectl.kubernetes.io/last-applied-configuration: "{}"
  managedFields: [{manager: helm, operation: Update}]
spec:
  replicas: 3
  revisionHistoryLimit: 10
  progressDeadlineSeconds: 1200
  selector:
    matchLabels: {model: llama70b, environment: prod}
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 100%, maxUnavailable: 0}}
  template:
    metadata:
      creationTimestamp: null
      labels:
        model: llama70b
        environment: prod
        app.kubernetes.io/instance: vllm
        helm.sh/chart: vllm-stack-0.1.9
        helm-release-name: vllm
      annotations: {prometheus.io/scrape: "true"}
    spec:
      terminationGracePeriodSeconds: 90
      runtimeClassName: nvidia
      containers:
      - name: vllm
        image: vllm/vllm-openai:v0.32.0
        command: [vllm, serve, meta-llama/Llama-3.1-70B-Instruct]
        args: [--host, 0.0.0.0, --port, "8000", --tensor-parallel-size, "4", --max-num-batched-tokens, "2048",
          --shutdown-timeout, "60"]
        env:
        - {name: HF_HOME, value: /data}
        ports: [{name: container-port, containerPort: 8000, protocol: TCP}]
        resources:
          requests: {cpu: "32", memory: 256Gi, nvidia.com/gpu: "4"}
          limits: {memory: 256Gi, nvidia.com/gpu: "4", rdma/hca: "1"}
        startupProbe:
          httpGet: {path: /health, port: 8000, scheme: HTTP}
          initialDelaySeconds: 15
          periodSeconds: 10
          failureThreshold: 60
          timeoutSeconds: 1
          successThreshold: 1
        livenessProbe: {httpGet: {path: /health, port: 8000, scheme: HTTP}, periodSeconds: 10, failureThreshold: 3}
        lifecycle: {preStop: {sleep: {seconds: 15}}}
        volumeMounts: [{name: shm, mountPath: /dev/shm}, {name: weights, mountPath: /data}]
      - name: exporter
        image: example.com/exporter
        resources: {requests: {cpu: 100m}}
      volumes:
      - {name: shm, emptyDir: {medium: Memory, sizeLimit: 20Gi}}
      - {name: weights, persistentVolumeClaim: {claimName: weights}}
status: {readyReplicas: 3, observedGeneration: 3}
"""

_KSERVE = """
metadata:
  name: mixtral-predictor
  namespace: models
  resourceVersion: "9"
  labels: {app: isvc.mixtral-predictor, component: predictor}
  ownerReferences:
  - {apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, name: mixtral, uid: u, controller: true}
spec:
  replicas: 2
  selector: {matchLabels: {app: isvc.mixtral-predictor}}
  template:
    metadata:
      labels: {app: isvc.mixtral-predictor, component: predictor}
    spec:
      terminationGracePeriodSeconds: 60
      containers:
      - name: kserve-container
        image: vllm/vllm-openai:v0.32.0
        command: [python3, -m, vllm.entrypoints.openai.api_server]
        args: [--model, mistralai/Mixtral-8x7B-Instruct-v0.1, -tp, "2", --shutdown-timeout=40]
        resources: {limits: {cpu: "8", memory: 96Gi, nvidia.com/gpu: "2"}, requests: {cpu: "8", memory: 96Gi}}
        readinessProbe: {httpGet: {path: /health, port: 8000}}
        lifecycle: {preStop: {exec: {command: [sh, -c, sleep 15]}}}
"""

_ONE_GPU = """
metadata: {name: llama-8b, namespace: default, resourceVersion: "5", labels: {app: llama-8b}}
spec:
  replicas: 1
  selector: {matchLabels: {app: llama-8b}}
  template:
    metadata: {labels: {app: llama-8b}}
    spec:
      terminationGracePeriodSeconds: 30
      containers:
      - name: server
        image: vllm/vllm-openai:v0.32.0
        args: [--model=meta-llama/Llama-3.1-8B-Instruct, --shutdown-timeout=15]
        resources: {limits: {nvidia.com/gpu: "1"}}
        readinessProbe: {httpGet: {path: /health, port: 8000}}
        livenessProbe: {httpGet: {path: /live, port: 8000}, initialDelaySeconds: 60, timeoutSeconds: 5}
"""


def production_stack():
    """As vLLM's production-stack chart renders it, synced by Argo CD."""
    return yaml.safe_load(_PRODUCTION_STACK)


def kserve():
    """As KServe makes it for an InferenceService."""
    return yaml.safe_load(_KSERVE)


def one_gpu():
    """The least that can be copied."""
    return yaml.safe_load(_ONE_GPU)


def pod_spec(deployment):
    return deployment["spec"]["template"]["spec"]


def vllm(deployment):
    return pod_spec(deployment)["containers"][0]


def changed(deployment, **fields):
    """A copy with other fields of the pod spec; those that are None go."""
    made = copy.deepcopy(deployment)
    pod_spec(made).update({name: value for name, value in fields.items() if value is not None})
    for name in [name for name, value in fields.items() if value is None]:
        pod_spec(made).pop(name, None)
    return made


def changed_vllm(deployment, **fields):
    """A copy with other fields of the container that runs vLLM; those that are None go."""
    container = {name: value for name, value in (vllm(deployment) | fields).items() if value is not None}
    return changed(deployment, containers=[container, *pod_spec(deployment)["containers"][1:]])
