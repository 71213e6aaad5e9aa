{{- define "tandem.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "tandem.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "tandem.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tandem.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The names below take a component: search (the pods for clients), encode, or test. */}}
{{- define "tandem.component" -}}
{{- $name := include "tandem.fullname" .root -}}
{{- eq .component "search" | ternary $name (printf "%s-%s" $name .component) -}}
{{- end -}}

{{- define "tandem.selector" -}}
app.kubernetes.io/name: {{ include "tandem.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "tandem.labels" -}}
{{ include "tandem.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* TANDEM_ROLE of the component's pods: all, encode or search. */}}
{{- define "tandem.role" -}}
{{- if eq .component "encode" -}} encode {{- else if .root.Values.encode.enabled -}} search {{- else -}} all {{- end -}}
{{- end -}}

{{/* The values of one component: the top level of values.yaml for search. */}}
{{- define "tandem.own" -}}
{{- eq .component "encode" | ternary .root.Values.encode .root.Values | toJson -}}
{{- end -}}

{{- define "tandem.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tandem.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "tandem.image" -}}
{{- printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}

{{- define "tandem.scheme" -}}
{{- ternary "https" "http" (not (empty .Values.tls.existingSecret)) -}}
{{- end -}}

{{/* Secrets: the existing one, or that of this release, or none. */}}
{{- define "tandem.keysSecret" -}}
{{- if .Values.apiKeys.existingSecret -}}
{{- .Values.apiKeys.existingSecret -}}
{{- else if .Values.apiKeys.values -}}
{{- printf "%s-keys" (include "tandem.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "tandem.engineSecret" -}}
{{- if .Values.milvus.token.existingSecret -}}
{{- .Values.milvus.token.existingSecret -}}
{{- else if .Values.milvus.token.value -}}
{{- printf "%s-engine" (include "tandem.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "tandem.encoderSecret" -}}
{{- if .Values.encode.apiKey.existingSecret -}}
{{- .Values.encode.apiKey.existingSecret -}}
{{- else if .Values.encode.apiKey.value -}}
{{- printf "%s-encoder" (include "tandem.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "tandem.engineAddress" -}}
{{- if .Values.milvusStandalone.enabled -}}
{{- printf "%s-milvus:19530" (.Release.Name | trunc 43 | trimSuffix "-") -}}
{{- else -}}
{{- .Values.milvus.address -}}
{{- end -}}
{{- end -}}

{{/* The port of images.endpoint, by default that of its scheme. */}}
{{- define "tandem.storePort" -}}
{{- $endpoint := .Values.images.endpoint | default "https://s3" | trimSuffix "/" -}}
{{- $port := regexFind ":[0-9]+$" $endpoint | trimPrefix ":" -}}
{{- $port | default (hasPrefix "http://" $endpoint | ternary "80" "443") -}}
{{- end -}}
