{{/*
gateway.yaml: what the user wrote under `config`, and what the chart knows. Sections that both write are read in either
spelling and written in snake_case, so that no option stands there twice.
*/}}

{{/* The section $name of $config, as YAML in snake_case; one level further down as well where $deep names it. */}}
{{- define "model-gateway.section" -}}
{{- $section := dict -}}
{{- range $key, $value := default dict (get .config .name) -}}
{{- $key = snakecase $key -}}
{{- if and (has $key $.deep) (kindIs "map" $value) -}}
{{- $inner := dict -}}
{{- range $name, $each := $value }}{{ $_ := set $inner (snakecase $name) $each }}{{ end -}}
{{- $value = $inner -}}
{{- end -}}
{{- $_ := set $section $key $value -}}
{{- end -}}
{{- toYaml $section -}}
{{- end -}}

{{- define "model-gateway.written" -}}
{{- $written := dict -}}
{{- range $key, $value := .Values.config }}{{ $_ := set $written (snakecase $key) $value }}{{ end -}}
{{- range $name, $deep := dict "server" (list "tls" "control_tls" "grpc") "ledger" list "limits" list "budgets" list "cache" (list "redis") "monitoring" list -}}
{{- if hasKey $written $name -}}
{{- if not (kindIs "map" (get $written $name)) }}{{ fail (printf "config.%s must be a section, such as config.%s: {…}" $name $name) }}{{ end -}}
{{- $_ := set $written $name (include "model-gateway.section" (dict "config" $written "name" $name "deep" $deep) | fromYaml) -}}
{{- end -}}
{{- end -}}
{{- toYaml $written -}}
{{- end -}}

{{- define "model-gateway.config" -}}
{{- $config := include "model-gateway.written" . | fromYaml -}}
{{- $files := "file:/run/secrets/model-gateway" -}}
{{- $entries := .Values.secrets.entries -}}
{{- $secret := ne .Values.secrets.source "none" -}}
{{- $most := int (include "model-gateway.mostReplicas" .) -}}
{{- $server := default dict $config.server -}}
{{- $open := or $config.keys .Values.tls.clientCa.secretName (get $server "allow_anonymous") -}}
{{- $own := dict "host" .Values.address "control_host" .Values.address "port" .Values.ports.grpc "http_port" .Values.ports.http "control_port" .Values.ports.control -}}
{{- if not (or $open (hasKey $server "require_keys")) }}{{ $_ := set $own "require_keys" true }}{{ end -}}
{{- if and $secret $entries.adminToken }}{{ $_ := set $own "admin_token" (printf "%s/%s" $files $entries.adminToken) }}{{ end -}}
{{- if .Values.tls.enabled -}}
{{- $pair := dict "cert" "/run/tls/server/tls.crt" "key" "/run/tls/server/tls.key" -}}
{{- if .Values.tls.control }}{{ $_ := set $own "control_tls" (deepCopy $pair) }}{{ end -}}
{{- with .Values.tls.clientCa }}{{ if .secretName }}{{ $_ := set $pair "client_ca" (printf "/run/tls/clients/%s" .entry) }}{{ end }}{{ end -}}
{{- $_ := set $own "tls" $pair -}}
{{- end -}}
{{- $ledger := dict "path" "/data/ledger.db" -}}
{{- if .Values.postgresql.enabled }}{{ $_ := set $ledger "url" (printf "%s/%s" $files $entries.database) }}{{ end -}}
{{- $chart := dict "version" 1 "server" $own "ledger" $ledger -}}
{{- if and $secret $entries.keySecret }}{{ $_ := set $chart "key_secret" (printf "%s/%s" $files $entries.keySecret) }}{{ end -}}
{{- if .Values.redis.enabled }}{{ $_ := set $chart "cache" (dict "redis" (dict "url" (printf "%s/%s" $files $entries.redis))) }}{{ end -}}
{{- if gt $most 1 -}}
{{- $workers := get $server "workers" -}}
{{- $processes := 1 -}}
{{- if and $workers (not (kindIs "string" $workers)) }}{{ $processes = int $workers }}{{ end -}}
{{- $_ := set $chart "limits" (dict "instances" $most) -}}
{{- $_ := set $chart "budgets" (dict "instances" (mul $most $processes)) -}}
{{- end -}}
{{- $providers := dict -}}
{{- range $provider, $entry := $entries.providers }}{{ $_ := set $providers $provider (dict "api_key" (printf "%s/%s" $files $entry)) }}{{ end -}}
{{- if $providers }}{{ $_ := set $chart "providers" $providers }}{{ end -}}
{{- toYaml (mergeOverwrite $chart $config) -}}
{{- end -}}

{{/* What counts from the next start only (config/changes.py): when one of these differs the pods are replaced. */}}
{{- define "model-gateway.atStart" -}}
server.host server.port server.http_port server.control_host server.control_port server.admin_token server.workers server.grpc server.tls server.control_tls ledger key_secret limits.store limits.when_unavailable limits.instances cache.redis monitoring.enabled
{{- end -}}

{{- define "model-gateway.startChecksum" -}}
{{- $config := include "model-gateway.config" . | fromYaml -}}
{{- $found := dict -}}
{{- range $path := splitList " " (include "model-gateway.atStart" .) -}}
{{- $keys := splitList "." $path -}}
{{- $holder := $config -}}
{{- if gt (len $keys) 1 }}{{ $holder = default dict (get $config (first $keys)) }}{{ end -}}
{{- if hasKey $holder (last $keys) }}{{ $_ := set $found $path (get $holder (last $keys)) }}{{ end -}}
{{- end -}}
{{- if eq .Values.secrets.source "values" -}}
{{- $entries := .Values.secrets.entries -}}
{{- range $entry := list $entries.database $entries.redis $entries.keySecret $entries.adminToken -}}
{{- $_ := set $found (printf "secret %s" $entry) (get $.Values.secrets.values $entry) -}}
{{- end -}}
{{- end -}}
{{- toJson $found | sha256sum -}}
{{- end -}}

{{- define "model-gateway.graceSeconds" -}}
{{- $config := include "model-gateway.written" . | fromYaml -}}
{{- $millis := default 30000 (get (default dict $config.server) "shutdown_grace") -}}
{{- add .Values.shutdown.preStopSeconds (ceil (divf $millis 1000)) .Values.shutdown.reserveSeconds -}}
{{- end -}}

{{- define "model-gateway.timeoutSeconds" -}}
{{- $config := include "model-gateway.written" . | fromYaml -}}
{{- ceil (divf (default 600000 (get (default dict $config.server) "timeout")) 1000) -}}
{{- end -}}
