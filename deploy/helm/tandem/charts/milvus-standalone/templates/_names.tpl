{{/* The parent chart makes the same name for the address that it gives to the service. */}}
{{- define "milvus.fullname" -}}
{{- printf "%s-milvus" (.Release.Name | trunc 43 | trimSuffix "-") -}}
{{- end -}}

{{- define "milvus.selector" -}}
app.kubernetes.io/name: milvus
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "milvus.labels" -}}
{{ include "milvus.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}
