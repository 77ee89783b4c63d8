{{/* What the mesh reads on pods. */}}
{{- define "mda.meshPodLabels" -}}
{{- if eq .Values.mesh.mode "sidecar" -}}
sidecar.istio.io/inject: "true"
{{- else -}}
istio.io/dataplane-mode: ambient
istio.io/use-waypoint: {{ .Values.mesh.waypoint }}
{{- end }}
{{- end -}}

{{/* For sidecars. */}}
{{- define "mda.meshPodAnnotations" -}}
# The sidecar starts before and ends after the containers that speak by way of it.
sidecar.istio.io/nativeSidecar: "true"
# And where a cluster has no native sidecars yet:
proxy.istio.io/config: |
  holdApplicationUntilProxyStarts: true
  terminationDrainDuration: {{ add .Values.drain.delaySeconds .Values.drain.graceSeconds 5 }}s
  proxyMetadata:
    # It ends once nobody speaks by way of it: else a pod of NATS is not replaced until all that time is over.
    EXIT_ON_ZERO_ACTIVE_CONNECTIONS: "true"
    MINIMUM_DRAIN_DURATION: 1s
    {{- with .Values.mesh.certificateLifetime }}
    SECRET_TTL: {{ . }}
    {{- end }}
sidecar.istio.io/proxyCPU: {{ .Values.mesh.proxyResources.requests.cpu | quote }}
sidecar.istio.io/proxyMemory: {{ .Values.mesh.proxyResources.requests.memory | quote }}
sidecar.istio.io/proxyMemoryLimit: {{ .Values.mesh.proxyResources.limits.memory | quote }}
{{- end -}}

{{/* The principals of a component, of this release and its siblings, as the mesh proves them. Takes (list root component). */}}
{{- define "mda.principals" -}}
{{- $root := index . 0 -}}
{{- range prepend $root.Values.siblings $root.Release.Name }}
- {{ $root.Values.mesh.trustDomain }}/ns/{{ $root.Release.Namespace }}/sa/{{ include "mda.fullnameOf" (list $root .) }}-{{ index $ 1 }}
{{- end }}
{{- end -}}
