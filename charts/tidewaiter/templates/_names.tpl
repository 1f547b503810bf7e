{{/* One installation in a cluster: webhooks, roles and resource definitions are the cluster's. */}}
{{- define "tidewaiter.selector" -}}
app.kubernetes.io/name: tidewaiter
app.kubernetes.io/component: webhook
{{- end }}

{{- define "tidewaiter.labels" -}}
app.kubernetes.io/name: tidewaiter
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "tidewaiter.image" -}}
{{- $repository := required "image.repository is empty: name the image that you built; none is published" .Values.image.repository -}}
{{- if not (or .Values.image.tag .Values.image.digest) -}}
{{- fail "image.tag and image.digest are both empty: give image.digest (sha256:...)" -}}
{{- end -}}
{{- $repository -}}
{{- with .Values.image.tag }}:{{ . }}{{ end -}}
{{- with .Values.image.digest }}@{{ . }}{{ end -}}
{{- end }}

{{/* JSON of the environments' names: those of the settings, else the service's defaults. */}}
{{- define "tidewaiter.environments" -}}
{{- $named := .Values.settings.environments | default dict | keys | sortAlpha -}}
{{- $named | default (.Files.Get "files/defaults.yaml" | fromYaml).environments | toJson -}}
{{- end }}
