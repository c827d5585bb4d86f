{{/* What the Deployment's pods and the test's have in common. */}}

{{- define "model-gateway.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.user }}
runAsGroup: {{ .Values.user }}
fsGroup: {{ .Values.user }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "model-gateway.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "model-gateway.env" -}}
- {name: GATEWAY_ENV, value: {{ .Values.environment }}}
# The image sets these for those who mount no file; an empty one counts as not set, and gateway.yaml alone decides.
{{- range list "HOST" "CONTROL_HOST" "PORT" "HTTP_PORT" "CONTROL_PORT" "REQUIRE_KEYS" "LEDGER_PATH" }}
- {name: {{ . }}, value: ""}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Folders, never subPath: only those follow when a ConfigMap or Secret changes. */}}
{{- define "model-gateway.mounts" -}}
- {name: config, mountPath: /etc/model-gateway, readOnly: true}
{{- if ne .Values.secrets.source "none" }}
- {name: secrets, mountPath: /run/secrets/model-gateway, readOnly: true}
{{- end }}
{{- if .Values.tls.enabled }}
- {name: tls, mountPath: /run/tls/server, readOnly: true}
{{- end }}
{{- if .Values.tls.clientCa.secretName }}
- {name: client-ca, mountPath: /run/tls/clients, readOnly: true}
{{- end }}
- {name: state, mountPath: /data}
- {name: tmp, mountPath: /tmp}
{{- end -}}

{{/* 288 is 0440. */}}
{{- define "model-gateway.volumes" -}}
- name: config
  configMap: {name: {{ include "model-gateway.fullname" . }}}
{{- if ne .Values.secrets.source "none" }}
- name: secrets
  secret: {secretName: {{ include "model-gateway.secret" . }}, defaultMode: 288}
{{- end }}
{{- if .Values.tls.enabled }}
- name: tls
  secret: {secretName: {{ include "model-gateway.tlsSecret" . }}, defaultMode: 288}
{{- end }}
{{- with .Values.tls.clientCa }}
{{- if .secretName }}
- name: client-ca
  secret: {secretName: {{ .secretName }}, items: [{key: {{ .entry }}, path: {{ .entry }}}]}
{{- end }}
{{- end }}
- name: tmp
  emptyDir: {sizeLimit: 256Mi}
{{- end -}}
