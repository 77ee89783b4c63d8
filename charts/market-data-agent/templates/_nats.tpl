{{/* The configuration of NATS. */}}
{{- define "mda.natsConfig" -}}
{{- $name := printf "%s-nats" (include "mda.fullname" .) -}}
server_name: $POD_NAME
listen: 0.0.0.0:4222
http: 0.0.0.0:8222
pid_file: /run/nats/nats.pid
# Quoted by who sets it: it may look like a number.
authorization { token: $NATS_TOKEN }
# A batch has up to 4 MiB, and columns are joined.
max_payload: 8388608
max_pending: 268435456
jetstream {
  store_dir: /data
  # It would acknowledge first, and sync within two minutes.
  sync_interval: always
  # Each tape has its size set aside; one that does not fit is refused.
  max_file_store: {{ .Values.nats.storage.size }}
}
lame_duck_grace_period: 2s
lame_duck_duration: 30s
{{- if gt (int .Values.nats.replicas) 1 }}
cluster {
  name: {{ $name }}
  listen: 0.0.0.0:6222
  # Clients find the others by the service's name; addresses of pods mean nothing to a mesh.
  no_advertise: true
  routes: [
    {{- range $number := until (int .Values.nats.replicas) }}
    nats://{{ $name }}-{{ $number }}.{{ $name }}-peers:6222
    {{- end }}
  ]
}
{{- end }}
{{- end -}}
