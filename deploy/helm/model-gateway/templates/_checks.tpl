{{/* What cannot work, or would quietly not do what was meant, is refused here with the remedy. */}}

{{- define "model-gateway.check" -}}
{{- $config := include "model-gateway.written" . | fromYaml -}}
{{- $server := default dict $config.server -}}
{{- $ledger := default dict $config.ledger -}}
{{- include "model-gateway.checkOwned" (list $server $ledger $config) -}}
{{- include "model-gateway.checkShared" (list . $config $ledger) -}}
{{- include "model-gateway.checkSecrets" (list . $config) -}}
{{- include "model-gateway.checkTls" . -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail (printf "autoscaling.minReplicas (%v) is more than autoscaling.maxReplicas (%v)" .Values.autoscaling.minReplicas .Values.autoscaling.maxReplicas) -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (not .Values.autoscaling.cpu) (not .Values.autoscaling.inFlight) -}}
{{- fail "autoscaling looks at nothing: set autoscaling.cpu or autoscaling.inFlight" -}}
{{- end -}}
{{- if and .Values.gatewayApi.enabled (not .Values.gatewayApi.parentRefs) -}}
{{- fail "gatewayApi.parentRefs: name the Gateway, such as [{name: public, namespace: gateways}]" -}}
{{- end -}}
{{- if and .Values.ingress.grpc.enabled (not .Values.ingress.grpc.host) -}}
{{- fail "ingress.grpc.host is needed: gRPC and HTTP share their path /, not a host" -}}
{{- end -}}
{{- end -}}

{{- define "model-gateway.checkOwned" -}}
{{- $server := index . 0 }}{{ $ledger := index . 1 }}{{ $config := index . 2 -}}
{{- range $option, $value := dict "host" "address" "control_host" "address, which probes need" "port" "ports.grpc" "http_port" "ports.http" "control_port" "ports.control" "control_tls" "tls.enabled and tls.control" -}}
{{- if hasKey $server $option }}{{ fail (printf "config.server.%s is the chart's to write: set %s" $option $value) }}{{ end -}}
{{- end -}}
{{- range $option, $value := dict "cert" "tls.enabled and tls.secretName" "key" "tls.enabled and tls.secretName" "client_ca" "tls.clientCa" -}}
{{- if hasKey (default dict $server.tls) $option }}{{ fail (printf "config.server.tls.%s is the chart's to write: set %s" $option $value) }}{{ end -}}
{{- end -}}
{{- if hasKey $ledger "path" }}{{ fail "config.ledger.path is the chart's to write: what is kept is in /data, see `state`" }}{{ end -}}
{{- if hasKey $config "environment" }}{{ fail "config.environment is the chart's to write: set environment" }}{{ end -}}
{{- end -}}

{{- define "model-gateway.checkShared" -}}
{{- $root := index . 0 }}{{ $config := index . 1 }}{{ $ledger := index . 2 -}}
{{- $values := $root.Values -}}
{{- $most := int (include "model-gateway.mostReplicas" $root) -}}
{{- $kept := ne (toString (get $ledger "enabled")) "false" -}}
{{- if and (gt $most 1) (not $values.state.allowSeparate) -}}
{{- if and $kept (not (or $values.postgresql.enabled (get $ledger "url"))) -}}
{{- fail (printf "%d replicas without PostgreSQL: each would keep a ledger of its own, so that budgets, callers' keys and idempotency keys would not hold over all of them. Set postgresql.enabled=true with its URL in the Secret; or replicas=1 (autoscaling.enabled=false); or, if that is what you want, state.allowSeparate=true" $most) -}}
{{- end -}}
{{- if not (or (and (ne $values.secrets.source "none") $values.secrets.entries.keySecret) (get $config "key_secret")) -}}
{{- fail (printf "%d replicas need the same secret that seals callers' keys, else a key made at one is unknown to the others: set secrets.entries.keySecret, or config.key_secret" $most) -}}
{{- end -}}
{{- end -}}
{{- if and (gt $most 1) $values.state.persistent -}}
{{- fail (printf "state.persistent is for one replica, and there are %d: a volume is mounted by one pod. With postgresql.enabled nothing else must be kept" $most) -}}
{{- end -}}
{{- end -}}

{{- define "model-gateway.checkSecrets" -}}
{{- $root := index . 0 }}{{ $config := index . 1 -}}
{{- $secrets := $root.Values.secrets }}{{ $entries := $secrets.entries -}}
{{- $needed := dict -}}
{{- if $root.Values.postgresql.enabled }}{{ $_ := set $needed "database" "postgresql.enabled" }}{{ end -}}
{{- if $root.Values.redis.enabled }}{{ $_ := set $needed "redis" "redis.enabled" }}{{ end -}}
{{- range $entry, $reason := $needed -}}
{{- if eq $secrets.source "none" }}{{ fail (printf "%s needs a Secret with its URL: set secrets.source to existing, values or external" $reason) }}{{ end -}}
{{- if not (get $entries $entry) }}{{ fail (printf "%s needs the name of the Secret's entry with its URL: set secrets.entries.%s" $reason $entry) }}{{ end -}}
{{- end -}}
{{- if and (eq $secrets.source "none") $entries.providers }}{{ fail "secrets.entries.providers needs a Secret: set secrets.source to existing, values or external" }}{{ end -}}
{{- if eq $secrets.source "values" -}}
{{- $wanted := values $entries.providers -}}
{{- range $entry := list "keySecret" "adminToken" }}{{ with get $entries $entry }}{{ $wanted = append $wanted . }}{{ end }}{{ end -}}
{{- range $entry, $_ := $needed }}{{ $wanted = append $wanted (get $entries $entry) }}{{ end -}}
{{- range $wanted }}{{ if not (get $secrets.values .) }}{{ fail (printf "secrets.values.%s is missing: the Secret must have this entry, or secrets.entries must not name it" .) }}{{ end }}{{ end -}}
{{- end -}}
{{- if eq $secrets.source "external" -}}
{{- if not $secrets.external.store.name }}{{ fail "secrets.external.store.name: name the SecretStore or ClusterSecretStore" }}{{ end -}}
{{- if not (or $secrets.external.from $secrets.external.entries) }}{{ fail "secrets.external brings nothing: set secrets.external.from or secrets.external.entries" }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "model-gateway.checkTls" -}}
{{- with .Values.tls -}}
{{- if and .enabled (not .secretName) (not .certManager.enabled) }}{{ fail "tls.enabled needs a certificate: set tls.secretName, or tls.certManager.enabled" }}{{ end -}}
{{- if and .clientCa.secretName (not .enabled) }}{{ fail "tls.clientCa needs tls.enabled" }}{{ end -}}
{{- if and .certManager.enabled (not .enabled) }}{{ fail "tls.certManager.enabled needs tls.enabled" }}{{ end -}}
{{- if and .certManager.enabled (not .certManager.issuer.name) }}{{ fail "tls.certManager.issuer.name: name the issuer" }}{{ end -}}
{{- if and .enabled $.Values.probes.grpcReadiness }}{{ fail "probes.grpcReadiness: the kubelet speaks no TLS to gRPC; leave it false, and /health/ready is asked" }}{{ end -}}
{{- end -}}
{{- end -}}
