{{/*
A service of ours: Deployment, Service, PodDisruptionBudget and autoscalers. Takes a dict:
root, component, values; module (`python -m`); env (YAML); lake (whether it touches the lake); volumes, mounts (YAML);
volume (the name of a volume of one node that its pods share).
*/}}
{{- define "mda.service" -}}
{{- $name := printf "%s-%s" (include "mda.fullname" .root) .component -}}
{{- $onVolume := and .lake (include "mda.lakeOnVolume" .root) -}}
{{- $root := .root -}}
{{- $env := printf "%s\n%s" (include "mda.serviceEnv" .root) .env -}}
{{- if .lake }}{{ $env = printf "%s\n%s" $env (include "mda.lakeEnv" .root) }}{{ end -}}
{{- $oneNode := .volume | default "" -}}
{{- if and .lake (include "mda.lakeOnOneNode" .root) }}{{ $oneNode = "lake" }}{{ end -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels:
    {{- include "mda.labels" (list .root .component) | nindent 4 }}
spec:
  # Each pod is an address: who calls chooses among them call by call. Behind one address all calls of a connection
  # would go to one pod. A pod is found before it is ready, and until it has ended: who calls looks at its health. Else
  # names would tell of a new pod seconds after it is ready, when a drain may have taken all the old ones.
  clusterIP: None
  publishNotReadyAddresses: true
  selector:
    {{- include "mda.selector" (list .root .component) | nindent 4 }}
  ports:
  - {name: grpc, port: 50051, targetPort: grpc, appProtocol: grpc}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels:
    {{- include "mda.labels" (list .root .component) | nindent 4 }}
spec:
  {{- if not .values.autoscaling }}
  replicas: {{ .values.replicas }}
  {{- else if not .values.autoscaling.enabled }}
  replicas: {{ .values.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  minReadySeconds: {{ include "mda.value" (list .root .values "minReadySeconds") | default 0 }}
  progressDeadlineSeconds: {{ include "mda.value" (list .root .values "progressDeadlineSeconds") }}
  selector:
    matchLabels:
      {{- include "mda.selector" (list .root .component) | nindent 6 }}
  strategy:
    # A new pod serves before an old one ends.
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  template:
    metadata:
      {{- include "mda.podMetadata" (dict "root" .root "component" .component "values" .values "volume" $oneNode) | nindent 6 }}
    spec:
      {{- /* As long as a drain lasts, and some seconds for closing. */}}
      {{- $grace := add $root.Values.drain.delaySeconds $root.Values.drain.graceSeconds 10 }}
      {{- include "mda.podSpec" (dict "root" .root "component" .component "values" .values "graceSeconds" $grace "volume" $oneNode) | nindent 6 }}
      containers:
      - name: {{ .component }}
        image: {{ include "mda.servicesImage" .root }}
        imagePullPolicy: {{ $root.Values.image.pullPolicy }}
        args: [{{ .module }}]
        securityContext:
          {{- include "mda.containerSecurityContext" .root | nindent 10 }}
        env:
        {{- include "mda.env" (list $env (include "mda.value" (list .root .values "extraEnv"))) | nindent 8 }}
        ports:
        - {name: grpc, containerPort: 50051}
        - {name: metrics, containerPort: 9464}
        startupProbe:
          grpc: {port: 50051}
          periodSeconds: 1
          timeoutSeconds: 2
          failureThreshold: 60
        readinessProbe:
          grpc: {port: 50051}
          periodSeconds: 3
          timeoutSeconds: 2
          failureThreshold: 2
        # Slow to judge: a busy service is not a dead one, and a restart costs its readers a reconnect.
        livenessProbe:
          grpc: {port: 50051}
          periodSeconds: 10
          timeoutSeconds: 5
          failureThreshold: 6
        resources:
          {{- toYaml .values.resources | nindent 10 }}
        volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- if $onVolume }}
        - {name: lake, mountPath: /lake}
        {{- end }}
        {{- with .mounts }}
        {{- . | nindent 8 }}
        {{- end }}
      volumes:
      - name: tmp
        emptyDir: {sizeLimit: 256Mi}
      {{- if $onVolume }}
      - name: lake
        persistentVolumeClaim: {claimName: {{ include "mda.fullname" .root }}-lake}
      {{- end }}
      {{- with .volumes }}
      {{- . | nindent 6 }}
      {{- end }}
---
{{ include "mda.scaling" . }}
{{- end -}}

{{/* PodDisruptionBudget and autoscalers of a Deployment. Takes the same dict. */}}
{{- define "mda.scaling" -}}
{{- $name := printf "%s-%s" (include "mda.fullname" .root) .component -}}
{{- $labels := include "mda.labels" (list .root .component) -}}
{{- $auto := .values.autoscaling | default (dict "enabled" false) -}}
{{- $fewest := ternary $auto.minReplicas .values.replicas $auto.enabled | int -}}
{{- if and .root.Values.podDisruptionBudget.enabled (gt $fewest 1) }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  labels:
    {{- $labels | nindent 4 }}
spec:
  maxUnavailable: 1
  # A pod that is not ready serves nobody, and need not stop a drain.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "mda.selector" (list .root .component) | nindent 6 }}
---
{{- end }}
{{- if $auto.enabled }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $name }}
  labels:
    {{- $labels | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ $name }}}
  minReplicas: {{ $auto.minReplicas }}
  maxReplicas: {{ $auto.maxReplicas }}
  metrics:
  - type: ContainerResource
    containerResource:
      name: cpu
      container: {{ .component }}
      target: {type: Utilization, averageUtilization: {{ $auto.targetCPU }}}
  {{- with $auto.metrics }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  behavior:
    # A pod that goes makes its readers reconnect: one at a time.
    scaleDown:
      policies:
      - {type: Pods, value: 1, periodSeconds: 30}
---
{{- end }}
{{- if .root.Values.verticalPodAutoscaler.enabled }}
apiVersion: autoscaling.k8s.io/v1
kind: VerticalPodAutoscaler
metadata:
  name: {{ $name }}
  labels:
    {{- $labels | nindent 4 }}
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ $name }}}
  # Recommends only: where an autoscaler adds pods by CPU, two would pull at one rope.
  updatePolicy: {updateMode: "Off"}
---
{{- end }}
{{- end -}}
