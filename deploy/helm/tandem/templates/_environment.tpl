{{/* The environment of a component's container, as docs/configuration.md describes it. */}}
{{- define "tandem.environment" -}}
{{- $values := .root.Values -}}
{{- $search := eq .component "search" -}}
{{- $role := include "tandem.role" . -}}
{{- $settings := $values.settings -}}
{{- if not $search }}{{ $settings = merge (deepCopy $values.encode.settings) $values.settings }}{{ end -}}
- name: HOST
  value: "0.0.0.0"
- name: PORT
  value: "3000"
- name: HEALTH_PORT
  value: "3001"
{{- if ne $role "all" }}
- name: TANDEM_ROLE
  value: {{ $role }}
{{- end }}
{{- if $search }}
- name: VECTOR_INDEX
  value: {{ $values.vectorIndex }}
{{- if ne $values.vectorIndex "milvus" }}
- name: TANDEM_DATA_DIR
  value: /data
{{- else }}
- name: MILVUS_ADDRESS
  value: {{ include "tandem.engineAddress" .root | quote }}
{{- with include "tandem.engineSecret" .root }}
- name: MILVUS_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $values.milvus.token.secretKey }}
{{- end }}
- name: IMAGE_STORE
  value: {{ $values.images.store | default "/images" | quote }}
{{- with $values.images.endpoint }}
- name: S3_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- with $values.images.existingSecret }}
{{- range $variable := list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ $values.images.existingSecret }}
      key: {{ $variable }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if eq $role "search" }}
- name: ENCODER_URL
  value: {{ printf "%s://%s-encode:%v" (include "tandem.scheme" .root) (include "tandem.fullname" .root) $values.service.port }}
{{- end }}
{{- if and $values.gpu.enabled (ne $role "search") }}
- name: EXECUTION_PROVIDERS
  value: {{ $values.gpu.executionProviders | quote }}
- name: CUDA_VISIBLE_DEVICES
  value: {{ untilStep 0 ($values.gpu.count | int) 1 | join "," | quote }}
{{- end }}
{{- with $values.tls.existingSecret }}
- name: TLS_CERT_FILE
  value: /tls/tls.crt
- name: TLS_KEY_FILE
  value: /tls/tls.key
{{- if $values.tls.ca }}
- name: NODE_EXTRA_CA_CERTS
  value: /tls/ca.crt
{{- end }}
{{- end }}
{{- if and $values.bundle.name (ne $role "search") (not (hasKey $settings "TANDEM_MODEL")) }}
- name: TANDEM_MODEL
  value: {{ $values.bundle.name | quote }}
{{- end }}
{{- range $variable, $value := $settings }}
- name: {{ $variable }}
  value: {{ $value | quote }}
{{- end }}
{{ include "tandem.keys" . }}
{{- end -}}

{{/* The keys of clients; for an encoding pod the key of the searching pods. */}}
{{- define "tandem.keys" -}}
{{- $values := .root.Values -}}
{{- $search := eq .component "search" -}}
{{- $secret := ternary (include "tandem.keysSecret" .root) (include "tandem.encoderSecret" .root) $search -}}
{{- $file := and $search $values.apiKeys.file.existingSecret -}}
{{- if $secret -}}
- name: API_KEYS
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ ternary $values.apiKeys.secretKey $values.encode.apiKey.secretKey $search }}
{{- end }}
{{- if $file }}
- name: API_KEYS_FILE
  value: /keys/keys
{{- end }}
{{- if not (or $secret $file) }}
# Without keys and this setting the service listens only on the loopback address.
- name: TRUSTED_NETWORK
  value: "true"
{{- end }}
{{- if and $search $values.encode.enabled }}
{{- with include "tandem.encoderSecret" .root }}
- name: ENCODER_API_KEY
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $values.encode.apiKey.secretKey }}
{{- end }}
{{- end }}
{{- end -}}
