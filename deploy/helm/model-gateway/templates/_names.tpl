{{- define "model-gateway.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "model-gateway.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Of what serves: the test's pod has another component. */}}
{{- define "model-gateway.podSelector" -}}
{{ include "model-gateway.selector" . }}
app.kubernetes.io/component: gateway
{{- end -}}

{{- define "model-gateway.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "model-gateway.selector" . }}
app.kubernetes.io/version: {{ default .Chart.AppVersion .Values.image.tag | trunc 63 | quote }}
{{- end -}}

{{- define "model-gateway.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ printf "%s@%s" .repository .digest }}
{{- else -}}
{{ printf "%s:%s" .repository (default $.Chart.AppVersion .tag) }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "model-gateway.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "model-gateway.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{- define "model-gateway.secret" -}}
{{ default (include "model-gateway.fullname" .) .Values.secrets.name }}
{{- end -}}

{{- define "model-gateway.tlsSecret" -}}
{{ default (printf "%s-tls" (include "model-gateway.fullname" .)) .Values.tls.secretName }}
{{- end -}}

{{/* "true" where the control plane speaks TLS. */}}
{{- define "model-gateway.controlTls" -}}
{{- if and .Values.tls.enabled .Values.tls.control }}true{{ end -}}
{{- end -}}

{{- define "model-gateway.mostReplicas" -}}
{{- if .Values.autoscaling.enabled }}{{ .Values.autoscaling.maxReplicas }}{{ else }}{{ .Values.replicas }}{{ end -}}
{{- end -}}

{{/* Statuses that are callers' own doing (telemetry/outcome.py). */}}
{{- define "model-gateway.callerStatuses" -}}
cancelled|cost_limit_exceeded|invalid_request|permission_denied|rate_limited|unauthenticated|unknown_model|unknown_path|unknown_request|unsafe_prompt
{{- end -}}
