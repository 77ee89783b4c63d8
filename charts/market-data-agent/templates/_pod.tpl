{{/* What pods have in common. */}}

{{/* Pod Security "restricted". */}}
{{- define "mda.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
# Container runtimes open low ports to everybody.
sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: "1024"}]
{{- end -}}
{{- define "mda.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* A value of a workload, or of `defaults`. Takes (list root workload-values key). */}}
{{- define "mda.value" -}}
{{- $own := index . 1 -}}
{{- $key := index . 2 -}}
{{- $value := ternary (get $own $key) (get (index . 0).Values.defaults $key) (hasKey $own $key) -}}
{{- if $value }}{{ toYaml $value }}{{ end -}}
{{- end -}}

{{/* Labels and annotations of a pod. Takes (dict root component values annotations volume). */}}
{{- define "mda.podMetadata" -}}
labels:
  {{- include "mda.labels" (list .root .component) | nindent 2 }}
  {{- with .volume }}
  market-data-agent/volume: {{ $.root.Release.Name }}-{{ . }}
  {{- end }}
  {{- with include "mda.value" (list .root .values "podLabels") }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- if .root.Values.mesh.enabled }}
  {{- include "mda.meshPodLabels" .root | nindent 2 }}
  {{- end }}
annotations:
  kubectl.kubernetes.io/default-container: {{ .container | default .component }}
  {{- if and .root.Values.mesh.enabled (eq .root.Values.mesh.mode "sidecar") }}
  {{- include "mda.meshPodAnnotations" .root | nindent 2 }}
  {{- end }}
  {{- with .annotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with include "mda.value" (list .root .values "podAnnotations") }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/*
The parts of a pod's spec that all have. Takes (dict root component values graceSeconds); volume, where all pods with
that label must be on one node.
*/}}
{{- define "mda.podSpec" -}}
serviceAccountName: {{ include "mda.fullname" .root }}-{{ .account | default .component }}
# Nothing here asks the API server anything.
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .graceSeconds }}
securityContext:
  {{- include "mda.podSecurityContext" .root | nindent 2 }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "mda.value" (list .root .values "priorityClassName") }}
priorityClassName: {{ . }}
{{- end }}
{{- with include "mda.value" (list .root .values "nodeSelector") }}
nodeSelector:
  {{- . | nindent 2 }}
{{- end }}
{{- with include "mda.value" (list .root .values "tolerations") }}
tolerations:
  {{- . | nindent 2 }}
{{- end }}
{{- if .volume }}
affinity:
  podAffinity:
    # The volume is of one node, on which any number of pods may share it.
    requiredDuringSchedulingIgnoredDuringExecution:
    - topologyKey: kubernetes.io/hostname
      labelSelector:
        matchLabels:
          market-data-agent/volume: {{ .root.Release.Name }}-{{ .volume }}
{{- else }}
{{- with include "mda.value" (list .root .values "topologyKeys") }}
topologySpreadConstraints:
{{- range fromYamlArray . }}
- topologyKey: {{ . }}
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "mda.selector" (list $.root $.component) | nindent 6 }}
  # Pods of another revision are on their way out.
  matchLabelKeys: [{{ $.hashLabel | default "pod-template-hash" }}]
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Environment variables, and those that count before them. Takes (list own more), both YAML. */}}
{{- define "mda.env" -}}
{{- $more := list -}}
{{- with index . 1 }}{{ $more = fromYamlArray . }}{{ end -}}
{{- $names := list -}}
{{- range $more }}{{ $names = append $names .name }}{{ end -}}
{{- $all := list -}}
{{- range fromYamlArray (index . 0) }}
{{- if not (has .name $names) }}{{ $all = append $all . }}{{ end -}}
{{- end -}}
{{ concat $all $more | toYaml }}
{{- end -}}

{{/* Environment variables that gateway and services have in common. */}}
{{- define "mda.commonEnv" -}}
- {name: MDA_ISSUER, value: {{ .Values.issuer | quote }}}
- {name: MDA_AUDIENCE, value: {{ .Values.audience | quote }}}
- {name: MDA_REFLECTION, value: {{ .Values.reflection | quote }}}
{{- with .Values.otlpEndpoint }}
- {name: MDA_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- end -}}

{{/* Environment variables of every service. */}}
{{- define "mda.serviceEnv" -}}
{{ include "mda.commonEnv" . }}
- {name: MDA_HOST, value: 0.0.0.0}
- {name: MDA_PORT, value: "50051"}
- {name: MDA_METRICS_PORT, value: "9464"}
- {name: MDA_LOG_LEVEL, value: {{ .Values.logLevel | quote }}}
- {name: MDA_DRAIN_DELAY_S, value: {{ .Values.drain.delaySeconds | quote }}}
- {name: MDA_DRAIN_S, value: {{ .Values.drain.graceSeconds | quote }}}
- {name: MDA_AUTH_TARGET, value: {{ printf "%s-auth:50051" (include "mda.fullname" .) | quote }}}
- {name: MDA_USAGE_REPLICAS, value: {{ .Values.nats.replicas | quote }}}
- {name: MDA_NATS_URL, value: {{ include "mda.natsUrl" . | quote }}}
- name: MDA_NATS_TOKEN
  valueFrom: {secretKeyRef: {name: {{ include "mda.secretName" . }}, key: nats-token}}
{{- end -}}

{{/* Environment variables of those who read or write the lake. */}}
{{- define "mda.lakeEnv" -}}
- {name: MDA_LAKE_URI, value: {{ .Values.lake.uri | default "/lake" | quote }}}
{{- with .Values.lake.existingSecret }}
- name: MDA_LAKE_OPTIONS
  valueFrom: {secretKeyRef: {name: {{ . }}, key: lake-options}}
{{- end }}
{{- end -}}
