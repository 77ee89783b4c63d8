{{/* Names, labels and images. */}}

{{- define "mda.fullname" -}}
{{- include "mda.nameOf" (.Values.fullnameOverride | default .Release.Name | list (ne .Values.fullnameOverride "")) -}}
{{- end -}}

{{/* What a release's objects are called. Takes (list as-it-is name). */}}
{{- define "mda.nameOf" -}}
{{- $name := index . 1 -}}
{{- if not (or (index . 0) (contains "mda" $name)) }}{{ $name = printf "%s-mda" $name }}{{ end -}}
{{- /* Pods' names have 63 characters, and ours add up to 24. */ -}}
{{- $name | trunc 38 | trimSuffix "-" -}}
{{- end -}}

{{/* What the objects of a release are called: of this one, or of a sibling. Takes (list root release). */}}
{{- define "mda.fullnameOf" -}}
{{- $root := index . 0 -}}
{{- if eq (index . 1) $root.Release.Name -}}
{{ include "mda.fullname" $root }}
{{- else -}}
{{ include "mda.nameOf" (list false (index . 1)) }}
{{- end -}}
{{- end -}}

{{/* Labels by which a component's pods are found. Takes (list root component). */}}
{{- define "mda.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of an object. Takes (list root component). */}}
{{- define "mda.labels" -}}
{{- $root := index . 0 -}}
{{ include "mda.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: market-data-agent
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An image's full name. Takes (list image default-tag). */}}
{{- define "mda.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (index . 1) }}
{{- end -}}
{{- end -}}

{{- define "mda.servicesImage" -}}
{{ include "mda.image" (list .Values.image .Chart.AppVersion) }}
{{- end -}}

{{- define "mda.secretName" -}}
{{ .Values.secrets.existingSecret | default (printf "%s-keys" (include "mda.fullname" .)) }}
{{- end -}}

{{- define "mda.tlsSecretName" -}}
{{ .Values.gateway.tls.existingSecret | default (printf "%s-gateway-tls" (include "mda.fullname" .)) }}
{{- end -}}

{{- define "mda.natsUrl" -}}
{{- if .Values.nats.enabled -}}
nats://{{ include "mda.fullname" . }}-nats:4222
{{- else -}}
{{ .Values.nats.url }}
{{- end -}}
{{- end -}}

{{/* Whether the lake is a folder on a volume, and whether that is bound to one node. */}}
{{- define "mda.lakeOnVolume" -}}
{{- if not .Values.lake.uri }}true{{ end -}}
{{- end -}}
{{- define "mda.lakeOnOneNode" -}}
{{- if and (not .Values.lake.uri) (eq .Values.lake.volume.accessMode "ReadWriteOnce") }}true{{ end -}}
{{- end -}}

{{/* The services that this release runs, as a JSON array. */}}
{{- define "mda.services" -}}
{{- $names := list -}}
{{- if .Values.services.enabled }}{{ $names = list "auth" "ingestion" "query" "archive" }}{{ end -}}
{{- if and .Values.services.enabled .Values.queryHistory.enabled }}{{ $names = append $names "query-history" }}{{ end -}}
{{ toJson $names }}
{{- end -}}

{{/* A component's pods, of this release and its siblings, in a network policy. Takes (list root component). */}}
{{- define "mda.peer" -}}
{{- $root := index . 0 -}}
- podSelector:
    {{- if $root.Values.siblings }}
    matchLabels:
      app.kubernetes.io/name: {{ $root.Chart.Name }}
      app.kubernetes.io/component: {{ index . 1 }}
    matchExpressions:
    - {key: app.kubernetes.io/instance, operator: In, values: {{ prepend $root.Values.siblings $root.Release.Name | toJson }}}
    {{- else }}
    matchLabels:
      {{- include "mda.selector" . | nindent 6 }}
    {{- end }}
{{- end -}}
