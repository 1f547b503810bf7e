{{/*
The certificate that Helm makes: {ca, crt, key}, base64. It is made once for all templates,
and taken from the Secret where there is one: an upgrade keeps it.
*/}}
{{- define "tidewaiter.selfSigned" -}}
{{- if not (hasKey .Values.certificates "made") -}}
{{- $found := lookup "v1" "Secret" .Release.Namespace .Values.certificates.secretName -}}
{{- $had := dict -}}
{{- if $found -}}{{- $had = $found.data | default dict -}}{{- end -}}
{{- $made := dict -}}
{{- if and (index $had "ca.crt") (index $had "tls.crt") (index $had "tls.key") -}}
{{- $made = dict "ca" (index $had "ca.crt") "crt" (index $had "tls.crt") "key" (index $had "tls.key") -}}
{{- else -}}
{{- $host := printf "tidewaiter.%s.svc" .Release.Namespace -}}
{{- $days := int .Values.certificates.validityDays -}}
{{- $ca := genCA "tidewaiter CA" $days -}}
{{- $pair := genSignedCert $host nil (list $host) $days $ca -}}
{{- $made = dict "ca" (b64enc $ca.Cert) "crt" (b64enc $pair.Cert) "key" (b64enc $pair.Key) -}}
{{- end -}}
{{- $_ := set .Values.certificates "made" $made -}}
{{- end -}}
{{- toYaml .Values.certificates.made -}}
{{- end }}

{{/* The CA bundle of the webhooks, base64; empty where cert-manager writes it. */}}
{{- define "tidewaiter.caBundle" -}}
{{- $source := .Values.certificates.source -}}
{{- if eq $source "selfSigned" -}}
{{- (include "tidewaiter.selfSigned" . | fromYaml).ca -}}
{{- else if eq $source "secret" -}}
{{- required "certificates.ca is empty: with source secret, give the CA that signed its certificate, as PEM" .Values.certificates.ca | b64enc -}}
{{- end -}}
{{- end }}
