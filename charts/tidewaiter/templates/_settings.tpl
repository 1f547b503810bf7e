{{/* The settings file: the user's, and over it what the chart itself lays out. */}}
{{- define "tidewaiter.settings" -}}
{{- $laid := dict "port" 8443 "healthPort" 8080 "service" "tidewaiter" "namespace" .Release.Namespace "certificate" "tls/tls.crt" "key" "tls/tls.key" -}}
{{- toYaml (mergeOverwrite (deepCopy .Values.settings) (dict "server" $laid)) -}}
{{- end }}

{{- define "tidewaiter.drainSeconds" -}}
{{- $server := .Values.settings.server | default dict -}}
{{- $server.drainSeconds | default (.Files.Get "files/defaults.yaml" | fromYaml).drainSeconds -}}
{{- end }}
