{{/* The pod template of a component, for a StatefulSet or a Deployment. */}}
{{- define "tandem.pod" -}}
{{- $values := .root.Values -}}
{{- $own := include "tandem.own" . | fromJson -}}
{{- $role := include "tandem.role" . -}}
{{- $search := eq .component "search" -}}
{{- $embedded := and $search (ne $values.vectorIndex "milvus") -}}
{{- $gpu := and $values.gpu.enabled (ne $role "search") -}}
{{- $image := $gpu | ternary $values.gpu.image $values.image -}}
{{- $resources := $own.resources -}}
{{- $bundle := and $values.bundle.name (ne $role "search") -}}
{{- if $gpu }}{{ $resources = merge (dict "limits" (dict $values.gpu.resource $values.gpu.count)) (deepCopy $own.resources) }}{{ end -}}
metadata:
  labels:
    {{- include "tandem.labels" . | nindent 4 }}
    {{- with $values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    {{- if or $values.apiKeys.values $values.milvus.token.value $values.encode.apiKey.value }}
    checksum/secrets: {{ list $values.apiKeys.values $values.milvus.token.value $values.encode.apiKey.value | toJson | sha256sum }}
    {{- end }}
    {{- with $values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "tandem.serviceAccount" .root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
  {{- with $values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if and $gpu $values.gpu.runtimeClassName }}
  runtimeClassName: {{ $values.gpu.runtimeClassName }}
  {{- end }}
  securityContext: {{- toYaml $values.podSecurityContext | nindent 4 }}
  {{- if and $bundle $values.bundle.image }}
  initContainers:
    - name: bundle
      image: {{ $values.bundle.image | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      command: [cp, -R, {{ printf "%s/." (trimSuffix "/" $values.bundle.imagePath) | quote }}, /copy]
      securityContext: {{- toYaml $values.securityContext | nindent 8 }}
      resources:
        requests: { cpu: 100m, memory: 64Mi, ephemeral-storage: 64Mi }
        limits: { memory: 256Mi, ephemeral-storage: {{ $values.bundle.sizeLimit }} }
      volumeMounts:
        - name: bundle
          mountPath: /copy
  {{- end }}
  containers:
    - name: tandem
      image: {{ include "tandem.image" (dict "root" .root "image" $image) | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      securityContext: {{- toYaml $values.securityContext | nindent 8 }}
      ports:
        - name: http
          containerPort: 3000
        - name: health
          containerPort: 3001
      env:
        {{- include "tandem.environment" . | nindent 8 }}
      # A pod that needs an engine or encoders elsewhere has started once it answers: those that are away are no
      # reason to start it again. One that needs nothing else has once it can serve.
      startupProbe:
        httpGet: { path: {{ or (eq $role "search") (and $search (not $embedded)) | ternary "/health/live" "/health/ready" }}, port: health }
        {{- toYaml $values.probes.startup | nindent 8 }}
      readinessProbe:
        httpGet: { path: /health/ready, port: health }
        {{- toYaml $values.probes.readiness | nindent 8 }}
      livenessProbe:
        httpGet: { path: /health/live, port: health }
        {{- toYaml $values.probes.liveness | nindent 8 }}
      {{- if $values.preStopSleepSeconds }}
      lifecycle:
        preStop:
          exec:
            command: [sleep, {{ $values.preStopSleepSeconds | quote }}]
      {{- end }}
      resources: {{- toYaml $resources | nindent 8 }}
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        {{- if $embedded }}
        - name: data
          mountPath: /data
        {{- else if and $search $values.images.existingClaim }}
        - name: images
          mountPath: /images
        {{- end }}
        {{- if $bundle }}
        # Next to the bundles of the image: a change of bundle looks there.
        - name: bundle
          mountPath: /app/models/{{ $values.bundle.name }}
          {{- if and $values.bundle.existingClaim $values.bundle.subPath }}
          subPath: {{ $values.bundle.subPath | quote }}
          {{- end }}
          readOnly: true
        {{- end }}
        {{- if $values.tls.existingSecret }}
        - name: tls
          mountPath: /tls
          readOnly: true
        {{- end }}
        {{- if and $search $values.apiKeys.file.existingSecret }}
        - name: keys
          mountPath: /keys
          readOnly: true
        {{- end }}
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: 256Mi
    {{- if and $search (not $embedded) $values.images.existingClaim }}
    - name: images
      persistentVolumeClaim:
        claimName: {{ $values.images.existingClaim }}
    {{- end }}
    {{- if $bundle }}
    - name: bundle
      {{- if $values.bundle.existingClaim }}
      persistentVolumeClaim:
        claimName: {{ $values.bundle.existingClaim }}
        readOnly: true
      {{- else }}
      emptyDir:
        sizeLimit: {{ $values.bundle.sizeLimit }}
      {{- end }}
    {{- end }}
    {{- with $values.tls.existingSecret }}
    - name: tls
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- if and $search $values.apiKeys.file.existingSecret }}
    - name: keys
      secret:
        secretName: {{ $values.apiKeys.file.existingSecret }}
        defaultMode: 0440
        items:
          - key: {{ $values.apiKeys.file.secretKey }}
            path: keys
    {{- end }}
  {{- with merge (deepCopy ($gpu | ternary $values.gpu.nodeSelector dict)) $own.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with concat $own.tolerations ($gpu | ternary $values.gpu.tolerations list) }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $own.affinity }}
  affinity: {{- toYaml $own.affinity | nindent 4 }}
  {{- else }}
  affinity:
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          podAffinityTerm:
            topologyKey: kubernetes.io/hostname
            labelSelector:
              matchLabels: {{- include "tandem.selector" . | nindent 16 }}
  {{- end }}
{{- end -}}

{{- define "tandem.deployment" -}}
{{- $own := include "tandem.own" . | fromJson -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "tandem.component" . }}
  labels: {{- include "tandem.labels" . | nindent 4 }}
spec:
  {{- if not $own.autoscaling.enabled }}
  replicas: {{ $own.replicas }}
  {{- end }}
  selector:
    matchLabels: {{- include "tandem.selector" . | nindent 6 }}
  strategy:
    type: RollingUpdate
    rollingUpdate: {{- toYaml $own.updateStrategy | nindent 6 }}
  template: {{- include "tandem.pod" . | nindent 4 }}
{{- end -}}
