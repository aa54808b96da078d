{{/* Labels of every object. */}}
{{- define "dynawatt.labels" -}}
app.kubernetes.io/name: dynawatt
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: dynawatt
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels by which pods of a component are found: (list $ "operator"). */}}
{{- define "dynawatt.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: dynawatt
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of a pod of a component: (list $ "operator"). */}}
{{- define "dynawatt.podLabels" -}}
{{- $root := index . 0 -}}
{{ include "dynawatt.labels" $root }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* An image by digest where there is one, else by tag: (list $ $values.image). */}}
{{- define "dynawatt.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $tag := $root.Values.image.tag | default $root.Chart.AppVersion -}}
{{- if and (eq $tag "latest") (not $image.digest) -}}
{{- fail "image.tag is latest: name a version, so that a restart does not change what runs" -}}
{{- end -}}
{{- with $root.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ $image.repository }}{{ if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $tag }}{{ end }}
{{- end }}

{{/* What all pod specs begin with. */}}
{{- define "dynawatt.podDefaults" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* A container that needs nothing, as the Pod Security level "restricted" wants it. */}}
{{- define "dynawatt.restrictedContainer" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
{{- define "dynawatt.restrictedPod" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Arguments that reach Prometheus; the Secret is mounted at this path. */}}
{{- define "dynawatt.prometheusSecretPath" -}}/etc/dynawatt/prometheus{{- end }}
{{- define "dynawatt.prometheusArgs" -}}
{{- $path := include "dynawatt.prometheusSecretPath" . -}}
{{- with .Values.prometheus -}}
{{- if .url }}
- --prometheus-url={{ .url }}
{{- end }}
{{- if .insecureSkipVerify }}
- --prometheus-insecure-skip-verify
{{- end }}
{{- range .headers }}
- {{ printf "--prometheus-header=%s" . | quote }}
{{- end }}
{{- if .username }}
- --prometheus-username={{ .username }}
{{- end }}
{{- if has "token" .secret.keys }}
- --prometheus-token-file={{ $path }}/token
{{- end }}
{{- if has "password" .secret.keys }}
- --prometheus-password-file={{ $path }}/password
{{- end }}
{{- if has "ca.crt" .secret.keys }}
- --prometheus-ca-file={{ $path }}/ca.crt
{{- end }}
{{- end }}
{{- end }}

{{/* Whether objects of the Prometheus operator are wanted: (list $ $wanted "PodMonitor"). Empty for no. */}}
{{- define "dynawatt.wants" -}}
{{- $root := index . 0 -}}
{{- $wanted := index . 1 -}}
{{- if kindIs "invalid" $wanted -}}
{{- if $root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" (index . 2)) }}yes{{ end -}}
{{- else if $wanted }}yes{{ end -}}
{{- end }}

{{/* Stop where values contradict each other. */}}
{{- define "dynawatt.validate" -}}
{{- $prometheus := .Values.prometheus -}}
{{- if and $prometheus.secret.keys (not $prometheus.secret.name) -}}
{{- fail "prometheus.secret.keys is set: name the Secret in prometheus.secret.name" -}}
{{- end -}}
{{- if and $prometheus.secret.name (not $prometheus.secret.keys) -}}
{{- fail "prometheus.secret.name is set: list in prometheus.secret.keys what it holds (token, password, ca.crt)" -}}
{{- end -}}
{{- if and $prometheus.secret.name (not $prometheus.url) -}}
{{- fail "prometheus.secret.name is set: give prometheus.url, too" -}}
{{- end -}}
{{- if and (has "*" .Values.operator.shapeNamespaces) (gt (len .Values.operator.shapeNamespaces) 1) -}}
{{- fail "operator.shapeNamespaces holds \"*\" and names: give one or the other" -}}
{{- end -}}
{{- if and (not .Values.crds.keep) (not .Values.uninstall.giveBack) -}}
{{- fail "crds.keep and uninstall.giveBack are both false: LLMServices would be deleted with nobody left to give back what they changed" -}}
{{- end -}}
{{- end }}
